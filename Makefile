PYTHON ?= python3
BIN := .venv/bin
export FREQDIFF_DATA

.PHONY: demo test lint wheel clean

.venv: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch .venv

demo: .venv  ## train on embedded heartbeats, sample with and without a cache, show table and pictures
	$(BIN)/python -m lightning_freqdiff fit
	$(BIN)/python benchmarks/demo.py

test: .venv  ## the default suite; SLOW=1 adds the long tests
	$(BIN)/python -m pytest $(if $(SLOW),,-m "not slow")

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/codespell

wheel: .venv  ## build the wheel through the sdist, install it in an empty folder and import it
	rm -rf dist build/wheel
	$(BIN)/python -m build --quiet
	$(BIN)/python -m venv --system-site-packages build/wheel
	build/wheel/bin/pip install --quiet --no-deps --ignore-installed dist/*.whl
	cd build/wheel && PYTHONPATH=$(CURDIR)/$(BIN)/../lib/python3.11/site-packages bin/python -P -c \
		"import lightning_freqdiff, pathlib; from lightning_freqdiff.cli import CLI; print(lightning_freqdiff.__file__)"

clean:
	rm -rf .venv build dist runs samples
