# Two commands do everything: `make demo` and `make test`. Each makes its environment when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# One torch thread a process: two multi-threaded processes on two cores run slower than one.
export OMP_NUM_THREADS ?= 1
# Processes that share the tests.
WORKERS ?= 2

.PHONY: pilot science science-check demo test test-slow test-gpu fuzz lint docs constraints mutation clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q "torch==2.13.*"
	$(BIN)/pip install -q -e ".[lab]"
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.lab
	$(BIN)/pip install -q -e ".[test]"
	touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.lab
	$(BIN)/pip install -q -e ".[docs]"
	touch $@

# Trains both recipes on real digits, compares them, and says where the report is.
demo: $(VENV)/.lab
	$(BIN)/transfuse compare --data digits --seeds 1,2 --out runs/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# 100,000 inputs for each reader of what others write (tests/fuzz/targets.py), other ones each time: hours.
fuzz: $(VENV)/.test
	FUZZ=100000 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/fuzz

# What only a GPU can show; without one each says that it skips, and why.
test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest tests/devices tests/gpu -rs

# Does the instrument work? Tunes, trains and judges a small plan (4 core-hours), and writes docs/results/pilot.md with
# its go or no-go. Stopped, it goes on; its records are in docs/results/pilot.
pilot: $(VENV)/.lab
	$(BIN)/transfuse tune docs/results/pilot-plan.yaml
	$(BIN)/transfuse compare --plan docs/results/pilot-plan.yaml

# The comparison that was written down in docs/results/prereg-scenes.yaml (16 core-hours); starts nothing unless every
# check of the pilot holds. Stopped, it goes on; its records are in docs/results/scenes.
science: $(VENV)/.lab
	$(BIN)/transfuse tune docs/results/prereg-scenes.yaml
	$(BIN)/transfuse compare --plan docs/results/prereg-scenes.yaml

# Known answers of the instrument, each shown to fail on a planted fault (docs/known-answers.md); half an hour.
ANSWERS = tests/core/test_flops.py tests/core/test_markov.py tests/core/test_weights_drawn.py \
	tests/end_to_end/test_one_seed.py tests/end_to_end/test_plan.py tests/lab/test_pilot_checks.py \
	tests/lab/test_search.py tests/plugins/diffusion/test_known_scores.py tests/plugins/scenes/test_data_set.py \
	tests/plugins/scenes/test_grammar.py tests/plugins/test_unet_patcher.py tests/training/test_resume.py
science-check: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ANSWERS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow tests/science

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# Writes anew which versions CI installs: `make constraints VENV=FOLDER`, of an environment that is not there yet.
constraints: $(VENV)/.test
	grep '^#' constraints.txt > constraints.new
	$(BIN)/pip freeze --exclude-editable --exclude torch >> constraints.new
	mv constraints.new constraints.txt

# Builds the docs as a site; a warning is an error. The variable hushes an advertisement of mkdocs-material's.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html; with its search: $(BIN)/python -m http.server --directory site"

# Breaks masks, packing and losses in thousands of ways and counts what the tests notice (docs/mutation.md).
mutation: $(VENV)/.test
	$(BIN)/pip install -q "mutmut==3.8.1"
	PATH="$(abspath $(BIN)):$$PATH" tests/mutation/run

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache .hypothesis
