# make search: find an activation function on this machine, in a few minutes.
# make test:   linters, types, import contracts, tests.
# make docs:   the documents as a site, in site/; broken links are errors.
# All create .venv on first use and re-use it afterwards.

PYTHON ?= python3
BIN := .venv/bin
GOAL := $(or $(firstword $(MAKECMDGOALS)),search)
OTHER_PYTHON := name a Python of 3.11 or newer that is here: make $(GOAL) PYTHON=/path/to/python3

.PHONY: search test lint docs clean

search: .venv/.installed
	$(BIN)/nas search digits

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'open site/index.html, or, with search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site'

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

.venv/.installed: pyproject.toml
	@$(PYTHON) -c '' 2>/dev/null || { echo "$(PYTHON) cannot be started; $(OTHER_PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), which is too old; $(OTHER_PYTHON)" >&2; exit 1; }
	@echo 'Installing into .venv: some GB to fetch, several minutes'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
