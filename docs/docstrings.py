"""Copy what classes of estimators share into the docstring of each.

A parameter or an attribute is described in the docstring of the class that declares it.
Subclasses repeat it, so that an editor shows it; ``make docstrings`` does the copying,
and a test that nothing was forgotten.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1] / "skgen"
SECTIONS = ("Parameters", "Attributes")
# A class whose docstring others repeat, and those that do.
SHARED = {
    ("models/hyperparameters.py", "TrainingSettings"): {
        "models/hyperparameters.py": ("NetworkSettings",),
        "models/vae.py": ("VAE", "BetaVAE", "IWAE"),
        "models/vqvae.py": ("VQVAE",),
        "models/conditional.py": ("ConditionalVAE",),
        "models/flow.py": ("FlowDensity",),
        "models/gan.py": ("GAN",),
        "models/diffusion.py": ("Diffusion",),
        "models/vqvae2.py": ("VQVAE2",),
        "models/discrete.py": ("DiscreteVAE",),
    },
    ("models/hyperparameters.py", "NetworkSettings"): {
        "models/vae.py": ("VAE", "BetaVAE", "IWAE"),
        "models/vqvae.py": ("VQVAE",),
        "models/autoencoder.py": ("Autoencoder",),
        "models/discrete.py": ("DiscreteVAE",),
        "models/conditional.py": ("ConditionalVAE",),
        "models/vqvae2.py": ("VQVAE2",),
    },
    ("models/mixture.py", "EllipticalMixture"): {
        "models/mixture.py": ("GaussianMixtureEM",),
        "models/student.py": ("StudentMixtureEM",),
    },
    ("models/vqvae.py", "VQVAE"): {"models/vqvae2.py": ("VQVAE2",)},
    ("models/vae.py", "VAE"): {
        "models/vae.py": ("BetaVAE", "IWAE"),
        "models/conditional.py": ("ConditionalVAE",),
        "models/info.py": ("InfoVAE", "TCVAE"),
    },
}

# Parameters that a subclass declares anew.
OWN = {
    "Diffusion": (
        "learning_rate",
        "learning_rate_init",
        "weight_averaging",
        "n_iter_no_change",
    ),
    "IWAE": ("max_grad_norm",),
    "Autoencoder": ("likelihood",),
    "GAN": (
        "learning_rate_init",
        "weight_averaging",
        "tol",
        "early_stopping",
        "n_iter_no_change",
        "execution",
        "loss_curve_",
        "loss_terms_",
        "validation_curve_",
    ),
    "ConditionalVAE": ("prior", "inference"),
    "GaussianMixtureEM": (
        "covariance_type",
        "covariances_",
        "precisions_",
        "precisions_cholesky_",
        "lower_bound_",
        "converged_",
        "n_iter_",
    ),
    "StudentMixtureEM": ("n_init", "means_", "covariances_"),
    "TCVAE": ("n_components", "posterior_type"),
    "VQVAE2": (
        "codebook_size",
        "n_tokens",
        "encode",
        "codebook_",
        "grid_shape_",
        "codebook_usage_",
        "perplexity_",
        "temperature_",
    ),
}


def docstring(source: str, name: str) -> str:
    """Return the docstring of a class as it stands in a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            found = ast.get_source_segment(source, node.body[0])
            assert found is not None
            return found
    raise ValueError(f"There is no class {name}.")


def entries(doc: str) -> dict[str, str]:
    """Return what a docstring says of each parameter and attribute, by name."""
    found = {}
    for section in SECTIONS:
        head = f"    {section}\n    {'-' * len(section)}\n"
        _, _, rest = doc.partition(head)
        body = re.split(r'\n\n|\n    """', rest, maxsplit=1)[0]
        for entry in re.split(r"\n(?=    \w)", body):
            name, colon, _ = entry.strip().partition(" :")
            if colon:
                found[name] = entry
    return found


def with_shared(doc: str, shared: dict[str, str], own: tuple[str, ...] = ()) -> str:
    """Return a docstring with what it shares replaced, but for some names."""
    before = ""
    for name, entry in shared.items():
        present = entries(doc)
        if name in present and name not in own:
            doc = doc.replace(f"\n{present[name]}\n", f"\n{entry}\n")
        elif name not in present and before:  # it is new, and goes where it is declared
            doc = doc.replace(f"\n{before}\n", f"\n{before}\n{entry}\n")
        before = entries(doc).get(name, "")
    return doc


def written() -> dict[Path, str]:
    """Return the text that each file of a class that repeats should have."""
    texts: dict[Path, str] = {}
    for (origin, base), users in SHARED.items():
        path = ROOT / origin
        shared = entries(docstring(texts.get(path) or path.read_text(), base))
        for file, classes in users.items():
            text = texts.get(ROOT / file) or (ROOT / file).read_text()
            for name in classes:
                doc = docstring(text, name)
                text = text.replace(doc, with_shared(doc, shared, OWN.get(name, ())))
            texts[ROOT / file] = text
    return texts


if __name__ == "__main__":
    stale = {p: text for p, text in written().items() if p.read_text() != text}
    for path, text in stale.items():
        print(f"{path.relative_to(ROOT.parent)}: shared docstrings were copied")
        path.write_text(text)
    sys.exit(bool(stale))
