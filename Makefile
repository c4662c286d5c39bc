# Everything a fresh clone needs: Python 3.11, git and make. `make demo` and `make test` set up
# what is missing, once; each step below leaves a stamp and is not done again.

PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps

# Flower would otherwise report usage, look for updates and resolve the dependencies a second time.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# A run is a dozen processes: each would compile 8,000 modules, 12 s of its start, if it might not
# keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

CONTRACTS := $(wildcard hardhat/contracts/*.sol) hardhat/hardhat.config.ts
SOURCES   := server_app client_app strategies unlearning blockchain llm tests benchmarks

.PHONY: help setup demo test lint bench soak clean

help:
	@echo "make demo    set up, train on four organizations' real text, print the result"
	@echo "make test    set up and run the tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the benchmarks behind the figures in docs/"
	@echo "make soak    kill writers of a private ledger 200 times, then 50 rounds on separate machines"
	@echo "             (about an hour; goes on where it was stopped), and look for what is lost"
	@echo "make setup   set up only"

setup: $(STAMPS)/contracts

demo: $(STAMPS)/contracts
	@$(BIN)/foedus run

test: $(STAMPS)/contracts
	@$(BIN)/python -m blockchain.toolchain hardhat test solidity
	@$(BIN)/python -m blockchain.artifacts --check
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 40

lint: $(STAMPS)/packages
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/mypy

bench: $(STAMPS)/contracts
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m benchmarks

soak: $(STAMPS)/contracts
	@$(BIN)/python -m benchmarks.ledger_soak
	@$(BIN)/python -m benchmarks.federation_soak

clean:
	rm -rf $(VENV) hardhat/node_modules hardhat/artifacts hardhat/cache

$(STAMPS)/environment:
	@echo "[1/4] Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/packages: $(STAMPS)/environment pyproject.toml constraints.txt
	@echo "[2/4] Python packages (about two minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --no-compile --constraint constraints.txt --editable '.[dev]' | grep -v '^Requirement already satisfied' || true
	@$(BIN)/foedus --version
	@touch $@

$(STAMPS)/node: $(STAMPS)/packages hardhat/package.json hardhat/package-lock.json
	@echo "[3/4] Hardhat and its packages"
	@$(BIN)/python -m blockchain.toolchain npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

$(STAMPS)/contracts: $(STAMPS)/node $(CONTRACTS)
	@echo "[4/4] Contracts"
	@$(BIN)/python -m blockchain.toolchain hardhat build
	@touch $@
