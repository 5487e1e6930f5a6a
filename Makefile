# `make demo` and `make test` build what they need in .venv and nowhere else;
# an environment that is already there is reused until its inputs change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: bench coverage demo docs docstrings test test-slow test-clients test-clusters test-lowest lint format env
.PHONY: clean

demo: $(READY)
	$(BIN)/python examples/run.py quickstart

# A process a core, each with one thread; files whole, whose fits are shared, and the
# longest first, as tests/conftest.py has them.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
		--no-loadscope-reorder

# What examples and pages say of fits that run to their end.
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto -m slow

# Libraries around the models: searches, pipelines, services and registries.
test-clients: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[test-clients]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_third_party.py \
		tests/test_clients.py tests/test_dask.py tests/test_readme.py \
		-k "optuna or imbalanced or serving or mlflow or skops or a_fit_is_that_of"

# The code of the page of clusters, under Ray and Spark; not in CI: they are 600 MB.
test-clusters: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[test-clusters]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_clusters.py

# The same on the lowest versions that pyproject.toml claims.
LOWEST := .venv-lowest
test-lowest:
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt \
		--editable ".[test]"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses auto \
		--dist loadfile --no-loadscope-reorder

# What the tests reach, lines and branches.
coverage: $(READY)
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

# The site, into docs/_build/html; a warning and a link that leads nowhere are errors.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

# All comparisons of speed, into benchmarks/results; BENCH=--quick takes minutes.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,bench]"
	for subject in vae_epoch mixture_speed mixture_stack missing_em kmeans_speed throughput \
		streaming grid_search; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$subject.py $(BENCH); \
	done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What estimators share, into the docstring of each.
docstrings: $(READY)
	$(BIN)/python docs/docstrings.py

env: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) .pytest_cache .ruff_cache .mypy_cache examples/output \
		docs/_build docs/_outputs docs/auto_examples docs/api/generated docs/api/backreferences
