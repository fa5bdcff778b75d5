# Everything a developer runs. `make` alone lists the targets.
#
# TICKER_RECORDINGS   a folder with recorded sessions; tests that need it say so and pass where it is not set
# ARGS                what `make run` hands to `tickerplant serve` (default: a market with order books)
# SET                 which cases `make conformance` runs: ci (default) or all
# TICKER_SOAK_S       how long the longer end-to-end tests listen (default 10)
# FUZZ_SECONDS        how long `make fuzz` runs each target (default 60)
# MDBOOK              the command of mdBook for `make docs` (default: the version below, built under target when it is missing)
# QUICK               set: `make bench` makes one short run of each
# CARGO_TARGET_DIR    where Rust builds go (default target)

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup run test test-rust test-web test-python test-browser test-e2e conformance fuzz instructions \
	examples bench bench-build bench-scale bench-code bench-sdk lint lint-rust lint-deps lint-web lint-python lint-docs docs \
	clean tools chromium services

ARGS ?= --sim-scenario busy
SET ?= ci
CARGO_TARGET_DIR ?= target
TARGET := $(abspath $(CARGO_TARGET_DIR))
export CARGO_TARGET_DIR := $(TARGET)

# What the tests cover beyond what is built when nothing is said.
FEATURES := --features tickerplant/otlp

# The tests of all suites share the debug build: things compile once.
DEBUG_BINARY := $(TARGET)/debug/tickerplant
RELEASE_BINARY := $(TARGET)/release/tickerplant

PYTHON := .venv/bin/python
VENV := .venv/.installed
WEB_MODULES := web/node_modules/.package-lock.json
WEB_BUILD := web/dist/index.html
WEB_SOURCES := $(shell find web/src web/sdk/src web/sdk/vite.config.ts web/public web/index.html web/vite.config.ts \
	web/tsconfig*.json -type f 2>/dev/null)
SDK_BUILD := web/sdk/dist/index.js
EXAMPLE_MODULES := examples/typescript/node_modules/.package-lock.json
E2E_MODULES := tests/e2e/node/node_modules/.package-lock.json

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

# --- set-up: each piece is made when it is missing or older than what it is made from ---

setup: $(WEB_BUILD) $(VENV) $(E2E_MODULES) chromium ## install and build all that the other targets need

tools:
	@for tool in cargo node npm python3; do \
		command -v $$tool >/dev/null || { echo "make: $$tool is missing; CONTRIBUTING.md says what is needed" >&2; exit 1; }; \
	done

$(WEB_MODULES): web/package.json web/package-lock.json | tools
	npm --prefix web ci --no-audit --no-fund
	@touch $@

$(WEB_BUILD): $(WEB_MODULES) $(WEB_SOURCES)
	npm --prefix web run build
	@touch $@

$(SDK_BUILD): $(WEB_MODULES) $(WEB_SOURCES)
	npm --prefix web run build:sdk
	@touch $@

$(EXAMPLE_MODULES): examples/typescript/package.json examples/typescript/package-lock.json web/sdk/package.json | tools
	npm --prefix examples/typescript ci --no-audit --no-fund
	@touch $@

$(E2E_MODULES): tests/e2e/node/package.json tests/e2e/node/package-lock.json | tools
	npm --prefix tests/e2e/node ci --no-audit --no-fund
	@touch $@

$(VENV): tests/e2e/requirements.txt | tools
	python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --requirement tests/e2e/requirements.txt
	@touch $@

chromium:
	@scripts/ensure-package chromium chromium chromium-browser

# What the server is tested together with.
services:
	@scripts/ensure-package faketime
	@scripts/ensure-package prometheus
	@scripts/ensure-package nginx-light nginx
	@scripts/ensure-package haproxy
	@scripts/ensure-package caddy

# --- run ---

run: $(WEB_BUILD) ## build all with the dashboard inside, and serve a simulated market on http://127.0.0.1:8080
	cargo build --release --package tickerplant
	exec $(RELEASE_BINARY) serve $(ARGS)

# All packages are named, so that they are built with the features that the tests of all packages have.
examples: $(EXAMPLE_MODULES) $(SDK_BUILD) ## build what is in examples/, and the SDKs for the scenario that they share
	cargo build --workspace $(FEATURES) --example bot --example csv_logger --example conformance

# --- test ---

test: test-rust test-web test-python test-browser test-e2e ## run every test: Rust, web units, the Python SDK, browser, end to end

test-rust: | tools ## Rust tests of all crates
	cargo test --workspace $(FEATURES) --no-fail-fast

test-web: $(WEB_MODULES) ## unit tests of the web code
	npm --prefix web test

test-python: $(VENV) $(DEBUG_BINARY) ## the Python SDK, its engine alone and on the real server
	TICKER_BIN=$(DEBUG_BINARY) $(PYTHON) -m pytest sdk/python

test-browser: $(WEB_BUILD) chromium $(DEBUG_BINARY) ## the dashboard in a browser, on the real server
	TICKER_BIN=$(DEBUG_BINARY) npm --prefix web run e2e

