# One verb a deed; `make help` lists them. People and CI use the same ones.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The runtime is built for WASM by whichever toolchain has the target.
export WASM_BUILD_TOOLCHAIN ?= $(shell scripts/wasm-toolchain.sh 2>/dev/null)

# A scenario mostly waits for blocks; so many at a time keep two processors busy.
SCENARIOS_AT_ONCE ?= 4

# Holds a node to the time that its runs may take.
ALONE := s12_hostile_agents

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
demo: setup guest build ## Show the whole job on a real chain and a real machine
	@cargo run --quiet --locked -p backup-e2e --bin demo

.PHONY: test
test: setup guest fmt compile ## Run every check there is
	@scripts/side-by-side.sh \
		"$(MAKE) --no-print-directory book packages lint docs reader packaging" \
		"$(MAKE) --no-print-directory unit e2e"

.PHONY: check
check: setup fmt compile unit ## Run what needs no guest: formatting, build, unit and integration tests

# One build serves all tests. It builds the runtime for WASM, and with it the pallets and
# primitives without the standard library.
.PHONY: compile
compile:
	cargo build --locked --workspace --all-targets

.PHONY: guest
guest: ## Make the guest that demonstration and tests boot
	@scripts/guest.sh

.PHONY: fmt
fmt: ## Check the formatting
	cargo fmt --all --check

.PHONY: lint
lint: ## Check with clippy, with default and with all features, and shell scripts with shellcheck
	scripts/shellcheck.sh
	SKIP_WASM_BUILD=1 cargo clippy --locked --workspace --all-targets -- -D warnings
	SKIP_WASM_BUILD=1 cargo clippy --locked $(CHAIN) --all-features --all-targets -- -D warnings

.PHONY: docs
docs: ## Build the documentation without a warning
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

.PHONY: book
book: ## Make the book of docs/ in book/, without a warning or a dead link
	@mdbook=$$(scripts/mdbook.sh) && said=$$("$$mdbook" build 2>&1) || { echo "$$said" >&2; exit 1; }; \
		if grep -E 'WARN|ERROR' <<<"$$said" >&2; then exit 1; fi
	@python3 scripts/book-links.py book *.md deploy/*.md tools/reader/*.md

# Not compiled once more: that is the same source, and takes minutes.
.PHONY: packages
packages: ## Check that the crates for others are complete as packages
	cargo package --locked --allow-dirty --no-verify --quiet \
		-p backup-primitives -p pallet-backup -p backup-node-support

.PHONY: unit
unit: ## Run unit, property, integration and doc tests, and every benchmark once
	cargo test --locked --workspace --exclude backup-e2e
	cargo test --locked -p pallet-backup --all-features

.PHONY: reader
reader: ## Test the second reader, in Python, alone and on what the agent writes
	python=$$(scripts/venv.sh reader tools/reader/requirements.txt)/bin/python \
		&& $$python -m unittest discover -s tools/reader/tests -t tools/reader \
		&& READER_PYTHON=$$python \
			cargo test --locked --workspace --test car -- --ignored second_reader

.PHONY: e2e
e2e: ## Run the end-to-end tests, and the demonstration: real node, agent and guests
	cargo test --locked --workspace --test scenarios -- --test-threads=$(SCENARIOS_AT_ONCE) --skip $(ALONE)
	cargo test --locked --workspace --test scenarios -- $(ALONE)
	cargo test --locked --workspace --lib -- book:: lab::
	cargo run --quiet --locked -p backup-e2e --bin demo

.PHONY: packaging
packaging: compile ## Check deploy/, make a release, and install its packages into a throw-away copy of this machine
	deploy/test/lint.sh
	deploy/test/release.sh "$${CARGO_TARGET_DIR:-target}/debug"
	deploy/test/image.sh "$${CARGO_TARGET_DIR:-target}/debug"
	tests=$$(deploy/test/daemon.sh) \
		&& deploy/test/package.sh "$${CARGO_TARGET_DIR:-target}/debug" "$$tests"

.PHONY: release
release: ## Build agent and command for users, with packages and checksums, in dist/
	scripts/release.sh

.PHONY: mutate-syncs
mutate-syncs: ## Prove that the store's tests miss every single sync that is taken away
	@scripts/mutate-syncs.sh

.PHONY: bench
bench: compile ## Measure what the project's goals name, beside borg, restic and rustic, and print their table
	scripts/bench.sh target/bench

.PHONY: bench-store
bench-store: ## Measure what the store costs as it grows, up to 100 GiB; takes hours
	cargo bench --locked -p backup-agent --bench store -- collect
	cargo bench --locked -p backup-agent --bench store -- rebuild
	cargo bench --locked -p backup-agent --bench store -- rebuild-sparse
	cargo bench --locked -p backup-agent --bench store -- index

.PHONY: weights
weights: ## Measure what the calls cost (needs frame-omni-bencher)
	@scripts/weights.sh

.PHONY: coverage
coverage: ## Measure which lines of the pallet its tests reach (needs cargo-tarpaulin)
	cargo tarpaulin --locked --engine llvm --skip-clean --timeout 600 \
		-p pallet-backup --lib --include-files 'src/*' \
		--exclude-files 'src/tests/*' 'src/mock.rs' 'src/benchmarking.rs' 'src/weights/*' \
		--target-dir $${CARGO_TARGET_DIR:-target}/coverage --out Stdout

.PHONY: cost
cost: ## Measure a report on a chain with a million snapshots
	cargo test --locked --release -p pallet-backup --lib cost -- --ignored --nocapture

.PHONY: fuzz
fuzz: ## Feed arbitrary bytes to all readers (needs cargo-fuzz and a nightly toolchain)
	@scripts/fuzz.sh

.PHONY: deny
deny: ## Check licences, advisories and sources (needs cargo-deny)
	cargo deny --workspace check advisories bans sources
	cargo deny --workspace --exclude backup-node check licenses
