# Viva Voce needs Python 3.11+, pip and make. `make demo` is the first thing to try; `make help` lists the rest.
# Variables: PYTHON (which Python), VENV (where to install), PIP_FLAGS, PYTEST_FLAGS.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format bench install clean

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off $(PIP_FLAGS)
TORCH := $(shell sed -n 's/^\(torch==[0-9.]*\).*/\1/p' constraints/cpu.txt)
CPU_ONLY := not slow and not gpu and not network

help:
	@echo "make demo      install what it takes, hear the bundled question, speak the answer"
	@echo "make test      the default tests: offline, CPU, a few minutes"
	@echo "make test-all  the slow ones too"
	@echo "make check     lint, format and types"
	@echo "make format    put the format right"
	@echo "make bench     every benchmark, one table each"
	@echo "make clean     remove the virtual environment and caches"

demo: $(VENV)/.package
	$(BIN)/vivavoce demo

install: $(VENV)/.dev

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "$(CPU_ONLY)" $(PYTEST_FLAGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not gpu and not network" $(PYTEST_FLAGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

# torch goes in first, by itself: the CPU build if pip is set up to find one (PyTorch's install page tells how, by
# PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS), else whatever the package index has. On macOS that is a CPU build; on Linux
# it brings gigabytes of CUDA, and works.
$(VENV)/.torch: constraints/cpu.txt
	@test -n "$(PYTHON)" || { echo "Viva Voce needs Python 3.11 or later. Install it, or run: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian run: apt-get install python3-venv"; exit 1; }
	@echo "Installing $(TORCH) for the CPU ..."
	@$(PIP) -q "$(TORCH)+cpu" 2>/dev/null || $(PIP) -q "$(TORCH)"
	@touch $@

$(VENV)/.package: $(VENV)/.torch pyproject.toml
	@echo "Installing vivavoce ..."
	@$(PIP) -q -c constraints/cpu.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	@echo "Installing what tests and checks need ..."
	@$(PIP) -q -c constraints/cpu.txt -e ".[dev]"
	@touch $@