test-e2e: $(VENV) $(E2E_MODULES) chromium services $(DEBUG_BINARY) examples $(WEB_BUILD) ## the real server from outside: clients in Python, Node and Chromium
	TICKER_BIN=$(DEBUG_BINARY) $(PYTHON) -m pytest tests/e2e

# cargo knows best whether it is up to date. The whole workspace and an example are named, so that it is built with the
# features that the tests have, and nothing is compiled twice.
.PHONY: $(DEBUG_BINARY)
$(DEBUG_BINARY): | tools
	cargo build --workspace $(FEATURES) --bin tickerplant --example bot

# --- what the protocol's own test suite and random input find ---

conformance: | tools ## the Autobahn suite on the WebSocket crate; SET=all runs all of its 517 cases
	python3 scripts/conformance --set $(SET)

fuzz: | tools ## each fuzz target for FUZZ_SECONDS
	python3 scripts/fuzz

instructions: | tools ## counts the instructions of the hub's work and fails when there are more than there were
	python3 scripts/instructions

# --- bench ---

PEERS := loadtest/peers
PEER_MODULES := $(PEERS)/javascript/node_modules/.package-lock.json
PEER_VENV := $(PEERS)/python/.venv/.installed
BENCH = scripts/bench
BENCH_FLAGS := --bin $(TARGET)/release $(if $(QUICK),--quick)

$(PEER_MODULES): $(PEERS)/javascript/package.json $(PEERS)/javascript/package-lock.json | tools
	npm --prefix $(PEERS)/javascript ci --no-audit --no-fund
	@touch $@

$(PEER_VENV): $(PEERS)/python/requirements.txt | tools
	python3 -m venv $(PEERS)/python/.venv
	$(PEERS)/python/.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench-build: $(PEER_MODULES) $(PEER_VENV)
	cargo build --release --package tickerplant --package loadtest
	cargo build --release --manifest-path $(PEERS)/rust/Cargo.toml

bench: bench-build ## ours and others side by side, into docs/benchmarks (half an hour, QUICK=1 five minutes; two idle processors)
	$(BENCH) run $(BENCH_FLAGS)
	$(BENCH) render $(BENCH_FLAGS)

bench-scale: bench-build ## the row of 19,000 connections
	$(BENCH) run $(BENCH_FLAGS) --rows scale
	$(BENCH) render $(BENCH_FLAGS)

bench-code: | tools ## what the pieces cost: simulator, encoding, the load generator's ceiling
	cargo bench --package simulator --package wire --package market --package recording --package hub --package loadtest \
		--package gateway --package tickerplant-client

bench-sdk: $(VENV) $(SDK_BUILD) ## how fast the three SDKs read, MessagePack against JSON
	cargo bench --package tickerplant-client --bench decode
	node web/sdk/bench.mjs
	$(PYTHON) sdk/python/bench/decode.py

# --- lint ---

lint: lint-rust lint-deps lint-web lint-python lint-docs ## formatting and static checks of everything

lint-rust: | tools
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace $(FEATURES) --all-targets -- -D warnings

lint-deps: | tools
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny, once"; cargo install cargo-deny --locked --quiet; }
	cargo deny --all-features check bans licenses sources
	@scripts/check-advisories

lint-web: $(WEB_MODULES)
	npm --prefix web run lint

lint-python: $(VENV)
	.venv/bin/ruff check tests/e2e sdk/python examples
	.venv/bin/ruff format --check tests/e2e sdk/python examples
	.venv/bin/mypy --config-file sdk/python/pyproject.toml sdk/python/src

lint-docs: | tools
	scripts/docs check

# --- documents ---

# Of one version, so that the book is the same everywhere; it runs for a second, so what counts is how fast it compiles.
MDBOOK_VERSION := 0.5.4
MDBOOK_ROOT := $(TARGET)/tools/mdbook-$(MDBOOK_VERSION)
MDBOOK ?= $(MDBOOK_ROOT)/bin/mdbook
BOOK := $(TARGET)/book

# Nothing is written into ~/.cargo/bin, and what was compiled on the way is not kept.
$(MDBOOK_ROOT)/bin/mdbook: | tools
	@echo "building mdBook $(MDBOOK_VERSION), once"
	env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		cargo install mdbook --version $(MDBOOK_VERSION) --locked --quiet --no-default-features --features search --root $(MDBOOK_ROOT)

docs: lint-docs $(filter $(MDBOOK_ROOT)/bin/mdbook,$(MDBOOK)) ## build the book of all documents, into target/book/site, and check its links
	scripts/docs stage $(BOOK)
	$(MDBOOK) build $(BOOK)
	scripts/docs check-site $(BOOK)/site
	@echo "open $(BOOK)/site/index.html"

clean: ## remove everything that was built or installed in here
	rm -rf $(TARGET) .venv web/node_modules web/dist web/sdk/dist web/test-results tests/e2e/node/node_modules examples/typescript/node_modules test-results \
		$(PEERS)/javascript/node_modules $(PEERS)/python/.venv $(PEERS)/rust/target
	find tests scripts sdk -name __pycache__ -prune -exec rm -rf {} +
