"""Networks for images: shapes, the order of rows, what sees what, and errors."""

import copy
import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skgen import VAE, VQVAE
from skgen._networks.dense import ACTIVATIONS, build_network
from skgen._networks.images import ImageNetworks, check_image_shape, grid_shape
from skgen._utils.tensors import forked_rng
from tests.toys import generator, normal

pytestmark = pytest.mark.usefixtures("guarded_generators")

SHAPES = [(8, 8, 1), (9, 13, 1), (28, 28, 1), (128, 96, 3)]
KINDS = ["encoder", "decoder", "grid_encoder", "grid_decoder"]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
kinds = pytest.mark.parametrize("kind", KINDS)
N_CODE, N_EACH = 3, 2  # widths of a code or token; outputs of a decoder for a feature


def build(
    kind: str, shape: tuple[Any, ...], channels: int = 4, **settings: Any
) -> tuple[Any, tuple[int, int]]:
    """Make a network, and give its widths."""
    height, width, C = shape
    n_image, n_places = height * width * C, np.prod(grid_shape(height, width))
    n_code = N_CODE * int(n_places) if kind.startswith("grid") else N_CODE
    widths = (n_image, n_code)
    if kind.endswith("decoder"):
        widths = (n_code, N_EACH * n_image)
    factory = getattr(ImageNetworks(height, width, channels, **settings), kind)
    with forked_rng(0):
        return factory(*widths), widths


def convolutions(network: Any) -> list[Any]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


# Shapes, dtypes, rows.


@shapes
@kinds
def test_rows_become_rows(kind: str, shape: Any) -> None:
    # In both dtypes, alone as beside another row, and without changing the input.
    network, widths = build(kind, shape)
    build_network(network, cast(Any, None), *widths, kind)
    assert network(torch.zeros(0, widths[0])).shape == (0, widths[1])


@shapes
@kinds
def test_both_dtypes_agree(kind: str, shape: tuple[Any, ...]) -> None:
    network, (n_inputs, _) = build(kind, shape)
    x = normal(2, n_inputs)
    wide = copy.deepcopy(network).double()(x)
    torch.testing.assert_close(network(x.float()).double(), wide, rtol=1e-4, atol=1e-5)


@kinds
def test_rows_do_not_see_each_other(kind: str) -> None:
    network, (n_inputs, _) = build(kind, (9, 13, 2))
    x = normal(5, n_inputs)
    together = network.double()(x)
    alone = torch.cat([network(row[None]) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((8, 8), (4, 4)),
        ((9, 13), (5, 7)),
        ((16, 16), (8, 8)),
        ((17, 8), (5, 2)),
        ((28, 28), (7, 7)),
        ((32, 32), (8, 8)),
        ((128, 96), (8, 6)),
        ((128, 8), (8, 1)),
    ],
)
def test_an_image_is_halved_until_no_side_is_above_eight(
    size: tuple[Any, ...], grid: tuple[Any, ...]
) -> None:
    assert grid_shape(*size) == grid
    network, _ = build("grid_encoder", (*size, 1), channels=1)
    assert network[:-1](torch.zeros(1, size[0] * size[1])).shape[2:] == grid


def test_channels_double_up_to_four_times() -> None:
    network, _ = build("encoder", (128, 8, 1), channels=3)
    halvings = [m for m in convolutions(network) if m.stride == (2, 2)]
    assert [m.out_channels for m in halvings] == [3, 6, 12, 12]


