# Everything a person or CI does here. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: help install lock fmt lint types layers generate verify testbed testbed-down testbed-build test test-unit \
        coverage bench demo house clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Make .venv with the pinned, hash-checked requirements and this package

$(READY): requirements.lock pyproject.toml
	@echo "==> virtual environment and pinned requirements (about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "==> installed: $(BIN)/kn-lambda"

lock: install ## Renew requirements.lock from pyproject.toml (hashes, no index addresses)
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --upgrade --quiet -o requirements.lock

fmt: install ## Format the code
	$(BIN)/ruff check --fix --quiet controller tests
	$(BIN)/ruff format --quiet controller tests

lint: install ## Style and format, by ruff
	$(BIN)/ruff check controller tests
	$(BIN)/ruff format --check controller tests

types: install ## Strict types, by mypy
	$(BIN)/mypy

layers: install ## Import contracts of docs/architecture.md
	$(BIN)/lint-imports

generate: install ## Write schemas/, the chart's CRDs and docs/api from the API types
	$(BIN)/kn-lambda schemas --write .

verify: install ## Fail when a generated file is not what `make generate` writes
	$(BIN)/kn-lambda schemas --check .

testbed: install ## Start etcd, kube-apiserver, controller manager, RabbitMQ and a git server, and leave them up
	$(BIN)/python -m tests.testbed up

testbed-down: install ## End what `make testbed` started
	$(BIN)/python -m tests.testbed down

testbed-build: install ## Only build the test bed's servers (once, about seven minutes on two cores)
	$(BIN)/python -m tests.testbed build

test: install ## Everything: checks, unit, scenario, contract and API-server tests, coverage
	@$(MAKE) --no-print-directory lint types layers verify
	@$(MAKE) --no-print-directory testbed-build || test -z "$$CI"
	$(PYTEST) --cov --cov-report=term

test-unit: install ## Only what needs no server, in seconds
	$(PYTEST) -q tests/unit tests/scenarios

bench: install ## Measure, and print a table with the machine (not part of the tests)
	$(BIN)/python -m tests.benchmarks

demo: install ## From nothing to a git push that becomes a Ready function, with a timeline
	$(BIN)/python -m tests.demo

clean: ## Remove what the other targets made (not the test bed's built servers)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* dist
	find controller tests -name __pycache__ -prune -exec rm -rf {} +
