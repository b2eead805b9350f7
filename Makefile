# Every target is a command or two that can be typed as well. `make` alone lists them.

CARGO ?= cargo
# Rounds of each drill of front_test.
ROUNDS ?= 1
# Options of benches/load.py.
LOAD ?=
# Options of benches/latency.py.
LATENCY ?= --frameworks hyper
# Options of tests/processes/chaos.py.
CHAOS ?=
# The part of all mutants that `make mutants` tests.
SHARD ?= 0/100
# Tests that run at a time. Most of them wait for sockets and processes.
TEST_THREADS ?= $(shell n=$$(nproc); echo $$((n < 8 ? 16 : 2 * n)))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
EPOCH = $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: help build run test check lint docs tour fuzz mutants bench pgo load latency docker_build docker_test up down deb deb_test ansible_test release \
	release_test audit versions_test chaos_test uploads_test monitoring_test deploy_test staging front_test page_test openapi_test manual_test screenshot \
	external_monitoring_test logs_test helm_test k8s_test clean

help: ## list the targets
	@grep -E '^[a-z0-9_]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## build the server as bin/fibsrv
	$(CARGO) build --release --locked
	mkdir -p bin
	install -m 755 target/release/fibsrv bin/fibsrv

run: build ## serve on port 3000
	bin/fibsrv

test: ## run all tests
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked

check: lint test ## everything that must hold: format, lints, documentation, tests

lint: ## format, lints, documentation
	$(CARGO) fmt --check
	cd fuzz && $(CARGO) fmt --check
	cd benches/peers/frameworks && $(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features manual -- -D warnings
	cd fuzz && $(CARGO) clippy --locked --no-default-features --target-dir ../target -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

tour: build ## write the system calls of docs/tour.md; needs strace and the permission to trace
	tests/tour.py --update

docs: ## write the generated parts of docs/
	UPDATE=1 $(CARGO) test --locked --test docs --quiet -- generated badges

fuzz: ## fuzz each target for FUZZ_SECONDS, 20 unless set; needs g++
	fuzz/run

bench: ## measure lookup against computation, a connection on bytes, the exposition
	$(CARGO) bench --locked

mutants: ## test the mutants of SHARD, 0/100 unless set; needs cargo-mutants
	@$(CARGO) mutants --version >/dev/null 2>&1 || \
		{ echo 'make mutants: install cargo-mutants with `cargo install cargo-mutants --locked`' >&2; exit 1; }
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) mutants --sharding round-robin --shard $(SHARD) --cargo-arg=--locked

pgo: ## build bin/fibsrv by a profile of its own work; needs wrk and the rustup component llvm-tools
	benches/pgo

load: build ## load the server and others with wrk, and print a table of rates and processor time
	$(CARGO) build --release --locked --example limit
	benches/load.py $(LOAD)

latency: build ## measure latency at constant rates, beside nginx, haproxy and hyper, and print a table
	$(CARGO) build --release --locked --examples
	benches/latency.py $(LATENCY)

docker_build: ## build the image fibsrv:VERSION, also tagged fibsrv:latest
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg SOURCE_DATE_EPOCH=$(EPOCH) \
		--tag fibsrv:$(VERSION) --tag fibsrv:latest .

docker_test: ## build the image and bring up the compose file with stand-ins for foreign images; needs root
	tests/deploy/docker_test.sh

up: ## serve on port 3000 in a container; on 127.0.0.1 Prometheus 9000, Alertmanager 9093, cAdvisor 8080, Grafana 3001
	FIBSRV_VERSION=$(VERSION) FIBSRV_REVISION=$(REVISION) docker compose up --build --detach --wait

down: ## stop what `make up` has started; the data of Prometheus is kept
	FIBSRV_VERSION=$(VERSION) docker compose down

deb: build ## make a Debian package below target/deb
	deploy/deb/build

release: ## build the files of a release below target/dist
	deploy/release/build

release_test: ## build a release twice, in two clones in two directories, compare and try the files
	tests/release.sh

audit: ## licences, sources and duplicates of all crates, and the workflow files
	tests/audit.sh

deb_test: build ## install, reload, upgrade and remove that package under load, with systemd as process 1; needs root
	tests/deploy/deb_test.sh

ansible_test: build ## set up servers, proxies and log host with the Ansible role on a test network; needs root and Debian packages
	tests/deploy/ansible_test.py

monitoring_test: build ## test rules and dashboards with a real Prometheus that scrapes a real server
	tests/deploy/monitoring_test.sh

versions_test: ## upgrade under load between two builds with different metrics, in both directions
	tests/versions.py

uploads_test: build ## rejected uploads and load with the clients that are installed: curl, Python, Node, Java, Go, ab, siege, h2load, hey
	tests/uploads.sh

chaos_test: build ## random actions on the processes of a port, next to clients that check every response; needs root
	tests/processes/chaos.py $(CHAOS)

# Sequential even with -j, as they measure time.
deploy_test: build ## test proxies, external monitoring, log forwarding and all together; needs root and Debian packages
	tests/deploy/front_test.py --rounds $(ROUNDS)
	tests/deploy/external_monitoring_test.py
	tests/deploy/logs_test.py
	tests/deploy/ansible_test.py
	tests/deploy/staging.sh

staging: build ## failure drills on the complete production setup in namespaces; needs root and Debian packages
	tests/deploy/staging.sh

front_test: build ## failure drills on the proxy pair under load; needs root and Debian packages
	tests/deploy/front_test.py --rounds $(ROUNDS)

external_monitoring_test: build ## test that external monitoring detects outages; needs root and Debian packages
	tests/deploy/external_monitoring_test.py

logs_test: build ## test that log forwarding loses no line; needs root and Debian packages
	tests/deploy/logs_test.py

page_test: build ## test the page in Chromium; installs what it needs
	tests/browser.sh

openapi_test: build ## lint the description of the API, and test the server against it; installs what it needs
	tests/openapi.sh

manual_test: build ## compare the manual page and the completions with --help; installs what it needs
	tests/manual.sh

screenshot: build ## make the pictures of the page in docs/; installs what it needs
	tests/browser.sh screenshot

helm_test: ## lint the Helm chart, render it, and check what comes out; installs what it needs
	tests/deploy/helm.sh

k8s_test: ## install the chart in a real cluster of one node, under load; needs root, installs and builds what it needs
	tests/deploy/k8s.sh

clean: ## remove what was built
	$(CARGO) clean
	rm -rf bin fuzz/target fuzz/artifacts
