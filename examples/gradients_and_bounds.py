"""Why variational autoencoders work: two gradients, two samplers, one bound.

1.  Two unbiased gradients of min_mu E_{x ~ N(mu, I)} ||x - (5, 5)||^2. The likelihood
    ratio, f(x) grad log q(x), asks only for values of f; the pathwise gradient,
    grad f(mu + noise), goes through f. Both find the target in the mean; the first is
    noisier by orders of magnitude, and the more so the farther mu is away.
2.  Two estimates of log p(x) with K draws. Codes drawn from the prior hardly ever
    explain the row at hand; codes drawn from the encoder do.
3.  The bound L_K with K draws from the encoder: at K = 1 it is the evidence lower
    bound, and it rises to log p(x). The VAE was trained to raise it at K = 1, and is
    ahead there; IWAE was trained at K = 5, and is ahead from 10 draws on.

About 20 seconds.
"""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgen import IWAE, VAE
from skgen.objectives import importance_weighted_bound

matplotlib.use("Agg")  # pictures go to files: no display is needed
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
PICTURE = Path(__file__).parent / "output" / "gradients_and_bounds.png"

TARGET = np.array([5.0, 5.0])
DRAWS = [1, 10, 100, 1000]


# 1. Two gradients of E_{x ~ N(mu, I)} ||x - target||^2, averaged over k draws.


def likelihood_ratio_gradient(mu, noise):
    """Mean of f(x) grad_mu log N(x; mu, I), where grad_mu log N = x - mu."""
    x = mu + noise
    f = ((x - TARGET) ** 2).sum(axis=-1, keepdims=True)
    return (f * (x - mu)).mean(axis=0)


def pathwise_gradient(mu, noise):
    """Mean of grad_mu f(mu + noise)."""
    return (2 * (mu + noise - TARGET)).mean(axis=0)


GRADIENTS = {
    "likelihood ratio": likelihood_ratio_gradient,
    "pathwise": pathwise_gradient,
}


def descend(gradient, rng, n_draws=10, n_steps=300, step=0.01):
    """Return the path (n_steps + 1, 2) of gradient descent from the origin."""
    path = [np.zeros(2)]
    for _ in range(n_steps):
        noise = rng.normal(size=(n_draws, 2))
        path.append(path[-1] - step * gradient(path[-1], noise))
    return np.array(path)


def gradient_moments(gradient, mu, rng, n=20_000):
    """Return mean (2,) and total variance of the gradient from a single draw."""
    noise = rng.normal(size=(1, n, 2))
    values = gradient(mu, noise)
    return values.mean(axis=0), values.var(axis=0).sum()


def show_gradients(path_ax, variance_ax):
    rng = np.random.RandomState(0)
    print("gradient at mu = (0, 0) from one draw; its mean is (-10, -10)")
    print(f"{'':18} {'mean':>16} {'variance':>9}")
    distances = np.linspace(0, 10, 21)
    direction = TARGET / np.linalg.norm(TARGET)
    for name, gradient in GRADIENTS.items():
        path = descend(gradient, rng)
        path_ax.plot(*path.T, marker=".", markersize=3, linewidth=0.7, label=name)
        (first, second), variance = gradient_moments(gradient, np.zeros(2), rng)
        print(f"{name:18} ({first:6.2f}, {second:6.2f}) {variance:9.1f}")
        variances = [
            gradient_moments(gradient, TARGET - d * direction, rng)[1]
            for d in distances
        ]
        variance_ax.plot(distances, variances, marker="o", label=name)
    path_ax.plot(*TARGET, "*", color="green", markersize=16, label="target")
    path_ax.set(
        title="Descent of E ||x - (5, 5)||$^2$, x ~ N($\\mu$, I)\n"
        "(300 steps, 10 draws each)",
        xlabel="$\\mu_1$",
        ylabel="$\\mu_2$",
        aspect="equal",
    )
    variance_ax.set(
        title="Variance of the gradient from one draw",
        xlabel="distance of $\\mu$ from the target",
        ylabel="variance (sum over both coordinates)",
        yscale="log",
    )
    path_ax.legend()
    variance_ax.legend()


# 2 and 3. Estimates of log p(x) for a fitted VAE and IWAE.


def load_rows():
    """Return continuous, standardised digits to train on, and to test on."""
    X, _ = load_digits(return_X_y=True)
    noise = np.random.RandomState(0).uniform(size=X.shape)
    X_train, X_test = train_test_split((X + noise) / 17, random_state=0)
    scaler = StandardScaler().fit(X_train)
    return scaler.transform(X_train), scaler.transform(X_test)[:200]


def prior_sampling(model, X, n_draws):
    """Estimate log p(x) by log 1/K sum_k p(x|z_k), with z_k drawn from the prior.

    This is what one would do without an encoder; so it is no method of the models,
    but takes three parts of the fitted ``module_``.
    """
    module = model.module_
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x = module.standardizer(torch.from_numpy(X).float())
        z = torch.randn(n_draws, len(x), model.n_components, generator=generator)
        bound = importance_weighted_bound(module.log_likelihood(x, z))
        return float((bound - module.standardizer.log_scale).mean())


def show_bounds(sampler_ax, bound_ax):
    X_train, X_test = load_rows()
    models = {"VAE": VAE(random_state=0), "IWAE": IWAE(random_state=0)}
    print("\nestimates of log p(x) with K draws: mean over 200 held-out digits, nats")
    print(f"{'':22}" + "".join(f"{f'K={K}':>9}" for K in [*DRAWS, 5000]))
    for name, model in models.items():
        model.fit(X_train)
        prior = [prior_sampling(model, X_test, K) for K in DRAWS]
        # With few draws log_likelihood is the bound L_K: the same estimate.
        encoder = [model.log_likelihood(X_test, K).mean for K in DRAWS]
        limit = model.log_likelihood(X_test, 5000).mean
        print(f"{name + ', prior':22}" + "".join(f"{v:9.2f}" for v in prior))
        print(
            f"{name + ', encoder':22}" + "".join(f"{v:9.2f}" for v in encoder), end=""
        )
        print(f"{limit:9.2f}", flush=True)
        if name == "VAE":
            sampler_ax.plot(DRAWS, prior, marker="o", label="draws from the prior")
            sampler_ax.plot(DRAWS, encoder, marker="o", label="draws from the encoder")
        (line,) = bound_ax.plot(DRAWS, encoder, marker="o", label=f"{name}, bound")
        bound_ax.axhline(
            limit,
            color=line.get_color(),
            linestyle=":",
            label=f"{name}, log_likelihood, 5000 draws",
        )
    sampler_ax.set(title="VAE: log p(x) estimated with K draws")
    bound_ax.set(title="The bound with K draws from the encoder")
    for ax in (sampler_ax, bound_ax):
        ax.set(xscale="log", xlabel="K, number of draws for each row")
        ax.set_ylabel("mean over held-out rows, nats")
        ax.legend(loc="lower right")


def main():
    figure, axes = plt.subplots(2, 2, figsize=(11, 9.5), layout="constrained")
    show_gradients(*axes[0])
    show_bounds(*axes[1])
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)
    print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main()
