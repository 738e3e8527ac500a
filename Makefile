# agentbox: build, try, test. `make help` says what each target does.
SHELL := /bin/bash
.DEFAULT_GOAL := build

TAGS     := remote containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper
SITE     ?= .cache/site
VERSION  ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
GOLANGCI := go tool -n -modfile=tools/go.mod golangci-lint
ACTIONLINT := go tool -n -modfile=tools/actionlint.mod actionlint

# Building, vetting and linting share what is compiled; compiling Podman's bindings takes minutes.
PLAIN    := CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath"
export GOFLAGS := -buildvcs=false

.PHONY: help build shim packages snapshot check-packages check-release quickstart test e2e nightly registries bench conformance soak lint fmt generate schema man completions site clean need-go

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: shim ## build bin/agentbox, with the container's PID 1 inside it
	$(PLAIN) go build -tags "$(TAGS)" -ldflags "$(LDFLAGS)" -o bin/agentbox ./cmd/agentbox

shim: need-go
	hack/build-shim

packages: build ## make the deb, the rpm and the apk of bin/agentbox in dist/
	hack/package dist

snapshot: shim ## make all that a release holds in dist/, for every system, without publishing (compiles for many minutes)
	hack/goreleaser release --snapshot --clean

check-packages: build ## as root on Debian: install the deb on bare Debian 12 and 13 roots, and run agentbox there
	hack/check-packages $(SUITES)

check-release: need-go ## make the release twice, and compare every file (compiles for many minutes)
	hack/check-release

quickstart: need-go ## build, then run the demo in a scratch repo; on a bare root-only Debian, set that up first
	hack/quickstart

test: build ## run every test, with the race detector, as an unprivileged user (root: on Podman 4.3 and 5.4)
	hack/prepare-tests
	hack/test --race ./...

e2e: build ## run only the end-to-end tests
	hack/prepare-tests
	hack/test --race ./test/e2e/...

nightly: need-go ## hold applying to 10,000 random trees, edits and kills (AGENTBOX_PROPERTY_CASES for another number)
	AGENTBOX_PROPERTY_CASES=$${AGENTBOX_PROPERTY_CASES:-10000} TEST_ARGS='-test.timeout=12h' hack/test --on "$${NIGHTLY_ON:-4.3}" ./internal/apply

registries: build ## fetch a package from the real npm, Go and Debian registries, through the sandbox (needs the network)
	hack/check-registries

bench: build ## measure speed, size and the proxy, beside podman, srt, goproxy, mitmproxy and squid
	hack/bench

conformance: need-go ## hold the proxy against h2spec and the cases of Autobahn's WebSocket suite
	$(PLAIN) go test -count=1 -v -run 'TestHTTP2$$' ./test/conformance
	$(PLAIN) go test -count=1 ./test/conformance

soak: shim ## send a million requests of every kind through one proxy process, and see that nothing grows
	$(PLAIN) go run ./test/soak $(SOAK)

lint: shim ## check formatting, go vet, golangci-lint, the shell scripts, and the workflows
	@unformatted=$$(gofmt -l $$(git -c safe.directory='*' ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi
	$(PLAIN) go vet -tags "$(TAGS)" ./...
	$(PLAIN) "$$($(GOLANGCI))" run ./...
	$(PLAIN) "$$($(ACTIONLINT))" -shellcheck= -pyflakes= docs/ci/github-actions.yml .github/workflows/release.yml
	@for f in .ci/run $$(git -c safe.directory='*' grep -lE '^#!/(usr/bin/env bash|bin/sh)' -- hack test); do bash -n "$$f" || exit 1; done

fmt: ## format the Go code
	gofmt -w $$(git -c safe.directory='*' ls-files -co --exclude-standard '*.go')

generate: shim ## write anew what is made from the code: man pages, pages of docs/, JSON Schemas, PowerShell's completion
	$(PLAIN) go run -tags "$(TAGS) gendocs" ./cmd/agentbox

schema man completions: generate

site: need-go ## make a website of the documentation (SITE, .cache/site); it needs no server
	$(PLAIN) go run ./cmd/agentbox-site "$(SITE)"

clean: ## remove what was built here
	rm -rf bin dist .cache internal/shimbin/bin/agentbox-shim-*

need-go:
	@command -v go >/dev/null || { \
	  echo "make: Go is not installed, or not on PATH." >&2; \
	  echo "hint: install Go 1.26 from https://go.dev/dl/ and add its bin directory to PATH" >&2; exit 1; }
