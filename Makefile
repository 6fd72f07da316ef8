# LLaMA-Factory 0.9.5 pins datasets<=4.0.0 and ms-swift 4.6 needs datasets>=4.7; VLMEvalKit pins an antlr4 of its own:
#   .venv          LLaMA-Factory, evaluation, development tools
#   .venv-swift    ms-swift
#   .venv-vlmeval  VLMEvalKit, for vision-language benchmarks
PYTHON ?= python3
UV_VERSION := 0.13.8
TYPESCRIPT_VERSION := 5.5.4
TYPESCRIPT := /usr/local/lib/node_modules/typescript
LF := .venv
SWIFT := .venv-swift
VLMEVAL := .venv-vlmeval
DFT_DATA_DIR ?= $(wildcard ../shared/data)
export DFT_DATA_DIR
# of `make bench`; float32 where the CPU has no bfloat16 instructions
BENCH_DTYPE ?= bfloat16
export DFT_VLMEVAL_PYTHON ?= $(CURDIR)/$(VLMEVAL)/bin/python
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.cache/torch_extensions

.DEFAULT_GOAL := help
.PHONY: help setup vlmeval toolchains format demo study examples sweep test test-llamafactory test-evaluation test-ms-swift check bench lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(LF)/.ready $(SWIFT)/.ready  ## make both training environments (about a minute)

vlmeval: $(VLMEVAL)/.ready  ## make the environment of the vision-language benchmarks

$(LF)/.ready: requirements/llamafactory.lock
$(SWIFT)/.ready: requirements/ms_swift.lock
$(LF)/.ready $(SWIFT)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --require-hashes --requirement $(filter %.lock,$^)
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation --editable .
	touch $@

$(VLMEVAL)/.ready: requirements/vlmeval.lock  # the project itself stays out of it
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet uv==$(UV_VERSION)
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --require-hashes --requirement $<
	touch $@

lock: $(LF)/.ready  ## resolve requirements/*.in into the locks
	for name in llamafactory ms_swift vlmeval; do \
	  $(LF)/bin/uv pip compile --quiet --python-version 3.11 --python-platform linux --generate-hashes --upgrade \
	    --custom-compile-command "make lock" --output-file requirements/$$name.lock requirements/$$name.in; done

toolchains:  ## system packages the tests use (as root, Debian)
	missing="$$(for pair in chromium:chromium bwrap:bubblewrap php:php-cli mcs:mono-devel g++:g++ javac:default-jdk-headless \
	    node:nodejs npm:npm; do command -v $${pair%%:*} >/dev/null || echo $${pair#*:}; done)"; \
	test -e /usr/include/boost/any.hpp || missing="$$missing libboost-dev"; \
	/usr/bin/python3 -c 'import numpy' 2>/dev/null || missing="$$missing python3 python3-numpy"; \
	if [ -n "$$missing" ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
	grep -qs '"version": "$(TYPESCRIPT_VERSION)"' $(TYPESCRIPT)/package.json || \
	  npm install --silent --global --prefix /usr/local typescript@$(TYPESCRIPT_VERSION)

format: $(LF)/.ready  ## format the code
	$(LF)/bin/ruff check --fix --quiet . ; $(LF)/bin/ruff format --quiet .

check: $(LF)/.ready  ## format, lint, types, import contracts, quick tests (about three minutes)
	$(LF)/bin/ruff format --check --quiet .
	$(LF)/bin/ruff check --quiet .
	$(LF)/bin/mypy -p dft_plugin -p dft_eval
	$(LF)/bin/lint-imports
	$(LF)/bin/python -m pytest -q --numprocesses 2 --durations 10 -m "not slow"

test: check $(SWIFT)/.ready $(VLMEVAL)/.ready  ## everything (about half an hour on two cores)
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync test-llamafactory test-evaluation test-ms-swift

test-llamafactory: $(LF)/.ready
	$(LF)/bin/python -m pytest -q --durations 10 -m "slow and not swift" --ignore tests/eval

test-evaluation: $(LF)/.ready $(VLMEVAL)/.ready
	$(LF)/bin/python -m pytest -q --durations 10 -m slow tests/eval

test-ms-swift: $(SWIFT)/.ready
	TORCH_EXTENSIONS_DIR=$(TORCH_EXTENSIONS_DIR)_swift $(SWIFT)/bin/python -m pytest -q --durations 10 -m swift tests --ignore tests/eval

sweep: setup  ## a tiny model of every architecture through the loss, in both environments; writes docs/models.md
	OMP_NUM_THREADS=1 $(LF)/bin/python -m tests.sweep.run
	OMP_NUM_THREADS=1 $(SWIFT)/bin/python -m tests.sweep.run
	$(LF)/bin/python -m tests.sweep.render

examples: $(LF)/.ready  ## write yaml_examples/ anew from tests/examples/recipes.yaml
	$(LF)/bin/python -m tests.examples.make

demo: setup  ## train SFT and DFT through both frameworks and open the report's numbers (under 10 minutes)
	$(LF)/bin/dft demo --out demo_out

study: setup  ## the study of docs/results: SmolLM2-135M, three losses, up to three seeds, evaluated and reported (up to three hours)
	$(LF)/bin/python -m dft_plugin.demo.smollm2_study runs/smollm2
	$(LF)/bin/dft study run yaml_examples/study/smollm2.yaml
	$(LF)/bin/dft study run yaml_examples/study/smollm2_facts.yaml

bench: setup  ## the speed and memory ratios of the README
	$(LF)/bin/python tests/benchmarks/import_time.py
	$(LF)/bin/python tests/benchmarks/linear_loss.py --dtype $(BENCH_DTYPE) --against native trl --objectives eaft deft power
	$(LF)/bin/python tests/benchmarks/linear_loss.py --dtype $(BENCH_DTYPE) --frozen-head --against native
	$(LF)/bin/python tests/benchmarks/linear_loss.py --dtype $(BENCH_DTYPE) --real --gradient-filter 0.125
	$(LF)/bin/python tests/benchmarks/linear_loss.py --dtype $(BENCH_DTYPE) --real --gradient-filter 0.125 --frozen-head
	$(LF)/bin/python tests/benchmarks/precision.py
	$(LF)/bin/python tests/benchmarks/growth.py --dtype $(BENCH_DTYPE)
	$(LF)/bin/python tests/benchmarks/trainer_step.py --framework llamafactory
	$(SWIFT)/bin/python tests/benchmarks/trainer_step.py --framework ms_swift
	$(LF)/bin/python tests/benchmarks/reference_step.py

clean:  ## remove the environments and every output
	rm -rf $(LF) $(SWIFT) $(VLMEVAL) .cache demo_out runs
