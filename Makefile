# lc-hunt. `make demo` shows it at work, `make test` checks it; both set up what they need.

CARGO ?= cargo
SUDO  := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Debian packages: libpcap to build and capture with, ip(8) for the tests' network namespaces.
PACKAGES := libpcap-dev iproute2

DEMO := target/demo

.PHONY: help setup build demo test lint unit units installed loom conformance chaos outage exchange bench fuzz corpus install uninstall pages deb

help:
	@echo 'make demo         a generated capture through all processes into the embedded sink'
	@echo 'make test         everything that must pass: format, lints, docs, tests, models, a sample of captures'
	@echo 'make build        the programs, in target/release'
	@echo 'make install      programs, units, manual pages, completions (DESTDIR=, PREFIX=/usr/local, PROGRAMS=target/release)'
	@echo 'make uninstall    takes them away again; configuration and state stay'
	@echo 'make deb          the same as a Debian package, in target/debian'
	@echo 'make conformance  every capture below $$LC_HUNT_TRACES (default ../shared/traces)'
	@echo 'make chaos        a thousand processes killed under load, every packet checked'
	@echo 'make outage       ten minutes without a processor, a destroyed segment, a full disk; every packet checked'
	@echo 'make exchange     calls by SIPp through Kamailio and rtpengine; every packet checked against tcpdump'
	@echo 'make bench        the measurements of bench/README.md'
	@echo 'make fuzz         a minute of fuzzing per target, see fuzz/README.md'
	@echo 'make corpus       keeps what fuzzing found that adds to the coverage'

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

test: lint unit units installed loom
	$(MAKE) conformance SAMPLE=40
	$(MAKE) chaos KILLS=25 STOP=2
	$(MAKE) outage AWAY=8
	$(MAKE) exchange CALLS=20

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
	$(SUDO) tests/systemd/package.sh

# What make install puts where, with the programs that the tests use.
installed: setup
	$(CARGO) build --locked --workspace --bins
	tests/install.sh

# The ring, the commit slots and the waiting protocol under every interleaving that loom finds.
loom: setup
	RUSTFLAGS='--cfg loom' $(CARGO) test --locked --release --package shm-layout --lib --target-dir target/loom

# SAMPLE=N takes only N captures, spread over the folder.
conformance: setup
	$(CARGO) build --locked --workspace --bins
	target/debug/lc-conformance $(if $(SAMPLE),--sample $(SAMPLE))

# Each process stands still for STOP seconds, then random processes are killed, KILLS of them: about a second each.
KILLS ?= 1000
STOP ?= 30
chaos: setup
	$(CARGO) build --locked --workspace --bins
	target/debug/lc-chaos --kills $(KILLS) --stop $(STOP)

# The processor is away for AWAY seconds under a live load of 50,000 packets per second, then twice more for a minute at most.
AWAY ?= 600
outage: setup
	$(CARGO) build --locked --workspace --bins
	target/debug/lc-outage --seconds $(AWAY)

# CALLS over each transport, twice: with all of them wanted, and with those of one user in ten. What takes part is installed here and by nothing else; Debian
# starts kamailio and rtpengine-daemon as services where there is a service manager, and they are not needed as such.
CALLS ?= 100
EXCHANGE_PACKAGES := sip-tester kamailio rtpengine-daemon tcpdump
exchange: setup
	$(MAKE) setup PACKAGES='$(EXCHANGE_PACKAGES)' || echo 'what takes part in the exchange cannot be installed'
	$(CARGO) build --locked --workspace --bins
	target/debug/lc-exchange --calls $(CALLS)

bench: build
	$(CARGO) bench --locked --package lc-bench
	target/release/lc-bench ring
	target/release/lc-bench throughput
	target/release/lc-bench throughput --allow
	target/release/lc-bench calls
	target/release/lc-bench modes

# SECONDS_EACH of fuzzing per target. Needs the sanitizers of the compiler, hence RUSTC_BOOTSTRAP. Inputs that add to the coverage
# are kept in target/fuzz; those of fuzz/corpus, which `make test` replays, are only read.
SECONDS_EACH ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ := RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --features libfuzzer
fuzz: setup
	$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz/$$target && \
	  $(FUZZ) $$target target/fuzz/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(SECONDS_EACH) -timeout=10 -dict=fuzz/protocols.dict || exit 1; \
	done

# Of what `make fuzz` found, adds to fuzz/corpus what covers more.
corpus: setup
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p target/fuzz/$$target && \
	  $(FUZZ) $$target fuzz/corpus/$$target target/fuzz/$$target -- -set_cover_merge=1 -use_counters=0 -max_len=2048 || exit 1; \
	done

