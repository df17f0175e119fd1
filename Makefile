# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment first.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Compiled modules halve the time a command takes to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test slow submissions lint format docs site dist benchmark benchmark-gpu install clean

demo: install  ## CAFE over leave-none on the embedded suite, and the report
	$(BIN)/fergen-bench run --method cafe --protocol leave-none --suite synth5 --seeds 0
	$(BIN)/fergen-bench report --suite synth5 --matrices

test: install  ## all tests but the slow ones, in two processes; each wants a core and 2 GB
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: install  ## the slow tests
	$(BIN)/python -m pytest -m slow

submissions: install  ## check the submissions that this branch adds to BASE, and repeat SHARE of their runs
	.ci/submissions "$(or $(BASE),main)" "$(or $(SHARE),10%)"

lint: install  ## style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## the documentation as pages, in build/docs
	$(BIN)/python -m mkdocs build --strict

site: install  ## leaderboards, methods and the documentation as pages, in site
	$(BIN)/fergen-bench site site --docs mkdocs.yml

dist: install  ## the source distribution, and the wheel that is built from it
	rm -rf dist
	$(BIN)/python -m build --no-isolation

benchmark: install  ## timings of the hot functions
	$(BIN)/python -m pytest tests/test_benchmarks.py --benchmark-enable --benchmark-only

benchmark-gpu: install  ## what a GPU must pass and what is timed on it, the most telling first; ten minutes
	@mkdir -p .benchmarks
	$(BIN)/python -m pytest tests/training/test_graph.py tests/methods/test_methods.py -k "cuda or gpu or compiled" -rf
	$(BIN)/python benchmarks/training.py --device cuda --full --compile --rounds 5 --json .benchmarks/training.json
	$(BIN)/python benchmarks/training.py --device cuda --sizes loop --rounds 5 --json .benchmarks/loop.json
	$(BIN)/python benchmarks/scoring.py --device cuda --sizes paper --faces 12271 --json .benchmarks/scoring.json
	$(BIN)/python benchmarks/memory.py --device cuda --json .benchmarks/memory.json
	$(BIN)/python benchmarks/probe.py --device cuda --rounds 1 --threads 16

install: $(VENV)/.installed

# uv installs, or pip where uv cannot be had. UV_TORCH_BACKEND=cpu: a third of the disk where there is no GPU.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python install.py
	@touch $@

clean:
	rm -rf $(VENV) results/cache results/runs results/report results/failed site build dist
