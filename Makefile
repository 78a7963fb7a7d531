# Everything is set up on first use, outside the tree, in $(CACHE). `make help` lists the targets.
PYTHON ?= python3.11
CACHE  ?= $(or $(filter /%,$(XDG_CACHE_HOME)),$(HOME)/.cache)/podidentity
ifneq ($(words x$(or $(XDG_CACHE_HOME),$(HOME))x$(CACHE)),1)
$(error make cannot handle the spaces in '$(or $(XDG_CACHE_HOME),$(HOME))': set XDG_CACHE_HOME to a path without)
endif
# One environment per lock and per checkout: two clones never share an editable install.
CHECKOUT := $(shell pwd | sha256sum | cut -c1-6)
LOCK_KEY := $(shell cat requirements.lock requirements-dev.lock Makefile | sha256sum | cut -c1-10)-$(CHECKOUT)
RUN_ENV := $(CACHE)/run-$(LOCK_KEY)
DEV_ENV := $(CACHE)/dev-$(LOCK_KEY)
# The Kubernetes minor that the real API server and kubectl have; `make kube-assets KUBE_MINOR=1.37` builds another one.
export KUBE_MINOR ?= 1.34
KUBE_ASSETS := $(CACHE)/kube-$(KUBE_MINOR)
export PATH := $(PATH):/usr/sbin:/sbin:$(DEV_ENV)/bin:$(KUBE_ASSETS):$(CACHE)/tofu

.DEFAULT_GOAL := help
.PHONY: help demo test kube-assets tofu sdk-js azure-cli check bench faults scenarios manifests goldens dist lock clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(RUN_ENV)/ok ## the walkthrough on this machine, from an empty directory to the secret read by the pod
	@sh tools/system-tools '$(RUN_ENV)'
	@$(RUN_ENV)/bin/podidentity lab demo $(DEMO_ARGS)

test: $(DEV_ENV)/ok ## all tests (a test whose system part is missing says so and is skipped; PODIDENTITY_NO_SKIP=1 makes that a failure)
	@sh tools/system-tools '$(DEV_ENV)'
	@$(DEV_ENV)/bin/python -m pytest $(TEST_ARGS)

kube-assets: ## builds the real kube-apiserver, etcd, kubectl and helm, once (needs Go); tests and `lab --api-server=real` use them
	@sh tools/kube-assets/build '$(KUBE_ASSETS)' '$(KUBE_MINOR)'

tofu: ## builds OpenTofu, and stand-ins for the providers of deploy/terraform, once (needs Go)
	@sh tools/tofu/build '$(CACHE)/tofu'

sdk-js: ## installs the JavaScript SDK that some tests ask with, once (needs node and npm)
	@sh tools/sdk-js/build

azure-cli: ## installs azure-cli for the lab's image of that name, once
	@PYTHON='$(PYTHON)' sh tools/azure-cli/build '$(CACHE)/azure-cli'

check: $(DEV_ENV)/ok ## ruff (all rules), format, strict types, import contracts, dead code, sizes, docs
	@$(DEV_ENV)/bin/ruff check .
	@$(DEV_ENV)/bin/ruff format --check .
	@$(DEV_ENV)/bin/mypy
	@$(DEV_ENV)/bin/lint-imports --no-cache
	@$(DEV_ENV)/bin/vulture
	@$(DEV_ENV)/bin/python tests/house_rules.py
	@$(DEV_ENV)/bin/python -m pytest -q -m 'not e2e' tests/docs

bench: $(DEV_ENV)/ok ## prints the benchmark tables
	@sh tools/system-tools '$(DEV_ENV)'
	@$(DEV_ENV)/bin/python benchmarks/run.py $(BENCH_ARGS)

faults: $(DEV_ENV)/ok ## the long fault tables
	@sh tools/system-tools '$(DEV_ENV)'
	@PODIDENTITY_FAULTS=long $(DEV_ENV)/bin/python -m pytest -m faults $(TEST_ARGS)

scenarios: $(DEV_ENV)/ok ## plays all acceptance scenarios and writes docs/reference/scenarios.md anew from what they took
	@sh tools/system-tools '$(DEV_ENV)'
	@rm -rf $(CACHE)/scenario-times
	@PODIDENTITY_NO_SKIP=1 PODIDENTITY_SCENARIO_TIMES=$(CACHE)/scenario-times $(DEV_ENV)/bin/python -m pytest -q tests/scenarios/test_acceptance.py
	@PYTHONPATH=. $(DEV_ENV)/bin/python tests/scenarios/page.py $(CACHE)/scenario-times

manifests: ## writes the variants of deploy/deployment-rbac.yaml anew, after a change of it
	@$(PYTHON) tools/manifest_variants.py

goldens: manifests $(DEV_ENV)/ok ## writes the golden files of tests/charts and the page of the chart's values anew, after a change of the chart
	@$(DEV_ENV)/bin/python tools/chart_values.py
	@PYTHONPATH=. $(DEV_ENV)/bin/python tests/charts/goldens.py

dist: $(DEV_ENV)/ok ## wheel, sdist, SBOM and SHA256SUMS of the last commit into dist/, the same bytes wherever they are made
	@sh tools/dist '$(DEV_ENV)' dist

lock: $(DEV_ENV)/ok ## resolve the dependencies anew and write the hashed locks
	@$(DEV_ENV)/bin/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --universal --extra lab pyproject.toml -o requirements.lock
	@$(DEV_ENV)/bin/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --universal --extra lab --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	@$(DEV_ENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --universal -c requirements.lock pyproject.toml -o requirements-image.lock
	@$(DEV_ENV)/bin/uv pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --universal -c requirements-dev.lock --group build -o requirements-build.lock

clean: ## remove this checkout's environments, and what tests leave in the tree
	@rm -rf '$(CACHE)'/run-*-$(CHECKOUT) '$(CACHE)'/run-*-$(CHECKOUT).lock '$(CACHE)'/dev-*-$(CHECKOUT) '$(CACHE)'/dev-*-$(CHECKOUT).lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_ENV)/ok: requirements.lock
	@sh tools/make-env '$(PYTHON)' '$(RUN_ENV)' requirements.lock

$(DEV_ENV)/ok: requirements-dev.lock
	@sh tools/make-env '$(PYTHON)' '$(DEV_ENV)' requirements-dev.lock
