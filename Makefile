# Every target makes .venv itself and installs what it needs; stamp files keep a second run from
# installing, or downloading, anything.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
PIP := $(BIN) -m pip --disable-pip-version-check --quiet

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@echo "make TARGET [PYTHON=python3.13]"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile

.PHONY: demo
demo: $(VENV)/.runtime ## play the example: applicants whose pages arrive out of order and at once
	@$(BIN) manage.py demo

# What shares servers and workers stays together: the tests of a class, or else of a module. Many
# of them wait, so there are more processes than processors.
PROCESSES ?= 3
PARALLEL = --numprocesses=$(PROCESSES) --dist=loadscope

# Coverage starts before pytest, which loads our own pytest plugin before any other.
.PHONY: test
test: $(VENV)/.test-runner ## run the tests; fail below 95 % coverage, below 100 % of the core
	@$(BIN) -m coverage erase
	$(BIN) -m coverage run -m pytest $(PARALLEL) --ignore=tests/docs --ignore=tests/packaging
	@$(BIN) -m coverage combine --quiet
	$(BIN) -m coverage report --fail-under=95
	$(BIN) -m coverage report --fail-under=100 \
		--include='triggers/engine.py,triggers/engine/*,triggers/conditions.py,triggers/conditions/*'

.PHONY: check
check: $(VENV)/.dev ## lint, types, layers, migrations, packages, documentation and its snippets
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN) -m django makemigrations --check --dry-run
	$(BIN) -m sphinx -E -n -W --keep-going -q -b html docs docs/_build/html
	$(BIN) -m pytest tests/unit/test_layers.py tests/docs tests/packaging

.PHONY: docs
docs: $(VENV)/.docs-builder ## build the documentation in docs/_build/html
	$(BIN) -m sphinx -E -n -W --keep-going -b html docs docs/_build/html

.PHONY: bench
bench: $(VENV)/.benchmarks ## run the benchmarks (BENCH="redis --quick"); fail where a limit is not kept
	$(BIN) -m benchmarks $(BENCH)

JOINS ?= 10000
SEED ?= 1
STORAGE ?= postgresql
BROKER ?= redis

.PHONY: chaos
chaos: $(VENV)/.test-runner ## kill everything while JOINS=10000 complete; SEED=1 STORAGE=postgresql|redis|sqlite BROKER=redis|rabbitmq
	$(BIN) -m tests.chaos --joins $(JOINS) --seed $(SEED) --storage $(STORAGE) --broker $(BROKER)

MINUTES ?= 10
# All that draw, but those that break something and wait for luck to find it.
DRAWN = $(filter-out %_sabotage.py,$(shell grep -lE '^from (hypothesis|tests.*machine) ' tests/*/test_*.py))

.PHONY: fuzz
fuzz: $(VENV)/.test-runner ## draw other configurations and lives than make test does, for MINUTES=10 and more
	@end=$$(($$(date +%s) + 60 * $(MINUTES))); \
	while [ $$(date +%s) -lt $$end ]; do \
		seed=$$($(BIN) -c 'import secrets; print(secrets.randbits(48))'); echo "--hypothesis-seed=$$seed"; \
		$(BIN) -m pytest -q -x --hypothesis-seed=$$seed $(DRAWN) || exit 1; \
	done

.PHONY: mysql
mysql: $(VENV)/.mysql ## install the driver of the MariaDB tests (needs gcc, pkg-config, libmariadb-dev)

.PHONY: clean
clean: ## remove .venv and everything that was built
	rm -rf $(VENV) .tox build dist triggers.egg-info docs/_build
	rm -rf .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache

# What an extra contains needs no install of its own afterwards.
$(VENV)/.test-runner: contains := .runtime
$(VENV)/.docs-builder: contains := .runtime
$(VENV)/.benchmarks: contains := .runtime
$(VENV)/.dev: contains := .runtime .test-runner .docs-builder

$(VENV)/.runtime: pyproject.toml $(VENV)/bin/pip
	@echo "Installing triggers"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.%: pyproject.toml $(VENV)/bin/pip
	@echo "Installing triggers[$*]"
	@$(PIP) install --editable '.[$*]'
	@touch $@ $(addprefix $(VENV)/,$(contains))

# venv installs pip last: without it, the environment is incomplete.
$(VENV)/bin/pip:
	$(require-python)
	@echo "Making $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV)

# An environment of another Python than the one asked for is made again.
ifneq ($(origin PYTHON),file)
version := 'import sys; print(sys.version)'
ifneq ($(wildcard $(BIN)),)
ifneq ($(shell { "$(PYTHON)" -c $(version); } 2>/dev/null),$(shell { $(BIN) -c $(version); } 2>/dev/null))
.PHONY: $(VENV)/bin/pip
endif
endif
endif

define probe
import importlib.util as util, sys; \
print("it is Python %d.%d, and triggers needs 3.11 or newer (Debian 12: apt-get install python3)" \
% sys.version_info[:2] if sys.version_info < (3, 11) \
else "its module venv is incomplete (Debian: apt-get install python3-venv)" \
if not (util.find_spec("venv") and util.find_spec("ensurepip")) else "")
endef

problem = $(shell if command -v "$(PYTHON)" >/dev/null; \
	then "$(PYTHON)" -c '$(probe)' 2>/dev/null || echo "it does not run, or is older than Python 3 (triggers needs 3.11 or newer)"; \
	else echo "there is no such command (Debian: apt-get install python3 python3-venv)"; fi)

# $(error) prints one line and ends make.
require-python = $(foreach why,$(subst $() ,_,$(problem)),$(error $(PYTHON) cannot be used: $(subst _, ,$(why))))
