# Everything a fresh machine needs: `make infer` and `make test` set up a virtual environment and use it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: infer test static peers clean

infer: $(VENV)/.installed
	$(BIN)/nuppl infer models/reactor.py --overwrite

test: $(VENV)/.tested
	$(BIN)/python -m pytest

static: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Other people's programs that tests and benchmarks compare with; tests that need one skip where it is missing.
peers: $(VENV)/.installed
	$(PIP) -e ".[peers]"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
