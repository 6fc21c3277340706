# Every target works on a fresh machine: it makes the virtual environment that it needs in .venv.
# Wanted from the machine: Python >= 3.11 with venv, a C++ compiler, make, perl.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PRESET ?= DEFAULT
PIP    := $(BIN)/python -m pip --disable-pip-version-check
JOBS   ?= 2

# The same Verilog, the same hash order, the same Yosys on every machine.
export PYTHONHASHSEED := 0
export AMARANTH_USE_YOSYS := builtin

# The tiers that pytest's paths make; `make test` is what CI runs.
TESTS := rtl/tests sim/tests cocotb_tests formal boards

.PHONY: help demo test test-extras soak lint cocotb formal bench boards testplan verilog lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements.lock
	@bash .ci/check-machine $(PYTHON)
	@echo "making $(VENV) (about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -qq --requirement requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## the main job: captured platforms and a two-guest story through the RTL
	@$(BIN)/nestwalk demo

test: $(STAMP) ## all tests at reduced counts, a subset of the proofs, one placement
	@$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

lint: $(STAMP) ## ruff and pyright
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pyright

cocotb: $(STAMP) ## the cocotb tests on Verilator only
	@$(BIN)/python -m pytest cocotb_tests

formal: $(STAMP) ## every proof
	@$(BIN)/nestwalk formal

boards: $(STAMP) ## out-of-context ECP5 builds with three placer seeds
	@$(BIN)/nestwalk board ulx3s_85f --ooc --preset $(PRESET) --json build/ulx3s_85f-$(PRESET).json

verilog: $(STAMP) ## release Verilog and its JSON sidecar
	@mkdir -p build
	@$(BIN)/nestwalk verilog --preset $(PRESET) -o build/nestwalk_$(PRESET).v

# A target whose issue is still open says so in one line and fails.
open = $(error make $@ is not built yet; it comes with the issue "$(1)")

bench: $(STAMP) ## every workload against limit, target and peer
	@$(BIN)/nestwalk bench --preset $(PRESET) --json build/bench-$(PRESET).json --plots build/bench-$(PRESET)

soak: $(STAMP) ## the full counts: random life of 50 000 operations through the RTL
	@NESTWALK_LIFE_PRESET=$(PRESET) NESTWALK_LIFE_OPERATIONS=50000 NESTWALK_LIFE_GUESTS=4 NESTWALK_LIFE_DEVICES=4 \
	  NESTWALK_LIFE_PROCESSES=16 $(BIN)/python -m pytest -s cocotb_tests/test_life.py

test-extras: ## (open) what needs iverilog and chromium
	$(call open,On an FPGA)

testplan: ## (open) each rule of the specification and the tests that hold it
	$(call open,The whole programming model)

lock: ## write requirements.lock anew from pyproject.toml
	@bash .ci/check-machine $(PYTHON)
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -qq --editable '.[dev]'
	@{ sed -n '/^#/p' requirements.lock; $(PIP) freeze --exclude-editable; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@touch $(STAMP)

clean: ## remove everything that make and the tests made
	@rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
