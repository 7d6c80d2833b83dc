# lc-hunt. `make demo` shows it at work, `make test` checks it; both set up what they need.

CARGO ?= cargo
SUDO  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Debian packages: libpcap to build and capture with, ip(8) for the tests' network namespaces.
PACKAGES := libpcap-dev iproute2

DEMO := target/demo

.PHONY: help setup build demo test lint unit units loom conformance chaos bench fuzz

help:
	@echo 'make demo         a generated capture through all processes into the embedded sink'
	@echo 'make test         everything that must pass: format, lints, docs, tests, models, a sample of captures'
	@echo 'make build        the programs, in target/release'
	@echo 'make conformance  every capture below $$LC_HUNT_TRACES (default ../shared/traces)'
	@echo 'make chaos        a thousand processes killed under load, every packet checked'
	@echo 'make bench        the measurements of bench/README.md'
	@echo 'make fuzz         a minute of fuzzing per target'

setup:
	@missing=''; for package in $(PACKAGES); do \
	  dpkg-query -W -f '$${Status}\n' $$package 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  echo "installing Debian packages:$$missing"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "Debian packages present: $(PACKAGES)"; fi

build: setup
	$(CARGO) build --release --locked --workspace --bins

demo: build
	@mkdir -p $(DEMO) && rm -rf $(DEMO)/out
	target/release/lc-bench generate --seed 1 --packets 20000 --out $(DEMO)/mixed.pcap
	target/release/lc-hunt hunt --read-file $(DEMO)/mixed.pcap --workers 2 --no-filter-policy allow --sink $(DEMO)/out
	@echo && echo 'What arrived ($(DEMO)/out/summary.json):' && cat $(DEMO)/out/summary.json

test: lint unit units loom
	$(MAKE) conformance SAMPLE=40
	$(MAKE) chaos KILLS=25 STOP=2

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --quiet

unit: setup
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace

# The systemd units: what they expose, and that they run. Says what it skips.
units: setup
	$(CARGO) build --locked --workspace --bins
	tests/systemd/security.sh
	$(SUDO) tests/systemd/boot.sh

# The ring, the commit slots and the waiting protocol under every interleaving that loom finds.
loom: setup
	RUSTFLAGS='--cfg loom' $(CARGO) test --locked --release --package shm-layout --lib --target-dir target/loom

# SAMPLE=N takes every N-th capture.
conformance: setup
	$(CARGO) build --locked --workspace --bins
	target/debug/lc-conformance $(if $(SAMPLE),--sample $(SAMPLE))

# Each process stands still for STOP seconds, then random processes are killed, KILLS of them: about a second each.
KILLS ?= 1000
STOP ?= 30
chaos: setup
	$(CARGO) build --locked --workspace --bins
	target/debug/lc-chaos --kills $(KILLS) --stop $(STOP)

bench: build
	$(CARGO) bench --locked --package lc-bench
	target/release/lc-bench ring
	target/release/lc-bench throughput
	target/release/lc-bench throughput --allow

# SECONDS_EACH of fuzzing per target. Needs the sanitizers of the compiler, hence RUSTC_BOOTSTRAP.
SECONDS_EACH ?= 60
fuzz: setup
	$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	for target in capture_file headers filter_snapshot block; do \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run $$target -- -max_total_time=$(SECONDS_EACH) || exit 1; \
	done
