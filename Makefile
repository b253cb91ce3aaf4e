# Two commands, each does all its own set-up:  make demo   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test verify parity bench lint clean

demo: $(VENV)/.core
	$(BIN)/jaxdet demo

# Programs whose float32 numbers are compared closely are compiled as users compile them. The others are compiled with
# less optimisation, which takes a fraction of the time. `make verify` compiles all of them as users do.
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

# The stamps are newer than pyproject.toml once its dependencies are installed, so a second run installs nothing.
$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) .jax_cache build dist