@pytest.mark.parametrize(("side", "n_levels"), [(8, 1), (28, 1), (64, 2)])
@pytest.mark.parametrize("n_blocks", [0, 1, 2])
@kinds
def test_there_are_residual_blocks_below_half_size_or_at_the_grid(
    kind: str, n_blocks: int, side: int, n_levels: int
) -> None:
    network, _ = build(kind, (side, side, 1), n_blocks=n_blocks)
    blocks = [m for m in network if hasattr(m, "branch")]
    assert len(blocks) == n_blocks * n_levels
    for block in blocks:
        nn.init.zeros_(block.branch[-1].weight)
        x = normal(1, block.branch[-1].out_channels, 3, 3, dtype=torch.float32)
        assert block(x).equal(x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@kinds
def test_the_activation_is_the_one_named(kind: str, activation: str) -> None:
    network, _ = build(kind, (17, 17, 1), activation=activation)
    found = {type(m) for m in network.modules()} & {*ACTIVATIONS.values()}
    assert found == {ACTIVATIONS[activation]}


# Which features are neighbours. Sides of 31 and 23 are halved twice, and rounded up:
# the grid has 8 times 6 places, each of which begins four pixels after the one before.

SHAPE = (31, 23, 3)
pixels = pytest.mark.parametrize("pixel", [(0, 0), (17, 5), (9, 22)], ids=str)


def places_seen_by_pixel(at: int, n_places: int) -> list[Any]:
    """Read off the places whose tokens a pixel enters, along one side."""
    return [abs(at - 4 * place) <= 7 for place in range(n_places)]


def places_behind_pixel(at: int, n_places: int) -> list[Any]:
    """Read off the places whose tokens enter a pixel, along one side."""
    low, high = (at // 2 - 1) // 2 - 2, (at // 2 + 1) // 2 + 2
    return [low <= place <= high for place in range(n_places)]


@pixels
@pytest.mark.parametrize("channel", range(3))
def test_features_of_an_encoder_are_height_width_channel(
    pixel: tuple[Any, ...], channel: int
) -> None:
    network, (n_inputs, _) = build("grid_encoder", SHAPE, activation="softplus")
    network, x = network.double(), normal(1, n_inputs)
    changed = x.clone().view(1, *SHAPE)
    changed[(0, *pixel, channel)] += 1
    tokens = (network(changed.flatten(1)) != network(x)).view(8, 6, N_CODE)
    assert tokens.any(2).equal(tokens.all(2))
    rows = places_seen_by_pixel(pixel[0], 8)
    columns = places_seen_by_pixel(pixel[1], 6)
    assert tokens.any(2).tolist() == [[r and c for c in columns] for r in rows]


@pixels
def test_features_of_a_decoder_are_height_width_channel(pixel: tuple[Any, ...]) -> None:
    network, (n_inputs, _) = build("grid_decoder", SHAPE, activation="softplus")
    tokens = normal(1, n_inputs).requires_grad_()
    outputs = network.double()(tokens).view(*SHAPE, N_EACH)
    for output in outputs[pixel].flatten():
        (grad,) = torch.autograd.grad(output, tokens, retain_graph=True)
        seen = (grad != 0).view(8, 6, N_CODE)
        rows = places_behind_pixel(pixel[0], 8)
        columns = places_behind_pixel(pixel[1], 6)
        assert seen.any(2).equal(seen.all(2))
        assert seen.any(2).tolist() == [[r and c for c in columns] for r in rows]


@pytest.mark.parametrize("kind", ["encoder", "grid_encoder"])
def test_an_encoder_that_looks_at_one_channel_sees_that_one(kind: str) -> None:
    network, (n_inputs, _) = build(kind, SHAPE)
    convolutions(network)[0].weight.data[:, [0, 2]] = 0
    x = normal(1, n_inputs, dtype=torch.float32)
    for channel in range(3):
        changed = x.clone().view(1, *SHAPE)
        changed[..., channel] = 1
        same = network(changed.flatten(1)).equal(network(x))
        assert same == (channel != 1)


@pytest.mark.parametrize("kind", ["decoder", "grid_decoder"])
def test_outputs_of_a_feature_are_side_by_side(kind: str) -> None:
    network, (n_inputs, _) = build(kind, SHAPE)
    weight = convolutions(network)[-1].weight  # four pixels for each output
    for index, place in enumerate(itertools.product(range(3), range(N_EACH))):
        kept = torch.zeros_like(weight)
        kept[4 * index : 4 * index + 4] = 1
        weight.data = kept
        outputs = network(normal(1, n_inputs, dtype=torch.float32))
        answers = (outputs.view(-1, 3, N_EACH) != 0).any(0).nonzero().tolist()
        assert answers == [list(place)]


# Training.


@shapes
@kinds
def test_a_gradient_reaches_every_parameter(kind: str, shape: tuple[Any, ...]) -> None:
    network, (n_inputs, _) = build(kind, shape, n_blocks=2)
    network(normal(4, n_inputs, dtype=torch.float32)).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad.any(), name


@pytest.mark.parametrize("kind", ["decoder", "grid_decoder"])
def test_a_decoder_starts_from_given_outputs(kind: str) -> None:
    network, (n_inputs, n_outputs) = build(kind, (9, 13, 2))
    z, outputs = normal(3, n_inputs), normal(n_outputs, seed=1)
    before = network.double()(z)
    network.start_from(outputs)
    torch.testing.assert_close(network(z) - before, outputs.expand(3, -1))
    convolutions(network)[-1].weight.data.zero_()
    assert network(z).equal(outputs.expand(3, -1))


@shapes
@pytest.mark.parametrize("kind", ["decoder", "grid_decoder"])
def test_a_decoder_starts_near_its_offsets(kind: str, shape: tuple[Any, ...]) -> None:
    network, (n_inputs, _) = build(kind, shape, channels=32)
    outputs = network(normal(4, n_inputs, dtype=torch.float32))
    assert 0 < outputs.square().mean().sqrt() < 0.05


@pytest.mark.parametrize("kind", ["", "grid_"])
def test_an_autoencoder_of_digits_beats_their_mean(kind: str) -> None:
    x = torch.from_numpy(load_digits().data).float() / 16
    networks = ImageNetworks(8, 8, channels=16)
    n_code = 4 * 4 if kind else 8
    with forked_rng(0):
        encoder = getattr(networks, f"{kind}encoder")(64, n_code)
        decoder = getattr(networks, f"{kind}decoder")(n_code, 64)
    decoder.start_from(x.mean(0))
    autoencoder, order = nn.Sequential(encoder, decoder), generator()
    trainer = torch.optim.Adam(autoencoder.parameters(), lr=1e-3)
    for _ in range(2 * len(x) // 64):
        batch = x[torch.randint(len(x), (64,), generator=order)]
        loss = (autoencoder(batch) - batch).square().sum(1).mean()
        trainer.zero_grad()
        loss.backward()
        trainer.step()
    spread = x.var(0, correction=0).sum()
    assert (autoencoder(x) - x).square().sum(1).mean() < 0.7 * spread


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("cls", [VAE, VQVAE])
def test_estimators_take_them(cls: type[Any]) -> None:
    X, networks = load_digits().data[:60], ImageNetworks(8, 8, channels=4)
    model = cls(
        encoder=networks.encoder,
        decoder=networks.decoder,
        max_iter=2,
        n_importance_samples=4,
        random_state=0,
    )
    if cls is VQVAE:
        model.set_params(
            encoder=networks.grid_encoder,
            decoder=networks.grid_decoder,
            n_tokens=16,
            code_size=2,
        )
    scores = model.fit(X).score_samples(X)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(model.score_samples(X[:7]), scores[:7], rtol=1e-9)


# The shape of images.


@pytest.mark.parametrize(
    ("given", "n_features", "read"),
    [
        ((8, 128), 1024, (8, 128, 1)),
        ([9, 13, 4], 468, (9, 13, 4)),
        (np.array([28, 28, 3]), 2352, (28, 28, 3)),
    ],
)
def test_the_shape_is_read(given: Any, n_features: int, read: tuple[Any, ...]) -> None:
    assert check_image_shape(given, n_features, "VAE") == read


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        28,
        "28",
        (28,),
        (28, 28, 1, 1),
        (7, 28),
        (28, 129),
        (28, 28, 0),
        (28, 28, 5),
        (28.0, 28),
    ],
    ids=str,
)
def test_a_wrong_shape_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="'image_shape' parameter of VAE must be") as e:
        check_image_shape(wrong, 784, "VAE")
    for words in ["[8, 128]", "[1, 4]", f"Got {wrong!r} instead"]:
        assert words in str(e.value)


def test_a_shape_of_another_number_of_features_is_refused() -> None:
    message = (
        r"X has 784 features, but VAE with image_shape=\(28, 27\) is expecting 756 "
        r".*Set image_shape to the shape of the image"
    )
    with pytest.raises(ValueError, match=message):
        check_image_shape((28, 27), 784, "VAE")
