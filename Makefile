VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS ?=

help:           ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/ready  ## Make .venv with everything in it.

$(VENV)/ready: pyproject.toml
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

run: setup      ## Run the main job on the built-in sample: make run ARGS="rounds=8"
	$(PYTHON) train.py $(ARGS)

test: setup     ## Check format, lint and types, then run the whole test suite.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses 2 $(ARGS)

format:         ## Format the code and mend what the linter can.
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:          ## Remove what setup, builds and runs have made.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache outputs/20* outputs/sweeps

.PHONY: help setup run test format clean
.DEFAULT_GOAL := help
