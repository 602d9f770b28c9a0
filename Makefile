# Two commands on a fresh machine: `make run` and `make test`.
# The first of these that runs; a name that an installer of versions left without one does not.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13; do "$$name" -c '' 2>/dev/null && echo "$$name" && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run test test-fast check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "installing into $(VENV): about 2 GB, a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $(STAMP)

run: setup
	$(BIN)/ring run laptop

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-fast: setup
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

check: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/ty check
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .ring build *.egg-info
