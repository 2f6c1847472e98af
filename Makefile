# One verb a deed; `make help` lists them. People and CI use the same ones.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The runtime is built for WASM by whichever toolchain has the target.
export WASM_BUILD_TOOLCHAIN ?= $(shell scripts/wasm-toolchain.sh 2>/dev/null)

CHAIN := -p backup-primitives -p pallet-backup -p pallet-compute -p pallet-marketplace -p backup-runtime

.PHONY: help
help: ## List the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: ## Install what building and testing needs (Debian, as root)
	@scripts/setup.sh

.PHONY: build
build: setup ## Build the node, the agent and the command
	cargo build --locked --workspace

.PHONY: demo
demo: setup ## Show the whole job on a real chain and a real machine
	@$(MAKE) --no-print-directory guest
	cargo build --locked --workspace
	cargo run --quiet --locked -p backup-e2e --bin demo

.PHONY: test
test: build guest fmt lint unit nostd docs e2e ## Run every check there is

.PHONY: guest
guest: ## Make the guest that demonstration and tests boot
	@scripts/guest.sh

.PHONY: fmt
fmt: ## Check the formatting
	cargo fmt --all --check

.PHONY: lint
lint: ## Check with clippy, with default and with all features
	cargo clippy --locked --workspace --all-targets -- -D warnings
	SKIP_WASM_BUILD=1 cargo clippy --locked $(CHAIN) --all-features --all-targets -- -D warnings

.PHONY: unit
unit: ## Run unit, property, integration and doc tests
	cargo test --locked --workspace --exclude backup-e2e

.PHONY: nostd
nostd: ## Build pallets and primitives without the standard library
	cargo check --locked --no-default-features -p backup-primitives -p pallet-backup -p pallet-compute -p pallet-marketplace

.PHONY: docs
docs: ## Build the documentation of our crates without a warning
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps $(CHAIN) -p backup-agent -p backup-node-support

.PHONY: e2e
e2e: build guest ## Run the end-to-end tests: real node, agent and guests
	cargo test --locked -p backup-e2e -- --test-threads=1

.PHONY: bench
bench: ## Measure the agent; the figures in docs/performance.md come from here
	cargo bench --locked -p backup-agent

.PHONY: deny
deny: ## Check licences, advisories and sources (needs cargo-deny)
	cargo deny check
