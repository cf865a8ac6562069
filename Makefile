# Every target sets up .venv first, once; it is set up again only when the pins or the package's metadata change.
#   make lab        JupyterLab at the first lecture       (ARGS="--port=9000" passes options on)
#   make test       every check
#   make run        every lecture from a fresh kernel: a table, and HTML under build/html/
#   make build      notebooks from their masters
#   make bench      how fast the package answers; on a GPU also its memory against the budgets
#   make bench-peers   GPTQ, SmoothQuant and AWQ beside other libraries, in environments of their own: 2 GB, an hour
#   make lock       requirements.txt from pyproject.toml  (UPGRADE=1 takes the newest versions)
#   make lint       ruff: make fmt mends what it can
#   make clean      remove what these targets made

ifeq ($(OS),Windows_NT)
PYTHON ?= python
VENV_PYTHON := .venv/Scripts/python.exe
else
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
endif
STAMP := .venv/installed.stamp
# Windows, too, reads and writes text as UTF-8.
export PYTHONUTF8 := 1

.PHONY: lab test run build bench bench-peers lock lint fmt clean setup
.DEFAULT_GOAL := lab

lab: setup
	$(VENV_PYTHON) -m tools.lab $(ARGS)

test: setup
	$(VENV_PYTHON) -m tools.test $(ARGS)

run: setup
	$(VENV_PYTHON) -m tools.run $(ARGS)

build: setup
	$(VENV_PYTHON) -m tools.build $(ARGS)

bench: setup
	$(VENV_PYTHON) -m benchmarks

bench-peers: setup
	$(VENV_PYTHON) -m benchmarks.peers $(ARGS)

lock: setup
	$(VENV_PYTHON) -m tools.lock $(if $(UPGRADE),--upgrade)

lint: setup
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .

fmt: setup
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

clean:
	rm -rf .venv build dist coursepkg.egg-info .pytest_cache .ruff_cache .hypothesis

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) tools/python_version.py
	$(PYTHON) -m venv .venv
	$(VENV_PYTHON) -m pip install --disable-pip-version-check -r requirements.txt
	$(VENV_PYTHON) -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)
