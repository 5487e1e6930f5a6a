"""The README's code runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


# Few epochs are what the defaults give on 133 rows.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_code_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3
    assert names["codes"].shape == (45, 3)
    assert names["new"].shape == (100, 13)
    assert names["search"].best_params_["beta"] in (0.5, 1, 2, 4)
    assert names["model"].fit(names["X_train"], names["X_train"][:, 0] > 13)
