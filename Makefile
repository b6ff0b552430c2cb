# Two commands on a fresh machine with Python 3.11 or newer:  make demo   and   make test

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test test-slow lint types reference clean

demo: $(STAMP) ## train Iris from the CSV file, print where the plots and the model are
	$(BIN)/fluxion train fluxion/data/iris.csv --target species --hidden 10 --epochs 100 --batch-size 15 \
		--learning-rate 0.001 --validation 0.3 --stratify --no-standardize --seed 0 --out runs/iris --overwrite
	@echo 'The command is $(BIN)/fluxion, or: source $(BIN)/activate'

test: $(STAMP) ## the tests, the doctests and the documentation's examples
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow"

test-slow: $(STAMP) ## the tests that take minutes, on real data (see FLUXION_DATA)
	$(BIN)/python -m pytest -q -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

reference: $(STAMP) ## write docs/reference.md from the docstrings
	$(BIN)/python docs/make_reference.py

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Fluxion needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .xla_cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
