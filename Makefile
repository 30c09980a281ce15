# The commands of the README. Each installs what it lacks (scripts/setup), so
# that every one of them works on a fresh Debian 12 with Rust.

BINARY := target/release/evenkeel

.DEFAULT_GOAL := help
.PHONY: help demo test bench build bpf lint fuzz setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## the first field case on this machine, in namespaces; leaves nothing behind
	@scripts/setup lab
	@$(BINARY) lab case1

test: ## every check and test, as root
	@scripts/setup build lab test bench vm
	@scripts/test

bench: build ## what it costs, beside the alternatives; writes docs/benchmarks.md
	@scripts/setup lab bench vm
	@bench/run

build: bpf ## the release binary, target/release/evenkeel
	@cargo build --release --package evenkeel

bpf: ## the BPF object alone
	@scripts/setup build
	@cargo xtask bpf

lint: ## formatting, clippy, documentation, licences and dependencies
	@scripts/setup build test
	@scripts/test lint

fuzz: ## a longer run of the fuzz targets: make fuzz SECONDS=60
	@scripts/setup build test
	@scripts/fuzz.sh $(SECONDS)

setup: ## what these commands need, and nothing else
	@scripts/setup build lab test vm

clean: ## removes what was built
	@cargo clean
	@rm -rf bpf/target fuzz/target
