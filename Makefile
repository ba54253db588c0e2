# Recollect's targets. Each sets up what it needs by itself: Python 3.11 or newer and make are enough.
# `make` alone lists them.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# Two workers: the tests start servers and child processes of their own.
WORKERS ?= 2
# Passed on to pytest: make test PYTEST="-k retention -x"
PYTEST ?=

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY) ## Back up, damage, verify, diff and restore real embeddings on a real engine
	@$(BIN)/python examples/demo.py

.PHONY: test
test: $(READY) ## Run all tests
	@$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST)

.PHONY: test-slow
test-slow: $(READY) ## Run the exhaustive tests: every byte, every read, many kills (minutes)
	@$(BIN)/python -m pytest -n $(WORKERS) -m slow $(PYTEST)

.PHONY: live
live: $(READY) ## Run the engine contract against a real, empty Qdrant: make live QDRANT_URL=… QDRANT_GRPC=…
	@test -n "$(QDRANT_URL)" || { echo "give QDRANT_URL=http://host:6333, and QDRANT_GRPC=6334"; exit 2; }
	@QDRANT_URL="$(QDRANT_URL)" QDRANT_GRPC="$(or $(QDRANT_GRPC),6334)" \
		$(BIN)/python -m pytest -m live tests/live $(PYTEST)

.PHONY: check
check: lint test ## Everything that must hold: format, lint, types, import contracts, tests

.PHONY: lint
lint: lint-format lint-code lint-types lint-layers ## Format, lint, types and import contracts, without the tests

.PHONY: lint-format lint-code lint-types lint-layers
lint-format: $(READY)
	$(BIN)/ruff format --check
lint-code: $(READY)
	$(BIN)/ruff check
lint-types: $(READY)
	$(BIN)/mypy
lint-layers: $(READY)
	$(BIN)/lint-imports --no-logo

.PHONY: bench
bench: $(READY) ## Run the benchmarks (minutes)
	@$(BIN)/python -m benchmarks

.PHONY: format
format: $(READY) ## Format the code and apply safe lint fixes
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: pins
pins: $(READY) ## Write requirements.txt anew from what is installed
	$(BIN)/python tools/pins.py > requirements.txt.new
	mv requirements.txt.new requirements.txt

.PHONY: reference
reference: $(READY) ## Write docs/reference/cli.md anew from the commands
	$(BIN)/python tools/reference.py > docs/reference/cli.md

.PHONY: setup
setup: $(READY) ## Create .venv and install everything (the other targets do it by themselves)

.PHONY: clean
clean: ## Remove .venv and everything that tools left behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests tools examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp is older than the pins or the project's metadata: install again. pip skips what is there already.
$(READY): requirements.txt pyproject.toml tools/venv.sh
	@tools/venv.sh $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
