# `make demo` and `make test` work on a fresh machine: each makes .venv, installs, and does its job.
# `make test` leaves out the tests marked slow, `make test-slow` runs those alone, `make test-all` all, and
# `make test-oldest` is `make test` with the oldest torch that pyproject.toml allows, in an environment of its own.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
OLDEST := torch==2.8.* torchvision==0.23.* torchao==0.13.*

PYTEST := $(VENV)/bin/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

.PHONY: demo test test-slow test-all test-oldest lint clean

$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]" $(PINS)
	touch $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/python -m pruning_lit experiment=demo

test: $(STAMP)
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(PYTEST) -m slow $(PYTEST_ARGS)

test-all: $(STAMP)
	$(PYTEST) $(PYTEST_ARGS)

test-oldest:
	$(MAKE) test VENV=.venv-oldest PINS="$(OLDEST)"

lint: $(STAMP)
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .venv-oldest build dist *.egg-info
