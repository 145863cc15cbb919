# Everything from nothing: `make demo` and `make test` make the virtual environment they need, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := .venv/.demo
FLOORS := .venv-floors/bin/python
TOX := .venv-tox/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test slow floors matrix lint unit bench evidence docs clean
# A file's tests stay in one process, which imports and prepares for them once; the longest come first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# What each extra is for.
OF_EXTRAS := tests/data tests/plots tests/augment tests/metrics tests/experiments/test_image_changes.py \
	tests/experiments/test_audio_task.py tests/experiments/test_sweep.py tests/experiments/test_shared_sweep.py \
	tests/experiments/test_cluster.py tests/experiments/test_playground.py

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

# An empty environment each time: what an earlier run left would hide what is missing.
floors: ## tests with the lowest releases that pyproject.toml declares: engine and trainers without the extras, then what each extra is for
	$(PYTHON) -m venv --clear .venv-floors
	$(FLOORS) -m pip install --quiet --no-compile --editable . $$($(FLOORS) tests/floors.py) pytest hypothesis
	$(FLOORS) -m pytest tests/engine/test_engine.py tests/integrations/test_trainer.py tests/engine/test_invariants.py tests/integrations/test_freed.py tests/engine/test_bad_input.py
	$(FLOORS) -m pip install --quiet --no-compile $$($(FLOORS) tests/floors.py extras)
	$(FLOORS) -m pytest $(OF_EXTRAS)

# pyenv has every Python, but on the PATH one alone.
matrix: ## the same tests with the newest releases, with every Python from 3.10 on that is installed (it says SKIP of others), and without extras
	@test -x $(TOX) || $(PYTHON) -m venv .venv-tox
	$(TOX) -m pip install --quiet 'tox>=4.21'
	PATH="$$PATH$$(printf ':%s' $${PYENV_ROOT:-$$HOME/.pyenv}/versions/*/bin)" $(TOX) -m tox

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
	rm -rf .venv .venv-floors .venv-tox .tox .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
