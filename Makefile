# Everything from nothing: `make demo` and `make test` make the virtual environment they need, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := .venv/.demo
FLOORS := .venv-floors/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test slow floors matrix lint unit bench evidence docs clean
# A file's tests stay in one process, which imports and prepares for them once; the longest come first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

help: ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

# Made again only when the dependencies change. Python compiles what it imports; most of what is installed never is.
# It keeps what it compiled, also where the environment says otherwise: some fifty processes import the libraries anew.
export PYTHONDONTWRITEBYTECODE :=
$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	@touch $@

# The demo needs a third of it, and nothing where all is there.
$(DEMO): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -e $(READY) || $(BIN)/python -m pip install --quiet --no-compile --editable '.[vision,plots]'
	@touch $@

demo: $(DEMO) ## what mixing does to a model trained on the bundled images: three minutes, after what it needs is installed (without the tools of developers)
	$(BIN)/hf-mixup compare emoji_image

test: $(READY) ## linters, types, tests and doctests, side by side
	$(MAKE) --jobs 2 lint unit

unit: $(READY) ## tests and doctests
	$(PYTEST)

slow: $(READY) ## the tests that are longer than a minute (every architecture, whole notebooks), and those on a quantised model
	$(BIN)/python -m pip install --quiet torchao==0.18.0
	$(PYTEST) --dist load -m slow

floors: ## the tests of engine and trainers with the lowest releases that pyproject.toml declares, and without the extras
	@test -x $(FLOORS) || $(PYTHON) -m venv .venv-floors
	$(FLOORS) -m pip install --quiet --no-compile --editable . $$($(FLOORS) tests/floors.py) pytest
	$(FLOORS) -m pytest tests/engine/test_engine.py tests/integrations/test_trainer.py tests/engine/test_invariants.py tests/integrations/test_freed.py tests/engine/test_bad_input.py

matrix: $(READY) ## the same tests with the newest releases, with every Python from 3.10 on that is installed, and without extras
	$(BIN)/python -m pip install --quiet 'tox>=4.21'
	$(BIN)/python -m tox

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) ## speed as ratios: kernels against their peers, a step of every method against the plain Trainer's, with its memory; memory of cached gradients and of token losses
	$(BIN)/python tests/benchmarks/bench_blend.py
	$(BIN)/python tests/benchmarks/bench_images.py
	$(BIN)/python tests/benchmarks/bench_step.py
	$(BIN)/python tests/benchmarks/bench_python.py
	$(BIN)/python tests/benchmarks/bench_scaling.py
	$(BIN)/python tests/benchmarks/bench_gpu.py
	$(BIN)/python tests/benchmarks/bench_pairs.py
	$(BIN)/python tests/benchmarks/bench_tokens.py

evidence: $(READY) ## measure every table of the README again: two hours (some of it: python recipes/evidence.py image)
	$(BIN)/python recipes/evidence.py

# Images of methods and notebooks that were run stay in runs/docs-images and runs/docs-notebooks, for the next time.
NOTEBOOKS ?= yes
docs: $(READY) ## the documentation, in runs/docs; it runs the notebooks that have changed (NOTEBOOKS=no leaves their outputs out)
	NO_MKDOCS_2_WARNING=1 DOCS_NOTEBOOKS=$(NOTEBOOKS) $(BIN)/python -m mkdocs build -f hf_mixup/docs/site/mkdocs.yml

clean: ## remove the virtual environment and caches
	rm -rf .venv .venv-floors .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
