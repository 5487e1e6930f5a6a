"""Codebooks: averages against their closed forms, and gradients against matrices."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.autograd.functional import jacobian

from skgen._networks.codebooks import (
    DEAD_SHARE,
    CodeAverages,
    code_sums,
    follow,
    k_means_codes,
    pick,
    revive,
    rotated,
    straight_through,
)
from tests.toys import codebook, generator, normal, uniform

pytestmark = pytest.mark.usefixtures("guarded_generators")

K, C = 4, 3
CODES, VECTORS = normal(K, C, seed=1), normal(200, C, seed=2)


def unknown(vectors: Any = CODES) -> Any:
    """A codebook that has seen nothing."""
    return CodeAverages(vectors, vectors.new_zeros(K), vectors.new_zeros(()))


def codes(distance: str = "euclidean", vectors: Tensor = CODES) -> Any:
    return codebook(vectors.clone(), distance)


def batch(z: Tensor = VECTORS, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return code_sums(z, codes().nearest(z), weight, K)


def means_of(counts: Tensor, sums: Tensor) -> Tensor:
    return sums / counts[:, None]


# What is nearest.


def test_distances_are_those_of_torch() -> None:
    z = normal(2, 5, C, seed=3)
    expected = torch.cdist(z, CODES) ** 2
    torch.testing.assert_close(codes().distances(z), expected)
    assert codes().nearest(z).equal(expected.argmin(-1))


def test_cosine_distances_are_twice_one_minus_the_cosine() -> None:
    z = normal(2, 5, C, seed=3)
    cosine = torch.cosine_similarity(z[..., None, :], CODES, dim=-1)
    torch.testing.assert_close(codes("cosine").distances(z), 2 - 2 * cosine)


def test_cosine_sees_no_lengths() -> None:
    z, lengths = normal(50, C, seed=3), normal(50, 1, seed=4).exp()
    book = codes("cosine")
    longer = codes("cosine", CODES * normal(K, 1, seed=5).exp())
    tokens = book.nearest(z)
    assert tokens.equal(book.nearest(lengths * z))
    assert tokens.equal(longer.nearest(z))
    torch.testing.assert_close(book(tokens), longer(tokens))
    torch.testing.assert_close(book(tokens).norm(dim=-1), torch.ones(50).double())


def test_tokens_look_up_their_vectors() -> None:
    tokens = torch.tensor([[0, 3], [2, 2]])
    assert codes()(tokens).equal(CODES[tokens])


# Averages.


def test_counts_and_sums_are_those_of_the_vectors() -> None:
    tokens, weight = codes().nearest(VECTORS), uniform(200, seed=3)
    counts, sums = batch(weight=weight)
    for k in range(K):
        mine = tokens == k
        torch.testing.assert_close(counts[k], weight[mine].sum())
        torch.testing.assert_close(sums[k], weight[mine] @ VECTORS[mine])


def test_the_first_step_gives_the_means_of_its_batch() -> None:
    counts, sums = batch()
    state = follow(unknown(), counts, sums)
    torch.testing.assert_close(state.vectors, means_of(counts, sums))
    torch.testing.assert_close(state.usage, counts / 200)


def test_averages_are_those_of_counts_and_sums() -> None:
    # The textbook's state: averages of counts and of sums, from zero.
    state, N, m, mass = unknown(), torch.zeros(K), torch.zeros(K, C), 0.0
    for seed in range(10):
        counts, sums = batch(normal(100, C, seed=seed))
        state = follow(state, counts, sums, 0.8)
        N, m = 0.8 * N + 0.2 * counts, 0.8 * m + 0.2 * sums
        mass = 0.8 * mass + 0.2
        torch.testing.assert_close(state.vectors, m / N[:, None])
        torch.testing.assert_close(state.usage, N / mass / 100)
        assert state.usage.sum().item() == pytest.approx(1, abs=1e-12)


def test_equal_batches_lead_to_their_means() -> None:
    start = follow(unknown(), *batch(normal(50, C, seed=9)))
    counts, sums = batch()
    state = start
    for step in range(1, 601):
        state = follow(state, counts, sums, 0.95)
        if step == 10:
            assert (state.vectors - means_of(counts, sums)).abs().max() > 1e-3
    torch.testing.assert_close(
        state.vectors, means_of(counts, sums), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(state.usage, counts / 200, atol=1e-12, rtol=0)


def test_without_a_past_a_step_is_lloyds() -> None:
    one = KMeans(K, init=CODES.numpy(), n_init=1, max_iter=1, tol=0, algorithm="lloyd")
    one.fit(VECTORS.numpy())
    state = follow(follow(unknown(), *batch(normal(50, C))), *batch(), decay=0.0)
    again = follow(unknown(), *batch(), decay=0.0)
    expected = torch.from_numpy(one.cluster_centers_)
    torch.testing.assert_close(again.vectors, expected)
    torch.testing.assert_close(state.vectors, expected)


def test_codes_without_vectors_stay() -> None:
    counts, sums = torch.tensor([3.0, 0.0, 1.0, 0.0]).double(), normal(K, C, seed=6)
    sums[1] = sums[3] = 0
    state = follow(unknown(), counts, sums)
    assert state.vectors[[1, 3]].equal(CODES[[1, 3]])
    moved = state
    for _ in range(100):
        moved = follow(moved, torch.zeros(K).double(), torch.zeros(K, C).double())
    assert moved.vectors.equal(state.vectors)
    assert moved.vectors.isfinite().all()


def test_a_weight_of_two_is_a_vector_given_twice() -> None:
    weight = torch.ones(200).double()
    weight[:50] = 2
    for one, two in zip(
        batch(weight=weight), batch(torch.cat([VECTORS, VECTORS[:50]]))
    ):
        torch.testing.assert_close(one, two)


def test_the_scale_of_weights_is_no_matter() -> None:
    counts, sums = batch()
    state, more = unknown(), unknown()
    for factor in (3.0, 0.1, 7.0):
        state, more = (
            follow(state, counts, sums),
            follow(more, factor * counts, factor * sums),
        )
    for one, two in zip(state, more):
        torch.testing.assert_close(one, two)


# Dead codes.


def used(shares: Any, mass: Any = 1.0) -> Any:
    shares = torch.tensor(shares, dtype=torch.float64)
    return CodeAverages(CODES, shares * mass, torch.tensor(mass, dtype=torch.float64))


def test_dead_codes_start_anew_and_others_stay() -> None:
    low = DEAD_SHARE / K
    state = used([0.6, 0.99 * low, 1.01 * low, 0.0], mass=0.8)
    fresh = normal(K, C, seed=7)
    revived = revive(state, fresh)
    for k, is_dead in enumerate([False, True, False, True]):
        source = fresh if is_dead else CODES
        assert revived.vectors[k].equal(source[k])
        expected = 1 / K if is_dead else state.usage[k].item()
        assert revived.usage[k].item() == pytest.approx(expected)
    # Nothing is dead any more.
    assert revive(revived, normal(K, C, seed=8)).vectors.equal(revived.vectors)


def test_a_short_past_kills_nothing() -> None:
    state = used([1.0, 0.0, 0.0, 0.0], mass=0.3)
    assert revive(state, normal(K, C, seed=7)).vectors.equal(CODES)


def test_revived_codes_are_nearest_to_the_vectors_they_were_put_on() -> None:
    fresh = pick(VECTORS, uniform(K, seed=3))
    revived = revive(used([1.0, 0.0, 0.0, 0.0]), fresh)
    book = codes()
    book.set_averages(revived)
    assert book.nearest(fresh)[1:].tolist() == [1, 2, 3]
    # And a step later they are means of what is nearest to them, at once in part.
    after = follow(revived, *code_sums(VECTORS, book.nearest(VECTORS), None, K))
    assert (after.vectors != revived.vectors).all()
    assert (after.usage[1:] > 0.9 / K).all()


def test_picks_are_vectors_of_the_batch_and_reach_its_ends() -> None:
    ends = torch.tensor([0.0, 0.5, 1 - 2**-24], dtype=torch.float32)
    z = normal(7, C, dtype=torch.float32)
    assert pick(z, ends).equal(z[[0, 3, 6]])


def test_unused_codes_come_to_life() -> None:
    # Far codes are nearest to nothing; with revival all are used alike before long.
    vectors = CODES + torch.tensor([[0.0], [100.0], [100.0], [100.0]])
    book, noise = codes(vectors=vectors), uniform(300, K, seed=4)
    for step in range(300):
        z = normal(100, C, seed=step)
        state = follow(book.averages, *code_sums(z, book.nearest(z), None, K), 0.9)
        book.set_averages(revive(state, pick(z, noise[step])))
    assert (book.averages.usage > 0.1).all()
    assert book.vectors.norm(dim=1).max() < 5


# Starts.


def test_the_start_is_that_of_k_means() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]).double()
    z = centres.repeat(100, 1) + 0.01 * normal(300, 2, seed=3)
    codes = k_means_codes(z, 3, generator())
    found = torch.cdist(centres, codes).min(1)
    assert found.indices.unique().numel() == 3
    assert found.values.max() < 0.03


def test_a_seed_gives_one_start() -> None:
    first, again = (k_means_codes(VECTORS, K, generator(3)) for _ in range(2))
    assert first.equal(again)
    assert not first.equal(k_means_codes(VECTORS, K, generator(4)))


@pytest.mark.parametrize("z", [VECTORS[:3], VECTORS[:1].repeat(5, 1) + 0.0])
def test_few_vectors_start_many_codes(z: Tensor) -> None:
    codes = k_means_codes(torch.cat([z, z + 1]), 20, generator())
    assert codes.shape == (20, C)
    assert len(codes.unique(dim=0)) == 20


def test_a_start_forgets_the_averages() -> None:
    book = codes("cosine")
    book.set_averages(used([0.7, 0.1, 0.1, 0.1]))
    book.start(VECTORS, generator())
    assert book.averages.usage.tolist() == [0, 0, 0, 0]
    assert book.mass == 0
    torch.testing.assert_close(book.vectors.norm(dim=1), torch.ones(K).double())


# Gradients.


def rotation(u: Tensor, v: Tensor) -> Tensor:
    """The rotation of the plane of u and v that takes u to v; unit vectors."""
    cosine, sine = u @ v, (1 - (u @ v) ** 2).sqrt()
    w = (v - cosine * u) / sine
    turn = (cosine - 1) * (u.outer(u) + w.outer(w)) + sine * (w.outer(u) - u.outer(w))
    return torch.eye(len(u), dtype=u.dtype) + turn


@pytest.mark.parametrize("gradient", [straight_through, rotated])
def test_values_are_the_codes(gradient: Callable[..., Any]) -> None:
    z, e = normal(50, C, seed=3), normal(50, C, seed=4)
    torch.testing.assert_close(gradient(z, e), e, atol=1e-15, rtol=1e-14)


def test_straight_through_copies() -> None:
    z, e = normal(2, C, seed=3)
    assert jacobian(lambda z: straight_through(z, e), z).equal(torch.eye(C).double())


@pytest.mark.parametrize("seed", range(5))
def test_the_rotation_trick_turns_and_scales(seed: int) -> None:
    z, e = normal(2, C, seed=seed)
    R = rotation(z / z.norm(), e / e.norm())
    torch.testing.assert_close(R @ R.T, torch.eye(C).double())
    expected = e.norm() / z.norm() * R
    torch.testing.assert_close(expected @ z, e)
    torch.testing.assert_close(jacobian(lambda z: rotated(z, e), z), expected)


def test_a_code_in_the_same_direction_scales_alone() -> None:
    z = normal(C, seed=3)
    torch.testing.assert_close(
        jacobian(lambda z: rotated(z, 2.5 * z.detach()), z), 2.5 * torch.eye(C).double()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_nothing_can_be_turned_the_gradient_is_copied(dtype: torch.dtype) -> None:
    z = normal(C, seed=3, dtype=dtype)
    cases = [(0 * z, z), (z, -2 * z), (1e-30 * z, z), (0 * z, 0 * z)]
    for start, code in cases:
        assert rotated(start, code).equal(code)
        matrix = jacobian(lambda start, code=code: rotated(start, code), start)
        assert matrix.equal(torch.eye(C, dtype=dtype))


def test_no_gradient_reaches_the_codes() -> None:
    z, e = normal(2, 5, C, seed=3)
    e.requires_grad_()
    for gradient in (straight_through, rotated):
        value = gradient(z.clone().requires_grad_(), e).sum()
        assert torch.autograd.grad(value, e, allow_unused=True) == (None,)


def test_rotated_gradients_keep_their_angle_to_the_code() -> None:
    z, e, g = normal(3, C, seed=3)
    back = g @ jacobian(lambda z: rotated(z, e), z)
    at_code = torch.cosine_similarity(g, e, dim=0)
    at_vector = torch.cosine_similarity(back, z, dim=0)
    assert math.isclose(at_code, at_vector, rel_tol=1e-12)
