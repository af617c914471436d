# Targets: plain `make` lists them.
GO        ?= go
STATICCHECK = $(GO) tool -modfile=tools/go.mod staticcheck
PREFIX    ?= /usr/local
VOLUME    ?= scratch/volume
MNT       ?= scratch/mnt
FUZZTIME  ?= 30s

.DEFAULT_GOAL := help
.PHONY: help build up down test race check lint fuzz system campaign bench figures cover clean install

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the programs to bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

up: build ## build, make a volume on two sparse files, mount it, say what to try
	@MNT=$(MNT) VOLUME=$(VOLUME) scripts/up

down: ## unmount what `make up` mounted; the volume stays
	@bin/scoutfs umount $(MNT)

test: ## unit tests: minutes, no root needed
	$(GO) test ./...

race: ## the same with the race detector and invariants
	$(GO) test -race -tags invariants ./...

check: lint race ## what to run before every commit

lint: ## format, vet, staticcheck, go.mod tidy, arch rules
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags invariants,system ./...
	$(STATICCHECK) ./...
	$(GO) mod tidy -diff
	$(GO) test ./internal/archtest

system: build ## tests on real mounts: root, /dev/fuse, loop devices
	$(GO) test -tags system -count=1 -timeout 20m ./tests/...

campaign: ## the long forms of all fault campaigns, with a summary; root, about an hour
	GO="$(GO)" scripts/campaign

fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

bench: ## Go benchmarks of all packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

figures: build ## measure the promised ratios against fio and a null FUSE server; root, a quarter of an hour
	scripts/figures

cover: ## coverage of the unit tests
	$(GO) test -coverprofile=coverage.out ./... && $(GO) tool cover -func=coverage.out | tail -1

install: build ## install programs, mount helpers and units under PREFIX
	install -D -m 755 bin/scoutfs $(DESTDIR)$(PREFIX)/sbin/scoutfs
	install -d $(DESTDIR)/sbin
	ln -sf $(PREFIX)/sbin/scoutfs $(DESTDIR)/sbin/mount.scoutfs
	install -D -m 755 packaging/umount.fuse $(DESTDIR)/sbin/umount.fuse
	install -D -m 644 packaging/scoutfs@.service $(DESTDIR)$(PREFIX)/lib/systemd/system/scoutfs@.service

clean: ## remove what the build made; never a volume
	rm -rf bin coverage.out
