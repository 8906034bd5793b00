# The PyTorch to install, as pip takes it. Which build that is, CPU or CUDA, is the package index's
# choice: see the README. Override it by  make demo TORCH="torch==2.14.0"
TORCH ?= torch==2.13.0
PYTHON ?= python3
BIN := .venv/bin
SPREAD := --numprocesses auto --maxprocesses 4 --dist loadfile # a worker takes about 1.5 GB

.PHONY: help demo test check slow bench clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/developed: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

.venv/benched: .venv/developed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,bench]"
	touch $@

demo: .venv/installed ## Analyse the bundled demo study; prints where the report is
	$(BIN)/kdprobe analyze checkpoints/demo --images 64

test: .venv/developed ## Run the tests
	$(BIN)/python -m pytest $(SPREAD)

slow: .venv/developed ## Run the tests that take minutes
	$(BIN)/python -m pytest $(SPREAD) -m slow

bench: .venv/benched ## Print measured ratios, beside those of other libraries
	$(BIN)/python -m pytest -m bench -s tests/bench

check: .venv/developed ## Check format, lint and types
	$(BIN)/ruff format --check kdprobe tests
	$(BIN)/ruff check kdprobe tests
	$(BIN)/mypy

clean: ## Remove the environment and all reports
	rm -rf .venv reports/*
