# What a fresh machine needs: Python >= 3.11 with venv, and make. Everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The lock files name everything, with hashes, so pip resolves nothing: a release made after the lock changes nothing.
LOCKED := --quiet --retries 10 --no-deps --require-hashes
# What decides how the project is installed; the metadata of an editable install is written once.
PROJECT := pyproject.toml producer/birdfeed/_version.py

# The tests start some hundred Pythons; where this is set, each of them compiles the project and the tests anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo check check-types check-imports check-security test test-slow test-pythons coverage soak lint docs site media-prices price-diff recordings bench lock release clean

help: ## Show this.
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 21

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "birdfeed needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python has no venv here; on Debian: apt-get install python3-venv"; exit 1; }

# The demo needs no test tools.
$(DEMO): $(PROJECT) requirements/run.txt | $(BIN)/python
	$(PIP) install $(LOCKED) -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $@

$(STAMP): $(PROJECT) requirements/dev.txt | $(BIN)/python
	$(PIP) install $(LOCKED) -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	$(PIP) check
	@touch $@ $(DEMO)

demo: $(DEMO) ## The main job, end to end, on embedded servers.
	$(BIN)/birdfeed demo

# Lint, types, import contracts and security lint: what `check` and `test` have in common.
define STATIC
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory -j3 check-types check-imports check-security
endef

# Each takes one core for seconds.
check-types:
	$(BIN)/mypy

check-imports:
	$(BIN)/lint-imports

check-security:
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive schemas producer worker sandbox cli

check: $(STAMP) ## Before each commit: lint, types, import contracts, unit tests but the heavy ones.
	$(STATIC)
	$(BIN)/pytest tests/unit -m "not soak and not slow and not heavy" -n 3 --dist loadfile -q

test: $(STAMP) ## All tests but the slow ones, lint and types first.
	$(STATIC)
	$(BIN)/pytest -m "not soak and not slow" -n 4 --dist loadfile

test-slow: $(STAMP) ## What doesn't fit into `make test`: the release, built and compared.
	$(BIN)/pytest -m slow -n 2 --dist loadfile

test-pythons: $(STAMP) ## The unit tests under each other Python that birdfeed supports and this machine has.
	BIN=$(BIN) .ci/test-pythons

coverage: $(STAMP) ## What of the code the quick in-process tests run; fails below the share in pyproject.toml.
	$(BIN)/pytest tests/unit tests/integrations -m "not soak and not slow" -n 4 --dist loadfile -q --cov --cov-report=term:skip-covered

soak: $(STAMP) ## The long tests.
	$(BIN)/pytest -m soak

lint: $(STAMP) ## Format and lint.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP) ## Write the references and pictures that are made from the code.
	$(BIN)/python -m docs.scripts.references settings > docs/reference/settings.md
	$(BIN)/python -m docs.scripts.references metrics > docs/reference/metrics.md
	$(BIN)/python -m docs.scripts.cli_reference > docs/reference/cli.md
	$(BIN)/python -m docs.scripts.api_reference > docs/reference/api.md
	$(BIN)/python .ci/meters_page.py > docs/reference/meters.md
	$(BIN)/python -m docs.scripts.columns > docs/reference/columns.md
	$(BIN)/python -m docs.scripts.apps > docs/how-to/whole-apps.md
	$(BIN)/python -m docs.scripts.folders
	$(BIN)/python -m docs.scripts.pictures

site: $(STAMP) ## The documentation site, into site/; nothing in it is loaded from the network.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

media-prices: $(STAMP) ## Renew the prices of public image, video, speech and OCR models.
	$(BIN)/python .ci/media_prices.py

recordings: $(STAMP) ## Renew the recorded usage objects of SDKs and frameworks, each in an environment of its own.
	$(BIN)/python .ci/record_usages.py

price-diff: $(STAMP) ## Compare token prices with litellm's bundled map.
	$(BIN)/python .ci/price_diff.py

bench: $(STAMP) ## Benchmarks; ratios, measured in one run.
	for name in producer enrich deliver slow_sink backlog latency compress scale; do echo "== $$name"; $(BIN)/python -m bench.$$name || exit 1; done

# uv comes into an environment of its own: it is no part of the lock it makes.
UV := .venv-uv/bin/uv
LOCK := $(UV) pip compile pyproject.toml --no-config --universal --python-version 3.11 --generate-hashes \
  --no-strip-extras --no-emit-index-url --no-header --no-annotate --quiet $(if $(UPGRADE),--upgrade)
RUN := --extra worker --extra embedded --extra console --extra sandbox

lock: ## Add to the lock files what pyproject.toml asks for; UPGRADE=1 moves every pin to the newest version.
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(LOCK) $(RUN) --group dev -o requirements/dev.txt
	$(LOCK) $(RUN) --group build -c requirements/dev.txt -o requirements/run.txt

# Times inside the archives are the last commit's, so that whoever builds this commit gets the same bytes.
release: $(STAMP) ## Build sdist, wheel, SBOM, constraints and checksums into dist/, and check them.
	@test -z "$$(git status --porcelain)" || { echo "uncommitted changes: a release is built from a commit"; exit 1; }
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python .ci/release.py dist
	$(BIN)/python .ci/check_wheel.py dist/*.whl

clean: ## Remove what was made here.
	rm -rf $(VENV) .venv-* .birdfeed dist build site .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