# Installing. Nothing is built: `make build` first, or name another folder of programs.
DESTDIR  ?=
PREFIX   ?= /usr/local
PROGRAMS ?= target/release
BINARIES := lc-hunt lc-capd lc-workerd lc-fwdd lc-sink
UNITS    := $(notdir $(wildcard systemd/*.service systemd/*.target systemd/*.slice))
PAGES    := $(PROGRAMS)/pages
INTO     := $(DESTDIR)$(PREFIX)
# systemd 253 and newer wait for the end of a reload.
NOTIFY_RELOAD ?= $(shell [ "$$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')" -ge 253 ] 2>/dev/null && echo yes)

pages:
	@[ -x $(PROGRAMS)/lc-hunt ] || { echo 'no programs in $(PROGRAMS): run make build'; exit 1; }
	rm -rf $(PAGES)
	$(PROGRAMS)/lc-hunt pages $(PAGES)

install: pages
	install -d $(INTO)/bin $(INTO)/lib/systemd/system $(INTO)/share/man/man1 $(INTO)/share/man/man8 $(INTO)/share/doc/lc-hunt $(INTO)/share/lc-hunt
	for program in $(BINARIES); do install -m 755 $(PROGRAMS)/$$program $(INTO)/bin/ || exit 1; done
	for unit in $(UNITS); do \
	  sed 's|/usr/bin/lc-|$(PREFIX)/bin/lc-|' systemd/$$unit >$(INTO)/lib/systemd/system/$$unit && chmod 644 $(INTO)/lib/systemd/system/$$unit || exit 1; \
	done
	install -D -m 644 systemd/sysusers.conf $(INTO)/lib/sysusers.d/lc-hunt.conf
	install -D -m 644 systemd/tmpfiles.conf $(INTO)/lib/tmpfiles.d/lc-hunt.conf
	install -D -m 644 systemd/sysctl.conf $(INTO)/lib/sysctl.d/60-lc-hunt.conf
	install -m 644 systemd/notify-reload.conf $(INTO)/share/lc-hunt/
	$(if $(NOTIFY_RELOAD),install -D -m 644 systemd/notify-reload.conf $(INTO)/lib/systemd/system/lc-fwdd.service.d/notify-reload.conf)
	install -m 644 $(PAGES)/man/*.1 $(INTO)/share/man/man1/
	install -m 644 $(PAGES)/man/*.8 $(INTO)/share/man/man8/
	for program in lc-hunt lc-sink; do \
	  install -D -m 644 $(PAGES)/completions/$$program.bash $(INTO)/share/bash-completion/completions/$$program && \
	  install -D -m 644 $(PAGES)/completions/_$$program $(INTO)/share/zsh/site-functions/_$$program && \
	  install -D -m 644 $(PAGES)/completions/$$program.fish $(INTO)/share/fish/vendor_completions.d/$$program.fish || exit 1; \
	done
	install -m 644 README.md LICENSE systemd/config.toml docs/*.md $(INTO)/share/doc/lc-hunt/
	install -d -m 750 $(DESTDIR)/etc/lc-hunt
	[ -e $(DESTDIR)/etc/lc-hunt/config.toml ] || install -m 640 systemd/config.toml $(DESTDIR)/etc/lc-hunt/config.toml
	@$(if $(DESTDIR),:,echo 'Next: systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload; adapt /etc/lc-hunt/config.toml')

uninstall:
	rm -f $(foreach program,$(BINARIES),$(INTO)/bin/$(program)) $(foreach unit,$(UNITS),$(INTO)/lib/systemd/system/$(unit))
	rm -rf $(INTO)/lib/systemd/system/lc-fwdd.service.d/notify-reload.conf $(INTO)/share/doc/lc-hunt $(INTO)/share/lc-hunt
	if [ -d $(INTO)/lib/systemd/system/lc-fwdd.service.d ]; then rmdir --ignore-fail-on-non-empty $(INTO)/lib/systemd/system/lc-fwdd.service.d; fi
	rm -f $(INTO)/lib/sysusers.d/lc-hunt.conf $(INTO)/lib/tmpfiles.d/lc-hunt.conf $(INTO)/lib/sysctl.d/60-lc-hunt.conf
	rm -f $(INTO)/share/man/man1/lc-hunt*.1 $(INTO)/share/man/man1/lc-sink.1 $(INTO)/share/man/man8/lc-capd.8 $(INTO)/share/man/man8/lc-workerd.8 $(INTO)/share/man/man8/lc-fwdd.8
	for program in lc-hunt lc-sink; do \
	  rm -f $(INTO)/share/bash-completion/completions/$$program $(INTO)/share/zsh/site-functions/_$$program $(INTO)/share/fish/vendor_completions.d/$$program.fish; \
	done
	@echo 'left: $(DESTDIR)/etc/lc-hunt, /var/lib/lc-hunt, and the users'

# DEB_PROFILE=dev makes it of the programs that tests use, for package.sh. cargo-deb is built into target/tools if it is missing.
DEB_PROFILE ?= release
CARGO_DEB   := $(shell command -v cargo-deb || echo target/tools/bin/cargo-deb)
deb: setup $(if $(wildcard $(CARGO_DEB)),,target/tools/bin/cargo-deb)
	$(CARGO) build --profile $(DEB_PROFILE) --locked --workspace --bins
	$(MAKE) pages PROGRAMS=target/$(if $(filter dev,$(DEB_PROFILE)),debug,$(DEB_PROFILE))
	$(CARGO_DEB) --package lc-hunt --profile $(DEB_PROFILE) --no-build
	tests/install.sh target/debian/lc-hunt_*.deb

target/tools/bin/cargo-deb:
	$(CARGO) install cargo-deb --version 3.8.0 --locked --root target/tools
