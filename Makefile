# Two commands on a fresh machine with Python 3.11 or newer:  make demo   and   make test

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test test-slow test-keras test-without-native native-sanitize lint types reference clean

demo: $(STAMP) ## train Iris from the CSV file, print where the plots and the model are
	$(BIN)/fluxion train fluxion/data/iris.csv --target species --hidden 10 --epochs 100 --batch-size 15 \
		--learning-rate 0.001 --validation 0.3 --stratify --no-standardize --seed 0 --out runs/iris --overwrite
	@echo 'The command is $(BIN)/fluxion, or: source $(BIN)/activate'

test: $(STAMP) ## the tests, the doctests and the documentation's examples
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow and not keras"

test-slow: $(STAMP) ## the tests that take minutes, on real data (see FLUXION_DATA)
	$(BIN)/python -m pytest -q -m slow

test-keras: $(STAMP) ## the comparison of the Keras dialect with Keras itself, which is installed for it
	$(BIN)/python -m pip install --quiet 'keras>=3.15'
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -m keras tests/dialects

test-without-native: $(STAMP) ## the tests as they run where the C++ library is not compiled
	FLUXION_NATIVE=off $(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow and not keras"

native-sanitize: $(STAMP) ## the tests of the C++ library, compiled with the address and undefined-behavior sanitizers
	rm -rf build/sanitize && mkdir -p build/sanitize && cp -r fluxion build/sanitize/ && rm -f build/sanitize/fluxion/native/*.so
	$(CXX) -std=c++17 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -w \
		-shared -fPIC -I$$($(BIN)/python -c 'import jax.ffi; print(jax.ffi.include_dir())') \
		fluxion/native/*.cpp -o build/sanitize/fluxion/native/_kernels.so
	PYTHONPATH=build/sanitize ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		$(BIN)/pytest -q tests/native

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
