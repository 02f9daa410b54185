# Everything is installed into .venv and built into .build; nothing leaves this folder.
SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

bin := .venv/bin
staged := tools/staged.sh
export PATH := $(CURDIR)/$(bin):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.venv/collections
# Compiled Python is kept, whatever the environment says: to compile the tests takes ten seconds in each worker.
unexport PYTHONDONTWRITEBYTECODE

ARGS ?=
# Tests wait for more than half of their time: five to two cores.
WORKERS ?= $(shell echo $$(( ($$(nproc) * 5 + 1) / 2 )))
RUN := $(bin)/pytest --numprocesses $(WORKERS) --no-loadscope-reorder
# The stand-in's own tests run when it changed: tests/unit has one that compares its digest.
PYTEST := $(RUN) --dist loadfile -m "not majors" --ignore=tests/standin/tests $(ARGS)
TESTS ?= tests

# The slowest first: two run at a time.
GATES := sanity-pylint sanity-others lint-galaxy lint-ansible lint-docs lint-python lint-types lint-imports lint-payloads lint-roles lint-prose lint-spelling lint-yaml lint-workflows lint-changelog lint-environment
CORES := 2.16 2.17 2.18 2.19

.PHONY: help
help: ## Show this
	@echo "Targets (the first use sets up .venv; PYTHON=... names an interpreter, 3.11 to 3.13):"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand --tabs=22

.venv/.ready: requirements-dev.txt tools/setup.sh
	@PYTHON="$(PYTHON)" tools/setup.sh
	@touch $@

.PHONY: setup
setup: .venv/.ready ## Set up .venv, if it is not or its requirements changed

.PHONY: demo
demo: setup ## Back up, verify, damage and restore a database on a throwaway server: the collection in three minutes
	@$(bin)/python tools/demo.py

# --- tests

.PHONY: test test-unit test-database test-integration
test: lint ## Every gate and every test, on real servers (ARGS="-k ..." narrows the tests)
	@$(PYTEST) tests
	@echo "All gates and all tests passed."

test-unit: setup ## The tests that need no server
	@$(PYTEST) tests/unit

test-database: setup ## The tests against PostgreSQL servers
	@$(PYTEST) tests/database

test-integration: setup ## Whole playbooks, as a user runs them
	@$(PYTEST) tests/integration

.PHONY: test-majors test-standin test-core coverage
test-majors: setup ## What `make test` leaves out: the majors between, and all of the corpora on every major
	@$(RUN) --dist load -m majors $(ARGS) tests

test-standin: setup ## The stand-in for a cluster against recordings of a real one, after it changed
	@$(RUN) --dist loadfile $(ARGS) tests/standin/tests
	@$(if $(ARGS),,$(bin)/python -m tests.standin.digest)

test-core: setup ## The tests under another ansible-core: CORE=2.16 (the tests of `make test` are under the newest)
	@tools/test_core.sh $(or $(CORE),$(firstword $(CORES))) $(PYTEST:$(bin)/pytest%=%) $(TESTS)

coverage: setup ## What the tests run of plugins/ (TESTS=tests/unit narrows them), into .build/coverage
	@mkdir -p .build/coverage && rm -rf .build/coverage/*
	@$(bin)/coverage run -m $(PYTEST:$(bin)/%=%) $(TESTS); status=$$?; \
	    $(bin)/coverage combine --quiet && $(bin)/coverage html --quiet && $(bin)/coverage xml --quiet \
	    && $(bin)/coverage report | tee .build/coverage/report.txt && exit $$status

.PHONY: test-kubernetes a-cluster
test-kubernetes: a-cluster setup ## The tests of pods, in the namespace PG_RUNBOOK_TEST_NAMESPACE of the cluster KUBECONFIG
	@$(RUN) --dist loadfile $(ARGS) -rs -m cluster tests/kubernetes

a-cluster:
	@for name in KUBECONFIG PG_RUNBOOK_TEST_NAMESPACE; do \
	    [ -n "$${!name}" ] || { echo "$$name is not set: see \"On a real cluster\" in CONTRIBUTING.md." >&2; exit 1; }; \
	done

.PHONY: bench
bench: setup ## Ratios against the bare tools (SIZE=2GB chooses the database's size)
	@$(bin)/python -m tests.benchmarks $(if $(SIZE),--size $(SIZE)) $(ARGS)

# --- gates

.PHONY: lint $(GATES) sanity sanity-matrix format
lint: setup ## Every gate, two at a time
	@$(MAKE) --keep-going --jobs=2 $(GATES)

lint-python: setup ## ruff: rules and format
	@tools/gate.sh ruff bash -c 'ruff check --quiet --output-format concise && ruff format --check'

lint-types: setup ## mypy, strict, on plugins/
	@tools/gate.sh mypy mypy

lint-imports: setup ## import-linter: arrows between packages point down (docs/architecture.md)
	@PYTHONPATH=.venv/collections tools/gate.sh imports lint-imports --no-cache

lint-payloads: setup ## No module ships more than it may
	@tools/gate.sh payloads $(bin)/python tools/payloads.py

lint-roles: setup ## What `make roles` writes is as it would write it
	@tools/gate.sh roles $(bin)/python tools/roles.py --check

lint-prose: setup ## Words and openings that hide who acts (CONTRIBUTING.md, "Prose")
	@tools/gate.sh prose $(bin)/python tools/prose.py

lint-spelling: setup ## codespell: common misspellings
	@tools/gate.sh codespell codespell

lint-yaml: setup ## yamllint
	@tools/gate.sh yamllint yamllint --strict .

lint-ansible: setup ## ansible-lint, profile production
	@tools/gate.sh ansible-lint $(staged) ansible-lint --nocolor

lint-docs: setup ## The plugins' documentation and the references within
	@tools/gate.sh docs $(staged) antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .

lint-workflows: setup ## The workflows of public CI, which call targets of this file
	@tools/gate.sh workflows tools/workflows.sh

lint-changelog: setup ## The changelog and its fragments
	@tools/gate.sh changelog antsibull-changelog lint

lint-galaxy: setup ## Build the collection and import it as Galaxy would; warnings fail
	@tools/gate.sh galaxy $(staged) tools/importer.sh

lint-environment: setup ## The files for execution environments
	@tools/gate.sh environment $(staged) tools/environment.sh

sanity: sanity-pylint sanity-others ## ansible-test sanity under the newest supported ansible-core

sanity-pylint: setup ## The half of it that is pylint
	@tools/gate.sh pylint $(staged) tools/sanity.sh --test pylint

sanity-others: setup ## All the rest
	@tools/gate.sh sanity $(staged) tools/sanity.sh --skip-test pylint

sanity-matrix: setup ## All of ansible-test sanity under every supported ansible-core (a Python 3.11 or 3.12 in .venv)
	@for core in $(CORES); do tools/gate.sh "core $$core" $(staged) tools/sanity.sh $$core || exit; done

format: setup ## Rewrite Python files as lint-python wants them
	@ruff check --fix --quiet; ruff format

# --- products

.PHONY: roles docs build clean distclean
roles: setup ## Write the roles' options, from the modules' documentation and tools/roles/
	@$(bin)/python tools/roles.py

docs: setup ## HTML documentation into .build/docs
	@$(staged) tools/docs.sh "$(CURDIR)/.build/docs"

build: setup ## The collection's tarball into .build
	@$(staged) ansible-galaxy collection build --force --output-path "$(CURDIR)/.build"

clean: ## Remove what was built, and the caches
	rm -rf .build .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## Remove .venv too
	rm -rf .venv
