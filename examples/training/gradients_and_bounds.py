"""
Why it works: two gradients, two samplers, one bound
====================================================

Three experiments on what a variational autoencoder stands on: the gradient that goes
through a draw, the encoder that proposes codes, and the bound that rises with draws.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgen import IWAE, VAE
from skgen.exceptions import DegenerateWeightsWarning
from skgen.objectives import Batch, importance_weighted_bound

# %%
# Two gradients
# -------------
#
# Two unbiased gradients of :math:`\min_\mu E_{x \sim N(\mu, I)} \|x - (5, 5)\|^2`. The
# likelihood ratio, :math:`f(x) \nabla \log q(x)`, asks only for values of f; the
# pathwise gradient, :math:`\nabla f(\mu + \varepsilon)`, goes through f.

TARGET = np.array([5.0, 5.0])


def likelihood_ratio(mu, noise):
    """Mean of f(x) grad_mu log N(x; mu, I), where grad_mu log N = x - mu."""
    x = mu + noise
    f = ((x - TARGET) ** 2).sum(axis=-1, keepdims=True)
    return (f * (x - mu)).mean(axis=0)


def pathwise(mu, noise):
    """Mean of grad_mu f(mu + noise)."""
    return (2 * (mu + noise - TARGET)).mean(axis=0)


def descend(gradient, n_draws=10, n_steps=300, step=0.01):
    """Return the path (n_steps + 1, 2) of gradient descent from the origin."""
    path = [np.zeros(2)]
    for _ in range(n_steps):
        noise = rng.normal(size=(n_draws, 2))
        path.append(path[-1] - step * gradient(path[-1], noise))
    return np.array(path)


def moments(gradient, mu, n=20_000):
    """Return mean (2,) and total variance of the gradient from a single draw."""
    values = gradient(mu, rng.normal(size=(1, n, 2)))
    return values.mean(axis=0), values.var(axis=0).sum()


# %%
# Both find the target in the mean; the first is noisier by orders of magnitude, and the
# more so the farther mu is away.

rng = np.random.RandomState(0)
distances = np.linspace(0, 10, 21)
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
print("gradient at mu = (0, 0) from one draw; its mean is (-10, -10)")
print(f"{'':18} {'mean':>16} {'variance':>9}")
for name, gradient in {
    "likelihood ratio": likelihood_ratio,
    "pathwise": pathwise,
}.items():
    left.plot(*descend(gradient).T, marker=".", markersize=3, linewidth=0.7, label=name)
    (first, second), variance = moments(gradient, np.zeros(2))
    print(f"{name:18} ({first:6.2f}, {second:6.2f}) {variance:9.1f}")
    away = TARGET / np.linalg.norm(TARGET)
    variances = [moments(gradient, TARGET - d * away)[1] for d in distances]
    right.plot(distances, variances, marker="o", label=name)
left.plot(*TARGET, "*", color="C2", markersize=16, label="target")
left.set(
    title="Descent: 300 steps, 10 draws each",
    xlabel="$\\mu_1$",
    ylabel="$\\mu_2$",
    aspect="equal",
)
right.set(
    title="Variance of the gradient from one draw",
    xlabel="distance of $\\mu$ from the target",
    ylabel="variance (sum over both coordinates)",
    yscale="log",
)
left.legend()
right.legend()
plt.show()

# %%
# Two samplers
# ------------
#
# Two estimates of log p(x) with K draws, on continuous, standardised digits. Codes
# drawn from the prior hardly ever explain the row at hand; codes drawn from the encoder
# do.

X = load_digits().data
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
X_train, X_test = train_test_split(X, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)[:100]


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
        bound = importance_weighted_bound(module.log_likelihood(Batch(x), z))
        return float((bound - module.standardizer.log_scale).mean())


DRAWS = [1, 10, 100, 1000]
quick = {"learning_rate_init": 5e-3, "n_iter_no_change": 10, "random_state": 0}
models = {"VAE": VAE(**quick), "IWAE": IWAE(**quick)}
prior, encoder, limit = {}, {}, {}
# Two digits rest on few draws even of 1000, as a warning says.
warnings.simplefilter("ignore", DegenerateWeightsWarning)
print("estimates of log p(x) with K draws: mean over 100 held-out digits, nats")
print(f"{'':22}" + "".join(f"{f'K={K}':>9}" for K in [*DRAWS, 5000]))
for name, model in models.items():
    model.fit(X_train)
    prior[name] = [prior_sampling(model, X_test, K) for K in DRAWS]
    # With few draws log_likelihood is the bound L_K: the same estimate.
    encoder[name] = [model.log_likelihood(X_test, K).mean_log_prob for K in DRAWS]
    limit[name] = model.log_likelihood(X_test, 5000).mean_log_prob
    print(f"{name + ', prior':22}" + "".join(f"{v:9.2f}" for v in prior[name]))
    values = [*encoder[name], limit[name]]
    print(f"{name + ', encoder':22}" + "".join(f"{v:9.2f}" for v in values))

# %%
# One bound
# ---------
#
# The bound :math:`L_K` with K draws from the encoder: at K = 1 it is the evidence lower
# bound, and it rises to log p(x). The VAE was trained to raise it at K = 1, so that its
# encoder is close to the posterior and more draws add little; IWAE was trained at K =
# 5, and its encoder, which only proposes, gains more from them. Which of them ends
# higher is up to the data: on these digits, the VAE.

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
left.plot(DRAWS, prior["VAE"], marker="o", label="draws from the prior")
left.plot(DRAWS, encoder["VAE"], marker="o", label="draws from the encoder")
left.set_title("VAE: log p(x) estimated with K draws")
for name in models:
    (line,) = right.plot(DRAWS, encoder[name], marker="o", label=f"{name}, bound")
    right.axhline(
        limit[name],
        color=line.get_color(),
        linestyle=":",
        label=f"{name}, 5000 draws",
    )
right.set_title("The bound with K draws from the encoder")
for ax in (left, right):
    ax.set(xscale="log", xlabel="K, number of draws for each row")
    ax.set_ylabel("mean over held-out rows, nats")
    ax.legend(loc="lower right")
plt.show()
