# Everything from nothing but git, make and Python 3.11: `make run`, then `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTING := -n 2 --dist loadgroup --no-loadscope-reorder --durations 10  # see tests/conftest.py

export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site

.PHONY: help run up down status test test-fast lint types bench honest clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

run: $(READY)  ## pictures to registered model: every stage that is not up to date
	eval "$$($(BIN)/python -m flows.shell)" && $(BIN)/python -m flows.pipeline

up: $(READY)  ## start Prefect, MLflow and the workers, and apply the deployments
	$(BIN)/python -m flows.services up

down: $(READY)  ## stop what `make up` started, and nothing else
	$(BIN)/python -m flows.services down

status: $(READY)  ## what runs, since when, which workers are online, the next nightly run
	$(BIN)/python -m flows.services status

test: lint types $(READY)  ## ruff, mypy and all tests
	$(BIN)/python -m pytest $(TESTING)

test-fast: $(READY)  ## the tests that take no whole run, server or worker: a few minutes
	$(BIN)/python -m pytest $(TESTING) -m "not slow"

lint: $(READY)  ## style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)  ## types of the library
	$(BIN)/mypy

bench: $(READY)  ## speed and memory, as ratios
	$(BIN)/python -m scripts.bench

honest: $(READY)  ## is the bundled task honest work? (nearest colours and histograms, shuffled pictures)
	$(BIN)/python -m scripts.honest
	$(BIN)/python -m scripts.nearest

clean:  ## remove what can be made again, but for DVC's cache
	rm -rf $(VENV) .work .mypy_cache .pytest_cache .ruff_cache

# A file in the environment remembers which requirements.lock it was made from.
$(READY): requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed; say which with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .  # the command waymark
	@touch $@
