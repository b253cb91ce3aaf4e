# `make demo` and `make test` install everything that they need into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test verify parity bench lint clean

demo: $(VENV)/.core
	$(BIN)/jaxdet demo

# Tests that compare float32 numbers closely compile their programs with the default flags, as users do. The others
# compile with less optimisation, in a fraction of the time. `make verify` uses the default flags for all tests.
NUMERIC := tests/parity tests/unit/ops
FAST := --xla_backend_optimization_level=0
PYTEST := $(BIN)/python -m pytest -m "not verify" -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test: lint
	XLA_FLAGS="$(XLA_FLAGS) $(FAST)" $(PYTEST) tests $(NUMERIC:%=--ignore=%)
	FLOAT64_XLA_FLAGS="$(FAST)" $(PYTEST) $(NUMERIC)

verify: $(VENV)/.test
	$(BIN)/python -m pytest --durations=25

parity: $(VENV)/.test
	$(BIN)/jaxdet parity fasterrcnn_resnet50_fpn

bench: $(VENV)/.test
	for name in inference training ops shares loader startup canvas; do $(BIN)/python -m benchmarks.$$name || exit 1; done

lint: $(VENV)/.test
	$(BIN)/ruff check src convert tests benchmarks examples
	$(BIN)/ruff format --check src convert tests benchmarks examples
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxdet needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# Each stamp file is newer than pyproject.toml after an installation, so that a second run installs nothing.
$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) .jax_cache build dist
