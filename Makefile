# Two commands do everything on a fresh machine with python3 (3.11 or newer) and make:
#   make demo   environment, then the whole job on synthetic paddocks
#   make test   environment, then every check and test
#   make dist   environment, then a wheel and an sdist in dist/
#   make docs   environment, then the documentation as a site in build/docs
#   make bench  environment, then the table of benchmarks (DATA=folder for real photographs)
#   make gpu    environment, then what only a GPU can show; under 10 minutes on one
#   make jobs   environment with ray[default], then a sweep sent by deploy/submit.sh to a head on this machine

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One thread a process: several share the cores, and threads that wait for each other on busy cores take far longer.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test tests lint docs quick lowest bench gpu jobs constraints dist clean

demo: $(READY)
	$(BIN)/forage demo --out demo

# Checks and tests side by side: no core waits for mypy or for the last file. Three tests at a time, not one a core: what
# starts Ray waits much, and each Ray measures out the machine's cores itself. In the order of their names: by default
# files of few tests, which here are the long ones, come last.
test: $(READY)
	$(MAKE) --jobs 3 lint docs tests

tests: $(READY)
	$(PYTEST) --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 10

quick: $(READY)  ## the tests that take less than half a second each
	$(PYTEST) -m "not slow and not heavy" --numprocesses auto --dist loadfile --durations 10

lowest: .venv-lowest/.ready  ## the tests that start no Ray with each dependency at its lower bound in pyproject.toml
	.venv-lowest/bin/python -m pytest -m "not slow" --numprocesses auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## every warning is an error: broken links, files in no table of contents
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env docs build/docs

bench: $(READY) .venv-autogluon/.ready
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu $(if $(DATA),--data $(DATA))

jobs: .venv-jobs/.ready
	.venv-jobs/bin/python -m pytest tests/e2e/test_job_submission.py

constraints: $(READY)  ## pin today's versions anew
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.11 \
		--upgrade --no-annotate --no-header --output-file constraints.txt

dist: $(READY)  ## the wheel and the sdist, in dist/
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist

clean:
	rm -rf build dist .venv .venv-autogluon .venv-lowest .venv-jobs

# uv installs torch and its company in half a minute, where pip takes many. Compiled once here, or each of the many
# processes of a test run would compile torch for itself where PYTHONDONTWRITEBYTECODE is set.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "forage needs Python 3.11 or newer; set PYTHON")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraints constraints.txt --editable '.[lite,boosting,docs,trackers,dev]'
	touch $@

# Direct dependencies at their lower bounds, those of others as new as they go with them.
.venv-lowest/.ready: $(READY) pyproject.toml
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-lowest/bin/python --resolution lowest-direct \
		--editable '.[lite,boosting,trackers,docs,dev]'
	touch $@

# Apart, because every Ray session takes half as much CPU again where ray[default] is installed.
.venv-jobs/.ready: $(READY)
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-jobs
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-jobs/bin/python --constraints constraints.txt \
		--editable '.[jobs,dev]'
	touch $@

# AutoGluon wants versions of its own, so it gets an environment of its own; only a benchmark starts it.
.venv-autogluon/.ready: $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-autogluon
	$(BIN)/uv pip install --quiet --python .venv-autogluon/bin/python autogluon.core==1.6.3
	touch $@
