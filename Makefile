# Two commands matter: `make figures` (the main job) and `make test`. Every target makes .venv and installs what it needs.
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
MIN := .venv-min
AUDIT := .venv-audit
BENCHMARKS := $(wildcard benchmarks/*.py)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help figures paper readme test coverage test-slow test-kernels thorough soak test-min lint audit bench notebooks docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

figures: $(VENV)/.installed-studies ## all studies, then figures, claims and the report, at the quick profile (minutes)
	$(BIN)/python -m figures.reproduce --profile quick

paper: $(VENV)/.installed-studies ## the same at the paper profile (hours)
	$(BIN)/python -m figures.reproduce --profile paper

readme: figures ## copy the gallery and the verdicts of the quick profile into README.md
	$(BIN)/python -m figures.readme

# Tests of a file share what they build; the many processes that they start share compiled sources.
test test-kernels test-min coverage: export PYTHONDONTWRITEBYTECODE :=

test: lint ## lint, then every test but the slow ones
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

coverage: $(VENV)/.installed-dev ## the same tests with coverage, which take about twice the CPU
	$(BIN)/python -m pytest --cov --numprocesses auto --dist loadfile

test-slow: $(VENV)/.installed-dev ## the tests marked slow
	$(BIN)/python -m pytest -m slow

test-kernels: export OPENBLAS_CORETYPE := Prescott
test-kernels: export MKL_ENABLE_INSTRUCTIONS := SSE4_2
test-kernels: export ATEN_CPU_CAPABILITY := default
test-kernels: export NPY_DISABLE_CPU_FEATURES := X86_V3 X86_V4 AVX512_ICL AVX512_SPR
test-kernels: $(VENV)/.installed-dev ## the tests with other arithmetic: what OpenBLAS, MKL, torch and NumPy do on CPUs without AVX
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

thorough: $(VENV)/.installed-dev ## 100,000 examples of every property not yet in tests/thorough.csv (hours; stop and go on as you like)
	$(BIN)/python -m tests.thorough

soak: $(VENV)/.installed-dev ## kill studies a thousand times and trainings fifty times, and resume them (half an hour)
	$(BIN)/python -m tests.endurance.soak sim --cycles 1000 --commands 50
	$(BIN)/python -m tests.endurance.soak lm --cycles 50 --commands 5

test-min: $(MIN)/.installed ## the tests at the oldest releases that pyproject.toml admits, with the oldest Python at best
	$(MIN)/bin/python -m pytest -W ignore::DeprecationWarning --numprocesses auto --dist loadfile

lint: $(VENV)/.installed-dev ## formatting, ruff's rules, and mypy --strict over theory
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(VENV)/.installed-dev $(AUDIT)/.created ## do installed packages fit together, and have the pinned ones known faults?
	$(BIN)/python -m pip check
	$(AUDIT)/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

bench: $(if $(BENCHMARKS),$(VENV)/.installed-bench) ## run each file of benchmarks/, then collect published.csv and README's table
	@test -n "$(BENCHMARKS)" || { echo "make bench must find a file benchmarks/*.py, found none" >&2; exit 1; }
	@set -e; for file in $(BENCHMARKS); do echo "$$file"; $(BIN)/python "$$file"; done
	$(BIN)/python benchmarks/support/published.py --readme README.md

notebooks: $(if $(NOTEBOOKS),$(VENV)/.installed-notebooks) ## open the tours of notebooks/ in JupyterLab
	@test -n "$(NOTEBOOKS)" || { echo "make notebooks must find a file notebooks/*.ipynb, found none" >&2; exit 1; }
	$(BIN)/jupyter lab notebooks

docs: $(VENV)/.installed-docs ## build the documentation into docs/_build/; warnings are errors
	$(BIN)/sphinx-build -W --keep-going --quiet --fresh-env docs docs/_build
	@echo "open docs/_build/index.html"

clean: ## remove the environment, the figures and all caches (results/ stays: it may have taken hours)
	rm -rf $(VENV) $(MIN) $(AUDIT) figures/output benchmarks/results docs/_build build *.egg-info .coverage \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is remade when pyproject.toml or constraints.txt has changed; until then a target starts at once.
$(VENV)/.installed-studies: extras := data,lm
$(VENV)/.installed-dev: extras := data,dev,docs
$(VENV)/.installed-bench: extras := data,lm,bench
$(VENV)/.installed-docs: extras := data,lm,docs
$(VENV)/.installed-notebooks: extras := data,lm,notebooks

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/.created
	$(BIN)/python -m pip install --editable '.[$(extras)]' --constraint constraints.txt
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "PYTHON must be Python 3.11 or newer, got $(PYTHON) ($$($(PYTHON) --version 2>&1));" \
		"name another one: make PYTHON=python3.13 TARGET" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Every requirement at its lower bound; what these bring along is the newest that goes with them, about which they may
# well warn.
$(MIN)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(MIN)
	grep -oE '"[A-Za-z0-9._-]+>=[0-9.]+"' pyproject.toml | tr -d '"' | sed 's/>=/==/' | sort -u >$(MIN)/constraints.txt
	PIP_CONSTRAINT=$(MIN)/constraints.txt $(MIN)/bin/python -m pip install --editable '.[data,dev,docs]'
	@touch $@

# A strict audit fails where the service of known faults is out of reach: nothing would have been audited.
$(AUDIT)/.created:
	$(PYTHON) -m venv --clear $(AUDIT)
	$(AUDIT)/bin/python -m pip install pip-audit
	@touch $@
