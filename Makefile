# Everything that is done to this repository; `make help` lists it.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The tools that are run and not built in, pinned here and nowhere else.
GOFUMPT       := mvdan.cc/gofumpt@v0.12.0
STATICCHECK   := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Caddy leaves out the same storage drivers in its own builds. One set of tags for
# building, vetting and testing lets them share what is compiled.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -tags=nobadger,nomysql,nopgx)

BINARY   := bin/meet-gateway
FUZZTIME := 10s

# How long each seed of make soak runs, and the seeds that the last release was run with.
SOAK  := 5m
SEEDS := 22 21 401 501 402 502 7771 20261128

CADDYFILES := $(sort $(shell find . -name 'Caddyfile*' -not -path './.git/*' -o -name '*.caddyfile' -not -path './.git/*'))

.PHONY: help run build test deps format-check vet staticcheck caddyfiles race day lint fmt bench bench-micro fuzz soak vuln licenses release deploy-check site

help: ## List the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

run: build ## Build and start the gateway with the top-level Caddyfile
	@exec $(BINARY) run --config Caddyfile

# Without cgo the binary depends on no library of the machine. The first build
# compiles Caddy and all its modules.
build: ## Build bin/meet-gateway
	@[ -e $(BINARY) ] || echo "building $(BINARY): the first build takes one to five minutes, later ones seconds"
	@CGO_ENABLED=0 go build -o $(BINARY) ./caddymodule/cmd/meet-gateway

# The order lets a slip show early, compiles what the steps share once, and the
# race detector's own build of everything last.
test: deps format-check build vet staticcheck caddyfiles race day ## Run every check, with real Redis servers

deps: # Install what the tests need: from Debian, and the tools of tests/generators
	@.ci/install
	@.ci/tools

format-check:
	@files=$$(go run $(GOFUMPT) -l .); [ -z "$$files" ] || { echo "not formatted, run make fmt:"; echo "$$files"; exit 1; }

vet:
	@go vet ./...

staticcheck:
	@go run $(STATICCHECK) ./...

# Every Caddyfile here must load with nothing around it but a secret.
caddyfiles: build
	@for f in $(CADDYFILES); do \
		echo "validating $$f"; \
		out=$$(MEET_GATEWAY_SECRET=0123456789abcdef0123456789abcdef $(BINARY) validate --config "$$f" --adapter caddyfile 2>&1) \
			&& out=$$($(BINARY) fmt --diff "$$f" 2>&1) \
			|| { echo "$$out"; exit 1; }; \
	done

race:
	@MEET_GATEWAY_REQUIRE_TOOLS=1 go test -race -timeout 15m ./...

# Without the race detector, with which it would take minutes.
day: ## Live a day of 100,000 users in virtual time, and count the exchanges they wait for
	@go test -count=1 -v -run '^TestRenew_WorkingDay$$' ./backendclient

soak: deps ## Judge gateways under faults for SOAK (5m) a seed: those of the last release, then a drawn one
	@go test -c -race -o bin/cluster.test ./tests/cluster
	@failed=; for seed in $(SEEDS) ""; do \
		echo "seed $${seed:-drawn}"; \
		(cd tests/cluster && MEET_GATEWAY_SOAK=1 CLUSTER_SEED=$$seed CLUSTER_SOAK=$(SOAK) ../../bin/cluster.test -test.run '^(TestCampaign|TestSoak)$$' -test.v -test.timeout 2h) \
			|| failed="$$failed $${seed:-drawn}"; \
	done; \
	MEET_GATEWAY_SOAK=1 go test $$(grep -rl rapid.Check --include='*_test.go' . | xargs -n1 dirname | sort -u) -rapid.checks=1000 \
		-run "$$(grep -rl rapid.Check --include='*_test.go' . | xargs awk '/^func Test/ { split($$2, name, "(") } /rapid.Check/ { print name[1] }' | sort -u | paste -sd'|')" \
		|| failed="$$failed properties"; \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

lint: ## Run golangci-lint, which compiles for a minute the first time
	@go run $(GOLANGCI_LINT) run ./...

# The database is a Go module as well, so it comes from wherever modules do.
vuln: ## Look for known vulnerabilities, without the network but for Go modules
	@.ci/vulndb .cache/vulndb
	@GOTOOLCHAIN=$$(sed -n 's/^toolchain //p' go.mod) go run $(GOVULNCHECK) -db file://$(CURDIR)/.cache/vulndb ./caddymodule/cmd/meet-gateway | grep -vE '^ {6}#[0-9]+: '

licenses: ## Write docs/dependencies.md: what go.mod names, with versions and licences
	@.ci/licenses

fmt: ## Format all Go files and Caddyfiles
	@go run $(GOFUMPT) -w .
	@for f in $(CADDYFILES); do go run ./caddymodule/cmd/meet-gateway fmt --overwrite "$$f"; done

bench: ## Measure what the gateway costs and write docs/benchmarks.md (QUICK=1: in four minutes)
	@.ci/install bench
	@go run ./tests/bench $(if $(QUICK),-quick)

bench-micro: ## Run the micro-benchmarks
	@go test -run '^$$' -bench . -benchmem ./...

fuzz: ## Run every fuzz target for FUZZTIME (10s)
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file function; do \
		echo "$${file%/*} $${function#func }"; \
		go test -run '^$$' -fuzz "^$${function#func }\$$" -fuzztime $(FUZZTIME) "$${file%/*}"; \
	done

release: ## Build packages, images, SBOMs and checksums of the last commit into dist/
	@.ci/release

deploy-check: ## Check the chart, the unit, the packages, and that releases are reproducible
	@.ci/deploy-check

site: ## Write the documentation as web pages to site/
	@.ci/install site
	@.ci/site
