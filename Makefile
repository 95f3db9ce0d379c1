# The commands that the project is built, tested and packaged with. "make help" lists them.
# build and test need Go, make and git alone. The others say what they need.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE   ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/vmw-cloudinit-metadata

GOLANGCI_VERSION := v2.15.0
GOLANGCI         := $(CACHE)/golangci-lint-$(GOLANGCI_VERSION)-$(shell $(GO) env GOVERSION)/golangci-lint

FUZZTIME     ?= 10s
FUZZPARALLEL ?= 2

NFPM := $(CACHE)/nfpm-$(shell cksum packaging/tools/go.sum | cut -d' ' -f1)/nfpm

E2E        := .cache/e2e
E2E_SUITES ?= bookworm trixie
E2E_RUN    ?= .
# How many guests at once: each takes a processor and 768 MiB.
E2E_PARALLEL ?= 2

# Static, with no paths of the building machine inside.
GOBUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

.DEFAULT_GOAL := build

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## Build the programs into bin/
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/...

.PHONY: cross
cross: ## Build for the other systems and architectures that the programs are for
	GOARCH=arm64 $(GOBUILD) -o /dev/null ./cmd/vmw-cloudinit-metadata
	for target in linux/arm64 windows/amd64 freebsd/amd64; do \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) vet ./cmd/vmw-cloudinit-guest && \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(GOBUILD) -o /dev/null ./cmd/vmw-cloudinit-guest || exit 1; \
	done

.PHONY: test
test: ## Check and test everything that this machine has the tools for
	$(GO) vet ./...
	$(GO) test ./...

.PHONY: race
race: ## Run the tests with the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race ./...

.PHONY: lint
lint: $(GOLANGCI) ## Check formatting, Go and shell (needs shellcheck; builds golangci-lint once)
	@unformatted=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w on them:"; echo "$$unformatted"; exit 1; fi
	$(GO) mod tidy -diff
	$(GOLANGCI) run ./...
	git grep -lE '^#! ?(/usr)?/bin/(env )?(ba|da)?sh' -- . ':!*_test.go' ':!*.md' | xargs shellcheck

$(GOLANGCI):
	GOBIN=$(@D) GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: moves
moves: ## Migrate ports 300,000 times at random, and 600 KB answers 1,000 times over each kind of connection
	VMOTION_MOVES=300000 VMOTION_ANSWERS=1000 $(GO) test -count=1 -timeout 30m -run 'TestMovesLoseNothing|TestAnswersMoveOverTCP' ./vspc

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s)
	test/fuzz.sh $(FUZZTIME) $(FUZZPARALLEL)

.PHONY: bench
bench: ## Measure the server beside the floors, on Linux; BENCHFLAGS=-small is short, -h lists others
	$(GO) run ./bench $(BENCHFLAGS)

.PHONY: packages
packages: $(NFPM) ## Make deb and rpm of the guest and the server in dist/
	rm -rf dist
	packaging/build.sh $(NFPM) dist guest server

.PHONY: check-packages
check-packages: ## Look at the packages in dist/ (needs lintian, rpm, man-db, systemd)
	packaging/check.sh dist

$(NFPM):
	GOBIN=$(@D) GOFLAGS= $(GO) -C packaging/tools install github.com/goreleaser/nfpm/v2/cmd/nfpm

.PHONY: cloud-init
cloud-init: ## Unpack Debian's cloud-init into .cache/ for tests that compare with it (on Debian; installs nothing)
	test/cloud-init.sh .cache/cloud-init bookworm trixie

.PHONY: guest-image
guest-image: packages ## Build the guests of E2E_SUITES with our packages in them (as root, on Debian)
	test/image/install-tools.sh
	for suite in $(E2E_SUITES); do \
		test/image/build-guest.sh $$suite $(E2E)/$$suite dist/*_amd64.deb || exit 1; \
	done

.PHONY: e2e
e2e: guest-image ## Boot real guests in QEMU against the real server (as root, on Debian)
	E2E_DIR=$(abspath $(E2E)) E2E_SUITES="$(E2E_SUITES)" E2E_SERVER=$(abspath dist/build/linux_amd64/vmw-cloudinit-metadata) \
		$(GO) test -count=1 -timeout 80m -parallel $(E2E_PARALLEL) -v -run '$(E2E_RUN)' ./test/e2e

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin dist .cache
