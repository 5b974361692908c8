# Everything a fresh machine needs: `make infer` and `make test` set up a virtual environment and use it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: infer test static peers arviz clean

infer: $(VENV)/.installed
	$(BIN)/nuppl infer models/reactor.py --overwrite

# Two processes with one thread each: tests are many and small.
test: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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

# ArviZ 1 needs Python 3.12 and lives apart; the test that reads results with it skips where it is missing.
MODERN ?= python3.14 python3.13 python3.12 $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python)
arviz:
	@for python in $(MODERN); do \
	    if $$python -m venv .venv-arviz 2> /dev/null; then \
	        exec .venv-arviz/bin/python -m pip install --quiet --disable-pip-version-check "arviz>=1,<2" netcdf4; \
	    fi; \
	done; echo "no Python 3.12 or newer; name one: make arviz MODERN=..."

clean:
	rm -rf $(VENV) .venv-arviz build *.egg-info
