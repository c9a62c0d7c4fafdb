VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check --editable
PYTEST := OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses 2 --dist worksteal
ARGS ?=

help:           ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# What is installed grows with what is asked for; each stage has the earlier ones in it.
$(VENV)/run-ready: pyproject.toml
	@echo "make: installing what runs need into $(VENV) (torch is large: some minutes)"
	@python3 -m venv $(VENV)
	@$(INSTALL) .
	@touch $@

$(VENV)/test-ready: $(VENV)/run-ready pyproject.toml
	@echo "make: installing what the first tier of the tests needs (pytest, ruff, mypy, ...)"
	@$(INSTALL) ".[test]"
	@touch $@

$(VENV)/all-ready: $(VENV)/test-ready pyproject.toml
	@echo "make: installing what the other tests need (launchers, trackers, Optuna, ...)"
	@$(INSTALL) ".[dev]"
	@touch $@

setup: $(VENV)/all-ready  ## Make .venv with everything in it.

run: $(VENV)/run-ready  ## Run the main job on the built-in sample: make run ARGS="rounds=8"
	@echo "make: running the main job, then the same with random weights"
	@$(PYTHON) train.py control=true $(ARGS)

test: $(VENV)/test-ready  ## Check format, lint, types and what counts most, in about 4 minutes.
	@echo "make: checking format and lint"
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@echo "make: running the first tier of the tests, and checking types beside it"
	@$(VENV)/bin/mypy & types=$$!; $(PYTEST) $(ARGS); tests=$$?; wait $$types && exit $$tests

test-more: $(VENV)/all-ready  ## Run the tests that `test` leaves out: launchers, trackers, ...
	@echo "make: running the other tests"
	@$(PYTEST) -m more $(ARGS)

test-all:       ## Run all tests: `test`, then `test-more`.
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-more

torture: $(VENV)/test-ready  ## Do to small runs all that must not harm them, in about 5 minutes.
	@echo "make: doing to runs all that must not harm them"
	@$(PYTHON) scripts/torture.py $(ARGS)

format: $(VENV)/test-ready  ## Format the code and mend what the linter can.
	@echo "make: formatting"
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

clean:          ## Remove what setup, builds and runs have made.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache outputs/20* outputs/sweeps

.PHONY: help setup run test test-more test-all torture format clean
.DEFAULT_GOAL := help
