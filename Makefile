# Everything a person or CI does here. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
TEST_WORKERS ?= 2

include versions.mk
KIND_CLUSTER := knative-lambda
REGISTRY := kind-registry
IMAGE := localhost:5001/knative-lambda/controller
IMAGE_TAG ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo dev)

.PHONY: help install run lock fmt lint types layers generate verify testbed testbed-down testbed-build test test-unit \
        coverage bench demo house clean chart-test chart-readme image kind-up deploy kind-down

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Make .venv with the pinned, hash-checked requirements and this package

# The list is whole: without --no-deps, pip looks for the newest version of what is asked for by an extra.
# Nothing is compiled before it is used: of all that is installed, that is little, and the rest takes half of the time.
$(READY): requirements.lock pyproject.toml
	@echo "==> virtual environment and pinned requirements (about half a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation -e .
	@touch $@
	@echo "==> installed: $(BIN)/kn-lambda"

lock: install ## Renew requirements.lock from pyproject.toml (hashes, no index addresses)
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --upgrade --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra minio --extra s3 --extra gcs --constraint requirements.lock \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 --quiet \
	  -o controller/requirements.lock
	printf 'hatchling\neditables\n' | $(BIN)/uv pip compile - --constraint requirements.lock --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate --python-version 3.11 --quiet -o controller/build.lock

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

testbed-build: install ## Only build the test bed's servers (once, about a quarter of an hour on two cores)
	$(BIN)/python -m tests.testbed build

test: install ## Everything: checks, unit, scenario, contract and API-server tests, coverage
	@$(MAKE) --no-print-directory lint types layers verify
	@$(MAKE) --no-print-directory testbed-build || test -z "$$CI"
	$(PYTEST) -n $(TEST_WORKERS) --dist loadscope --cov --cov-report=term

test-unit: install ## Only what needs no server, in seconds
	$(PYTEST) -q tests/unit tests/scenarios

bench: install ## Measure, and print a table with the machine (not part of the tests)
	$(BIN)/python -m tests.benchmarks

run: install ## Run functions-example-repo on this machine, without a cluster: http://127.0.0.1:8080
	@$(BIN)/kn-lambda dev functions-example-repo $(RUN_FLAGS)

demo: install ## From nothing to a signed webhook, a Ready function and a dead letter replayed, with a timeline
	$(BIN)/python -m tests.demo

chart-test: install ## Lint, render, install, upgrade, roll back and uninstall the chart; rights used and refused
	$(PYTEST) -q tests/chart

chart-readme: install ## Write chart/README.md from the comments in chart/values.yaml
	$(BIN)/python -m tests.chart.readme --write

image: ## Build the controller's image (needs docker)
	$(call needs,docker)
	docker build --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) -f controller/Dockerfile -t $(IMAGE):$(IMAGE_TAG) .

kind-up: ## A kind cluster with a local registry and Knative (needs docker, kind and kubectl)
	$(call needs,docker kind kubectl)
	docker start $(REGISTRY) >/dev/null 2>&1 || \
	  docker run -d --restart=always -p 127.0.0.1:5001:5000 --name $(REGISTRY) $(REGISTRY_IMAGE)
	kind get clusters 2>/dev/null | grep -qx $(KIND_CLUSTER) || \
	  kind create cluster --config kind-config.yaml --image $(KIND_NODE_IMAGE) --wait 120s
	set -e; for node in $$(kind get nodes --name $(KIND_CLUSTER)); do \
	  docker exec $$node mkdir -p /etc/containerd/certs.d/localhost:5001; \
	  echo '[host."http://$(REGISTRY):5000"]' | \
	    docker exec -i $$node cp /dev/stdin /etc/containerd/certs.d/localhost:5001/hosts.toml; \
	done
	docker network inspect kind --format '{{range .Containers}}{{println .Name}}{{end}}' | grep -qx $(REGISTRY) || \
	  docker network connect kind $(REGISTRY)
	kubectl --context kind-$(KIND_CLUSTER) -n kube-public create configmap local-registry-hosting --dry-run=client \
	  -o yaml --from-literal=localRegistryHosting.v1='host: "localhost:5001"' | \
	  kubectl --context kind-$(KIND_CLUSTER) apply -f -
	$(call knative,serving,$(KNATIVE_SERVING),serving-crds.yaml)
	$(call knative,eventing,$(KNATIVE_EVENTING),eventing-crds.yaml)
	kubectl --context kind-$(KIND_CLUSTER) wait --for=condition=Established --timeout=60s crd --all
	$(call knative,serving,$(KNATIVE_SERVING),serving-core.yaml)
	$(call knative,eventing,$(KNATIVE_EVENTING),eventing-core.yaml)
	$(call knative-net,kourier,$(KNATIVE_KOURIER),kourier.yaml)
	kubectl --context kind-$(KIND_CLUSTER) -n knative-serving patch configmap config-network --type merge \
	  -p '{"data":{"ingress-class":"kourier.ingress.networking.knative.dev"}}'
	kubectl --context kind-$(KIND_CLUSTER) -n knative-serving wait --for=condition=Available --timeout=300s \
	  deployment --all

deploy: image ## Put the image into kind's registry and install the chart (needs docker, kind, kubectl and helm)
	$(call needs,docker kind kubectl helm)
	docker push --quiet $(IMAGE):$(IMAGE_TAG)
	helm --kube-context kind-$(KIND_CLUSTER) upgrade --install knative-lambda chart --namespace knative-lambda \
	  --create-namespace -f chart/values-kind.yaml --set image.tag=$(IMAGE_TAG) --wait --timeout 3m

kind-down: ## Delete the kind cluster and its registry (needs docker and kind)
	$(call needs,docker kind)
	kind delete cluster --name $(KIND_CLUSTER)
	docker rm --force $(REGISTRY)

# $(call needs,PROGRAMS): says what is missing, and that docker must run.
define needs
	@for program in $(1); do command -v $$program >/dev/null || \
	  { echo "make $@ needs $$program on PATH; docs/how-to/install-kind.md says where to get it" >&2; exit 1; }; done
	@case " $(1) " in *" docker "*) docker info >/dev/null 2>&1 || \
	  { echo "make $@ needs a running docker: 'docker info' fails" >&2; exit 1; };; esac
endef

define knative
	kubectl --context kind-$(KIND_CLUSTER) apply --server-side \
	  -f https://github.com/knative/$(1)/releases/download/$(2)/$(3)
endef

define knative-net
	kubectl --context kind-$(KIND_CLUSTER) apply --server-side \
	  -f https://github.com/knative-extensions/net-$(1)/releases/download/$(2)/$(3)
endef

clean: ## Remove what the other targets made (not the test bed's built servers)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* dist
	find controller tests -name __pycache__ -prune -exec rm -rf {} +
