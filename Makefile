# Two commands matter: `make quickstart` and `make test`. Each makes .venv, installs with constraints.txt, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
SWEEP ?= experiments/sweeps/quickstart.yaml
STORE ?= .
# studies with records, in the order of the gallery
STUDIES := $(addprefix reports/,quickstart isoflop-speeches isoflop-imdb tuned-speeches known-truth-markov known-truth-zipf-half known-truth-zipf-one kaplan data-constrained width-depth learning-rate families positions optimizers peft peft-sentiment lora-rank transfer)

.PHONY: install quickstart test lint coverage smoke docs clean reports

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "isoflop needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data]'
	touch $(STAMP)

$(DEV): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(DEV)

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(DOCS)

## make .venv and install the suite in it
install: $(STAMP)

## train the quickstart grid, fit the law, write reports/quickstart/report.html
quickstart: $(STAMP)
	$(BIN)/python -m experiments run $(SWEEP) --store $(STORE)
	$(BIN)/python -m experiments archive $(STORE)/sweeps/quickstart.json --out reports/quickstart/records.parquet
	$(BIN)/python -m analysis report reports/quickstart/records.parquet --out reports/quickstart
	$(BIN)/python -m isoflop rebuild $(STUDIES) --index reports/index.html --only-index

## lint, types, layers, tests: two processes, since two of one thread beat one of two
test: $(DEV) lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

## which lines no test reaches: a table, and build/coverage/index.html
coverage: $(DEV)
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html:build/coverage

## make the reports again from the records beside them, without torch; says which numbers differ
reports: $(STAMP)
	$(BIN)/python -m isoflop rebuild $(STUDIES) --index reports/index.html
	$(BIN)/python -m isoflop rebuild reports/muon
	$(BIN)/python reports/refresh.py

## a quickstart in miniature, and a check of its report
smoke: $(STAMP)
	$(BIN)/python -m experiments run experiments/sweeps/smoke.yaml --store build/smoke
	$(BIN)/python -m analysis report build/smoke/sweeps/smoke.json --out build/smoke/report
	$(BIN)/python .ci/check_report.py build/smoke/report

## the documentation as a site, build/docs/index.html; any warning is an error
docs: $(DOCS)
	PYTHONPATH=$(CURDIR) $(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
