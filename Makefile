# What a fresh machine needs: Python >= 3.11 with venv, and make. Everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint docs bench lock clean

help: ## Show this.
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "birdfeed needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python has no venv here; on Debian: apt-get install python3-venv"; exit 1; }

# The demo needs no test tools; each list pins every package with its hash.
$(DEMO): pyproject.toml requirements/run.txt | $(BIN)/python
	$(PIP) --require-hashes -r requirements/run.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(STAMP): pyproject.toml requirements/dev.txt | $(BIN)/python
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(DEMO)

demo: $(DEMO) ## The main job, end to end, on embedded servers.
	$(BIN)/birdfeed demo

test: $(STAMP) ## All tests but the long ones, lint and types first.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not soak" -n 4 --dist loadfile --cov --cov-report=term:skip-covered

soak: $(STAMP) ## The long tests.
	$(BIN)/pytest -m soak

lint: $(STAMP) ## Format and lint.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP) ## Write the references that are made from the code.
	$(BIN)/birdfeed settings --markdown > docs/settings.md
	$(BIN)/birdfeed metrics --markdown > docs/metrics.md

bench: $(STAMP) ## Benchmarks; ratios, measured in one run.
	for name in producer enrich deliver slow_sink backlog latency compress; do echo "== $$name"; $(BIN)/python -m bench.$$name || exit 1; done

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-header --no-annotate --quiet --upgrade

lock: $(STAMP) ## Pin the newest versions that pyproject.toml allows.
	$(PIP) uv
	$(LOCK) --extra dev -o requirements/dev.txt
	$(LOCK) --extra worker --extra embedded --extra sandbox --group build -c requirements/dev.txt -o requirements/run.txt

clean: ## Remove what was made here.
	rm -rf $(VENV) .birdfeed dist build .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
