# make demo: pictures and a comparison with diffusers.  make test: every check that a change must pass.
# Both make .venv on first use, from the exact versions in constraints.txt. Choose another Python with PYTHON=python3.12.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Nothing here needs a model hub.
export HF_HUB_OFFLINE := 1

.PHONY: help demo test audit install clean

help:
	@echo "make demo   24 mixed requests through diffusers and through Headrace, compared"
	@echo "make test   lint, types, layering, tests"
	@echo "make audit  known holes in the packages of constraints.txt"
	@echo "make clean  removes .venv and caches"

demo: $(INSTALLED)
	$(BIN)/headrace demo --out outputs/demo

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -x

audit: $(INSTALLED)
	$(BIN)/python .ci/audit.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Headrace needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch, diffusers and the rest, some minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
