GO ?= go
TOOL = $(GO) tool -modfile=$(CURDIR)/tools/go.mod
TESTFLAGS ?= -timeout=20m
BENCHFLAGS ?=
FAULTSFLAGS ?=
PEERSFLAGS ?=
SDKFLAGS ?=
CONSOLEFLAGS ?=
FUZZTIME ?= 30s
VULNFLAGS ?=
# The modules of this repository.
MODULES = . conformance tools e2e/helm e2e/console bench/peers/custommetrics bench/peers/metricsserver

.PHONY: help build check format vet staticcheck architecture size tidy test race fuzz vuln conformance peers bench bench-smoke bench-scale faults faults-short evidence console console-check console-test ci
.DEFAULT_GOAL := help

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/annex, with bin/kube-apiserver as another name for `annex serve`, and bin/kubectl-annex
	$(GO) build -o bin/annex ./cmd/annex
	ln -sf annex bin/kube-apiserver
	$(GO) build -trimpath -ldflags='-s -w' -o bin/kubectl-annex ./cmd/kubectl-annex

check: format vet staticcheck architecture tidy ## everything that reads the code and does not run it

format: ## files that gofmt or gofumpt, which disagree in places, would write otherwise
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l . && $(TOOL) gofumpt -l .) && if [ -n "$$files" ]; then echo "not formatted:"; echo "$$files"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...
	$(GO) -C conformance vet ./...
	$(GO) -C e2e/console vet ./...

staticcheck: ## staticcheck
	$(TOOL) staticcheck ./...
	cd conformance && $(TOOL) staticcheck ./...
	cd e2e/console && $(TOOL) staticcheck ./...

architecture: ## who may import whom, and whether the documents say what the code does
	$(GO) test -count=1 ./internal/architecture ./internal/docs

size: ## kubectl-annex is below 60 MB
	@f=$$(mktemp) && trap 'rm -f "$$f"' EXIT && $(GO) build -trimpath -ldflags='-s -w' -o "$$f" ./cmd/kubectl-annex && \
		n=$$(wc -c <"$$f") && echo "kubectl-annex has $$n bytes" && [ "$$n" -lt 60000000 ]

tidy: ## what go mod tidy would change, in every module
	@for m in $(MODULES); do $(GO) -C $$m mod tidy -diff || { echo "$$m/go.mod is not tidy: run go -C $$m mod tidy"; exit 1; }; done

test: ## all tests
	$(GO) test $(TESTFLAGS) ./...
	$(GO) -C conformance test $(TESTFLAGS) ./...

race: ## all tests with the race detector, long ones in their short form
	@$(MAKE) --no-print-directory test TESTFLAGS="-race -short $(TESTFLAGS)"

fuzz: ## each fuzz target for FUZZTIME, 30s by default
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r package; do \
		targets=$$($(GO) test -list '^Fuzz' $$package) || { echo "$$targets"; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

vuln: ## known vulnerabilities in code that is reached; fails where the database cannot be read, too
	@$(TOOL) govulncheck $(VULNFLAGS) ./... || { code=$$?; \
		if [ $$code -ne 3 ]; then echo "vuln: NOTHING WAS CHECKED: the vulnerability database cannot be read from here; VULNFLAGS=-db=URL names another" >&2; fi; \
		exit $$code; }

conformance: ## the reference's own integration tests over our server chain
	conformance/run

peers: ## the conformance kit over servers that others wrote, about eight minutes; writes docs/evidence/conformance.md
	$(GO) run ./bench/peers -markdown docs/evidence $(PEERSFLAGS)

bench: ## side by side with the reference, and the SDK with sample-apiserver
	$(GO) run ./bench $(BENCHFLAGS)
	$(GO) run ./bench/sdk $(SDKFLAGS)

bench-smoke: ## a small bench that shows that everything works
	$(GO) run ./bench -short $(BENCHFLAGS)
	$(GO) run ./bench/sdk -short $(SDKFLAGS)

bench-scale: ## how cost grows with the number of APIServices and CRDs; writes docs/evidence/growth.md
	$(GO) run ./bench -scale -plot docs/evidence/growth.svg -markdown docs/evidence/growth.md $(BENCHFLAGS)

faults: ## extension servers that die, freeze and flood, behind the reference and behind ours
	$(GO) run ./bench/faults $(FAULTSFLAGS)

faults-short: ## a shorter form, on ours alone; fails when a count, not a time, misses its goal
	$(GO) run ./bench/faults -short -check $(FAULTSFLAGS)

evidence: ## measures all that docs/evidence shows and puts it there, more than an hour
	$(GO) run ./bench -markdown docs/evidence/performance.md
	$(GO) run ./bench -scale -plot docs/evidence/growth.svg -markdown docs/evidence/growth.md
	$(GO) run ./bench/faults -markdown docs/evidence/faults.md
	$(GO) test -count=1 -run TestFaults ./bench/doctor -update
	$(GO) run ./bench/sdk -markdown docs/evidence/sdk.md
	$(GO) run ./bench/peers -markdown docs/evidence

console: ## the web page, from console/web into console/dist; needs node
	cd console/web && npm ci --ignore-scripts --no-audit --no-fund && npm run -s check && npm run -s build

console-check: ## whether console/dist is what its source gives, and the page's own tests; needs node
	cd console/web && npm ci --ignore-scripts --no-audit --no-fund && npm run -s check && npm run -s test
	ANNEX_CONSOLE_CHECK=1 $(GO) test -count=1 ./console

console-test: ## the page in headless Chromium, of Debian's package chromium or chromium-headless-shell
	ANNEX_BROWSER_REQUIRED=1 $(GO) -C e2e/console test -count=1 -v $(CONSOLEFLAGS) .

ci: ## what .ci/run runs
	.ci/run
