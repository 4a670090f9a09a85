# What `go` cannot say. Everything installs what it needs (Debian, root).

GOFLAGS_BUILD = -trimpath -ldflags=-buildid=
GOVULNCHECK   = golang.org/x/vuln/cmd/govulncheck@v1.1.4
GORELEASER    = github.com/goreleaser/goreleaser/v2@v2.15.1
GOLANGCI      = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: all build node-image release-snapshot demo test test-all bench soak lint vm generate man cross vuln tools clean

all: build

build: sbom-bless

sbom-bless: FORCE
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $@ .

# node-image makes the image of the Helm chart, for both architectures, as the OCI layout out/node-image.
node-image:
	for arch in amd64 arm64; do CGO_ENABLED=0 GOARCH=$$arch go build $(GOFLAGS_BUILD) -o out/sbom-bless-$$arch . || exit; done
	rm -rf out/node-image
	go run ./packaging/nodeimage out/node-image out/sbom-bless-amd64 out/sbom-bless-arm64

# release-snapshot makes in dist/ what a release has: archives and packages of this commit, unsigned.
release-snapshot:
	go run $(GORELEASER) release --snapshot --clean --skip=sign,sbom,publish

# demo blesses a real Debian image, or IMAGE=any/reference.
demo:
	@hack/install-tools.sh demo
	@hack/demo.sh $(IMAGE)

FORMATTED = gofmt -l . | (! grep .) && clang-format --dry-run --Werror enforce/bpf/*

# test passes every test, those in virtual machines among them. With these tags packages are the
# same with and without cgo, so each is compiled once.
ONCE = -tags=netgo,osusergo
test: tools
	$(FORMATTED)
	go vet $(ONCE) ./...
	go test $(ONCE) -timeout 85m ./...
	go test $(ONCE) -race ./node ./policy

# test-all runs also what takes too long for each change: every test on each of the four
# kernels, the attacks judged by IMA and fapolicyd, races on more processors, the demo, and the builds for
# other systems.
test-all: tools cross
	SBOM_BLESS_ALL=1 go test -timeout 3h ./...

# bench prints tables: our time, memory and size against other ways of blessing;
# what enforcement costs, in instructions; the time to load a list of files.
bench: tools
	go run ./bench
	go run ./bench/cost
	go test -run - -bench Set50000 ./enforce

# soak has containers come and go, and fuzzes the verifier, for an hour: make soak DURATION=10m KERNEL=7.3
soak: tools
	SBOM_BLESS_SOAK=$(or $(DURATION),1h) SBOM_BLESS_KERNEL=$(or $(KERNEL),6.12) go test -v -timeout 0 -run 'TestSoak|TestFuzz' ./test/churn ./test/fuzz

lint: tools
	$(FORMATTED)
	go run $(GOLANGCI) run

# vm runs tests in virtual machines with one kernel: make vm KERNEL=7.3 RUN=TestAttacks
vm: tools
	SBOM_BLESS_KERNEL=$(KERNEL) go test -v -timeout 40m -run '$(RUN)' ./enforce ./internal/vm ./test/...

# generate compiles the BPF programs anew, which must change nothing (clang 14).
generate: tools
	go generate ./enforce
	git diff --exit-code enforce

# man makes the manual page anew from the flags.
man: build
	./sbom-bless man >docs/sbom-bless.1

# cross builds what runs on other systems: bless, verify, inspect and sbom. enforce says that it needs Linux.
cross:
	for system in darwin/arm64 windows/amd64 linux/arm64; do \
		CGO_ENABLED=0 GOOS=$${system%/*} GOARCH=$${system#*/} go build -o /dev/null . || exit; done

# vuln asks the Go vulnerability database (https://vuln.go.dev) about the code that is reached.
vuln:
	go run $(GOVULNCHECK) ./...

tools:
	@hack/install-tools.sh test

clean:
	rm -rf sbom-bless out

FORCE:
