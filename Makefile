# The targets a person types; `make` alone lists them. Everything runs in .venv, which
# docker/install.sh makes from the lock, or in the image (SAIGEN_ENVIRONMENT=container).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export VARIANT ?= cpu
export DVC_NO_ANALYTICS := 1
export HYDRA_FULL_ERROR := 1
export SAIGEN_ENVIRONMENT ?= host
export ARGS P
ifneq ($(SAIGEN_ENVIRONMENT),container)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONHOME VIRTUAL_ENV CONDA_PREFIX
endif
unexport PYTHONPATH
PYTHON := python

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  VARIANT=cuda takes the lock with CUDA; ARGS='key=value' goes to the verb"

.PHONY: .venv
.venv: ## the environment, exactly as locked (every target makes it first)
	@docker/install.sh

train: .venv data ## a trained model and its record, from nothing (DVC runs what changed)
	@[ -z "$$ARGS" ] || [ ! -e .git ] || [ -w .git ] || { echo "refused: an experiment (ARGS) is kept in .git, which is read-only here; fix: SAIGEN_GIT=rw make in-container T=train, or saigen train KEY=VALUE" >&2; exit 2; }
	@$(if $(ARGS),dvc exp run $(foreach override,$(ARGS),-S '$(override)'),dvc repro)
	@$(PYTHON) -m saigen show results

data: .venv ## the snapshot in use, checked against its hashes
	@$(PYTHON) -m saigen data

verify: .venv data ## try to break the claims, with your own model and data
	@$(PYTHON) -m saigen verify $(ARGS)

init: .venv ## a project of this clone: make init ARGS='--name cars --license MIT'
	@$(PYTHON) -m saigen init $(ARGS)

update: .venv ## a newer instrument from the template (ARGS='--source URL --commit TAG')
	@$(PYTHON) -m saigen update $(ARGS)

remove-example: .venv ## take the example away, for data and code of your own
	@$(PYTHON) -m saigen remove-example

test: .venv ## the quick tests
	@$(PYTHON) tests/run.py -n auto --dist loadscope --no-loadscope-reorder -q \
	  -m "not slow and not system and not faults" $(ARGS)

test-full: .venv ## every test that needs no service
	@$(PYTHON) tests/run.py -n auto -q -m "not system and not faults" $(ARGS)

test-faults: .venv ## the long lists: planted faults that are named, altered records refused
	@$(PYTHON) tests/run.py -n auto -q -m faults $(ARGS)

test-system: .venv ## tests that start real services: a Docker engine, emulated processors (root)
	@$(PYTHON) tests/run.py -q -m system $(ARGS)

doctor: .venv ## this machine against the pins: which claims can be kept here
	@$(PYTHON) -m saigen doctor || [ $$? = 1 ] # 1: some claims cannot be kept

lint: .venv ## style, types, no hyperparameter in Python, and whether the locks are stale
	@ruff format --check .
	@ruff check .
	@mypy
	@$(PYTHON) tools/hidden_defaults.py
	@$(PYTHON) tools/arrows.py
	@$(PYTHON) docker/lock_header.py check

format: .venv ## put the code into the one format
	@ruff format .
	@ruff check --fix .

lock: ## pyproject.toml's one list -> docker/lock-cpu.txt, lock-cuda.txt (UPGRADE=1: the newest)
	@docker/lock.sh

add: .venv ## packages into the list, both locks and .venv: make add P='polars timm>=1.0'
	@$(PYTHON) -EsB docker/add.py

image: ## the container image (VARIANT=cpu or cuda)
	@docker/image.sh build

shell: ## a shell in the image, as you
	@docker/image.sh run bash

in-container: ## a target in the image, as you: make in-container T=train
	@docker/image.sh run make $(or $(T),help) ARGS='$(ARGS)'

clean: ## remove what can be made again (.venv, caches); runs and data stay
	rm -rf .venv .saigen .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.git -prune -o -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help init update remove-example train data verify test test-full test-faults test-system doctor lint format lock add image shell in-container clean
