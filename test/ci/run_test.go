// SPDX-License-Identifier: Apache-2.0

package ci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sbom-bless/sbom-bless/attest/keyless/keylesstest"
	"github.com/sbom-bless/sbom-bless/internal/gotool"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// version is that of the release on the local server.
const version = "9.8.7"

// Secrets, none of which may be seen.
const (
	registryPassword = "the-password-of-the-registry"
	passphrase       = "the-passphrase-of-the-key"
)

var shared string

func TestMain(m *testing.M) {
	var err error
	if shared, err = os.MkdirTemp("", "ci-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(shared)
	os.Exit(code)
}

// product is the program under test, built once.
var product = sync.OnceValues(func() (string, error) {
	path := filepath.Join(shared, "sbom-bless")
	build := exec.Command("go", "build", "-o", path, root)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// bench is what a job of CI meets: a release, a registry, keys, an image. Its directory is that of the job.
type bench struct {
	dir, product         string
	mirror, host, digest string // digest is the SHA-256 of the archive
	release              map[string][]byte
	argv                 string // file with the arguments of each sbom-bless that ran
	secret               string // a line of bless.key
}

// newBench has a release whose sbom-bless notes its arguments, and then is the product.
func newBench(t *testing.T) *bench {
	t.Helper()
	program, err := product()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), product: program, release: map[string][]byte{}}
	b.argv = filepath.Join(b.dir, "argv")
	wrapper := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$@\" >>'%s'\nexec '%s' \"$@\"\n", b.argv, program)
	b.digest = b.publish(t, []byte(wrapper))
	releases := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, ok := b.release[strings.TrimPrefix(r.URL.Path, "/download/v"+version+"/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(file)
	}))
	t.Cleanup(releases.Close)
	b.mirror = releases.URL + "/download"

	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case password != registryPassword:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
		case user != "writer" && !reads:
			refuse(w, http.StatusForbidden, "DENIED")
		default:
			images.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b.host = strings.TrimPrefix(server.URL, "http://")
	b.login(t, "writer")
	b.sh(t, program, "keygen", "--out", "bless")
	b.sh(t, program, "keygen", "--out", "other")
	b.sh(t, "cp", "bless.key", "bare.key") // without a certificate beside it
	b.secret = strings.Split(b.sh(t, "cat", "bless.key"), "\n")[1]
	if code := testimage.Main([]string{"whiteouts", b.in("app")}, io.Discard, os.Stderr); code != 0 {
		t.Fatal("mkimage failed")
	}
	return b
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
}

func (b *bench) in(file string) string { return filepath.Join(b.dir, file) }

// publish puts a release with this program on the server, and gives the SHA-256 of its archive.
func (b *bench) publish(t *testing.T, program []byte) string {
	t.Helper()
	archive := pack(t, program)
	sum := hex.EncodeToString(sha(archive))
	b.release[archiveName] = archive
	b.release["checksums.txt"] = []byte(strings.Repeat("0", 64) + "  sbom-bless_" + version + "_plan9_mips.tar.gz\n" + sum + "  " + archiveName + "\n")
	return sum
}

var archiveName = "sbom-bless_" + version + "_" + runtime.GOOS + "_" + runtime.GOARCH + ".tar.gz"

func sha(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }

func pack(t *testing.T, program []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	tw := tar.NewWriter(zw)
	for name, content := range map[string][]byte{"LICENSE": []byte("Apache-2.0\n"), "sbom-bless": program} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		tw.Write(content)
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// login is what docker login leaves behind.
func (b *bench) login(t *testing.T, user string) {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + registryPassword))
	write(t, b.in("docker/config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, b.host, auth))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) env(more ...string) []string {
	return append([]string{"PATH=/usr/bin:/bin", "HOME=" + b.dir, "DOCKER_CONFIG=" + b.in("docker"), "SBOM_BLESS_PASSWORD=" + passphrase}, more...)
}

// sh runs a program in the directory of the job, as the job's owner would.
func (b *bench) sh(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = b.dir, b.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// outcome is what a job leaves.
type outcome struct {
	code                   int
	log, summary, hostedAt string
	outputs                map[string]string
}

// github does what a runner does with a composite action: expressions, environment, steps, outputs.
func (b *bench) github(t *testing.T, path string, with map[string]string, env ...string) outcome {
	t.Helper()
	a, folder := actions(t)[path], filepath.Dir(path)
	for name := range with {
		if _, ok := a.Inputs[name]; !ok {
			t.Fatalf("%s has no input %s", path, name)
		}
	}
	at, err := filepath.Abs(filepath.Join(root, folder))
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	var o outcome
	var said bytes.Buffer
	steps := map[string]map[string]string{}
	for _, s := range a.Runs.Steps {
		output := filepath.Join(temp, "output-"+s.ID)
		cmd := exec.Command(s.Shell, "-e", "-c", s.Run)
		cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, &said, &said
		cmd.Env = append(b.env(env...), "GITHUB_ACTIONS=true", "GITHUB_ACTION_PATH="+at, "RUNNER_TEMP="+temp, "GITHUB_SERVER_URL=https://github.com",
			"GITHUB_OUTPUT="+output, "GITHUB_PATH="+filepath.Join(temp, "path"), "GITHUB_STEP_SUMMARY="+filepath.Join(temp, "summary"))
		for name, expression := range s.Env {
			in := input.FindStringSubmatch(expression)[1]
			value, given := with[in]
			if def := a.Inputs[in].Default; !given && def != nil {
				value = *def
			}
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		err := cmd.Run()
		o.code = cmd.ProcessState.ExitCode()
		steps[s.ID] = variables(output)
		if err != nil {
			break
		}
	}
	o.log, o.outputs = said.String(), map[string]string{}
	for name, out := range a.Outputs {
		m := stepValue.FindStringSubmatch(out.Value)
		o.outputs[name] = steps[m[1]][m[2]]
	}
	summary, _ := os.ReadFile(filepath.Join(temp, "summary"))
	o.summary = string(summary)
	added, _ := os.ReadFile(filepath.Join(temp, "path"))
	o.hostedAt = strings.TrimSpace(string(added))
	b.noSecrets(t, temp, o.log)
	return o
}

// variables reads a file of NAME=VALUE lines.
func variables(path string) map[string]string {
	raw, _ := os.ReadFile(path)
	all := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		all[name] = value
	}
	return all
}

// noSecrets demands that no secret is in the log of a job, in what it left, or in the arguments of sbom-bless.
func (b *bench) noSecrets(t *testing.T, left, log string) {
	t.Helper()
	argv, _ := os.ReadFile(b.argv)
	texts := map[string]string{"the log": log, "argv": string(argv)}
	filepath.WalkDir(left, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			raw, _ := os.ReadFile(path)
			texts[path] = string(raw)
		}
		return nil
	})
	for where, text := range texts {
		for _, secret := range []string{registryPassword, passphrase, b.secret, keylesstest.Token} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has the secret %s", where, secret)
			}
		}
	}
}

// with are the inputs of a good run, and changes to them.
func (b *bench) with(changes ...string) map[string]string {
	w := map[string]string{"image": "oci:app", "to": b.host + "/app:1", "key": "bless.key", "version": version, "mirror": b.mirror, "checksum": b.digest}
	for i := 0; i < len(changes); i += 2 {
		w[changes[i]] = changes[i+1]
	}
	return w
}

// pushed is the digest that a tag of the registry leads to; empty: there is no such tag.
func (b *bench) pushed(t *testing.T, tag string) string {
	t.Helper()
	ref, err := name.NewTag(b.host + "/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(ref, remote.WithAuth(&authn.Basic{Username: "writer", Password: registryPassword}))
	if err != nil {
		return ""
	}
	return desc.Digest.String()
}

// orders are the lines of a log that GitHub takes for commands; random tokens are TOKEN.
func orders(log string) (all []string) {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "::") {
			all = append(all, token.ReplaceAllString(strings.TrimSpace(line), "::${1}TOKEN"))
		}
	}
	return all
}

var token = regexp.MustCompile(`^::(stop-commands::)?[0-9a-f]{32}`)

var sizes = regexp.MustCompile(`[0-9.]+ (?:bytes|kB|MB)(?: \([+-][0-9.]+ %\))?`)

func TestTheActionBlessesVerifiesAndTells(t *testing.T) {
	b := newBench(t)
	o := b.github(t, "action.yml", b.with())
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.log)
	}
	digest := b.pushed(t, "app:1")
	if want := b.host + "/app@" + digest; o.outputs["image"] != want || o.outputs["digest"] != digest || digest == "" {
		t.Errorf("outputs image %s, digest %s, but %s was pushed", o.outputs["image"], o.outputs["digest"], want)
	}
	var metadata struct {
		Source, Blessed, KeyID string
		Descriptor             struct{ Digest string }
	}
	if err := json.Unmarshal([]byte(o.outputs["metadata"]), &metadata); err != nil || metadata.Descriptor.Digest != digest || metadata.Blessed != o.outputs["image"] {
		t.Errorf("output metadata: %v: %s", err, o.outputs["metadata"])
	}
	for _, document := range []string{"sbom.spdx.json", "sbom.cdx.json"} {
		if raw, err := os.ReadFile(filepath.Join(o.outputs["sbom-path"], document)); err != nil || !json.Valid(raw) {
			t.Errorf("output sbom-path: %s: %v", document, err)
		}
	}
	b.sh(t, b.product, "verify", o.outputs["image"], "--key", "bless.crt", "--attestations", o.outputs["bundle-path"])
	summary := sizes.ReplaceAllString(strings.NewReplacer(b.host, "HOST", digest, "DIGEST", metadata.KeyID, "KEYID", metadata.Source, "SOURCE").Replace(unescape(o.summary)), "SIZE")
	if diff := cmp.Diff(`### Blessed <code>HOST/app@DIGEST</code>

from <code>SOURCE</code>

| platform | files | code | packages | size | signed |
|---|--:|--:|--:|--:|---|
| <code>linux/amd64</code> | 11 | 3 | 0 | SIZE | each file, by key <code>KEYID</code>, and the list of files and the SBOMs |

- Verified: every byte was read back and is what the signatures say
`, summary); diff != "" {
		t.Errorf("summary:\n%s", diff)
	}
	want := []string{"::group::sbom-bless bless", "::stop-commands::TOKEN", "::TOKEN::", "::endgroup::", "::group::sbom-bless verify", "::stop-commands::TOKEN", "::TOKEN::", "::endgroup::"}
	if diff := cmp.Diff(want, orders(o.log)); diff != "" {
		t.Errorf("commands in the log:\n%s", diff)
	}
}

// unescape takes back what keeps names from being Markdown.
func unescape(s string) string { return strings.NewReplacer("&#64;", "@", "&#95;", "_").Replace(s) }

func TestTheActionSaysWhatIsWrongAndDoesNothingMore(t *testing.T) {
	b := newBench(t)
	sigstore := keylesstest.Start(t)
	instance := []string{"SIGSTORE_ID_TOKEN=" + keylesstest.Token, "SBOM_BLESS_FULCIO_URL=" + sigstore.URL, "SBOM_BLESS_REKOR_URL=" + sigstore.URL, "SBOM_BLESS_TRUST_ROOT=" + sigstore.RootFile(t)}
	pem, err := os.ReadFile(b.in("bless.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		with   map[string]string
		env    []string
		code   int
		want   string // in the last ::error:: line
		pushed bool
	}{
		{"the archive is another one than the checksum says", b.with("checksum", strings.Repeat("1", 64)), nil, 1, "is not what was released: its SHA-256 is " + b.digest, false},
		{"a checksum of nowhere is no proof", b.with("checksum", ""), nil, 1, "its checksum is not known, and there is no cosign", false},
		{"no such version", b.with("version", "1.2.3"), nil, 1, "cannot be fetched", false},
		{"a version that is a path", b.with("version", "../../x"), nil, 1, "version ../../x is none", false},
		{"no version", b.with("version", ""), nil, 1, "which version?", false},
		{"verified with another key", b.with("verify-key", "other.crt"), nil, 3, "verified and found wrong", true},
		{"no public key to verify with", b.with("key", "bare.key"), nil, 1, "verify: with which public key?%0Ahint: verify-key: bless.crt", false},
		{"no such key", b.with("key", "absent.key", "verify-key", "bless.crt"), nil, 1, "absent.key", false},
		{"the key itself as input", b.with("key", string(pem), "verify-key", "bless.crt"), nil, 2, "has no place in an input", false},
		{"no identity token", b.with("key", ""), []string{"GITHUB_WORKFLOW_REF=me/app/.github/workflows/ci.yml@refs/heads/main"}, 1, "id-token: write", false},
		{"an identity that another workflow has", b.with("key", ""), append(instance, "GITHUB_WORKFLOW_REF=me/app/.github/workflows/ci.yml@refs/heads/main"), 3, "verified and found wrong", true},
		{"no such image", b.with("image", "oci:absent"), nil, 1, "absent", false},
		{"an image that looks like a flag", b.with("image", "--hash-only"), nil, 1, "hash-only", false},
		{"no place to go", b.with("to", ""), nil, 2, "where does the blessed image go?", false},
		{"neither true nor false", b.with("verify", "yes"), nil, 2, "verify: yes is neither true nor false", false},
		{"shell in a value", b.with("to", "$(touch stolen);`touch stolen`"), nil, 1, "touch stolen", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := b.pushed(t, "app:1")
			if before != "" {
				t.Fatal("app:1 is there already")
			}
			defer func() { // as it was
				ref, _ := name.NewTag(b.host + "/app:1")
				_ = remote.Delete(ref, remote.WithAuth(&authn.Basic{Username: "writer", Password: registryPassword}))
			}()
			o := b.github(t, "action.yml", c.with, c.env...)
			said := orders(o.log)
			if o.code != c.code || len(said) == 0 || !strings.HasPrefix(said[len(said)-1], "::error title=sbom-bless::") || !strings.Contains(said[len(said)-1], c.want) {
				t.Errorf("exit code %d, want %d and an error with %q:\n%s", o.code, c.code, c.want, o.log)
			}
			if pushed := b.pushed(t, "app:1") != ""; pushed != c.pushed {
				t.Errorf("pushed: %v, want %v\n%s", pushed, c.pushed, o.log)
			}
			if o.outputs["image"] != "" || o.summary != "" {
				t.Errorf("a failed job has outputs %v and the summary\n%s", o.outputs, o.summary)
			}
			if _, err := os.Stat(b.in("stolen")); err == nil {
				t.Error("a value was run")
			}
		})
	}
}

func TestAKeyFromASecret(t *testing.T) {
	b := newBench(t)
	pem, err := os.ReadFile(b.in("bless.key"))
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(b.in("bless.key"))
	o := b.github(t, "action.yml", b.with("key", "env://SIGNING", "verify-key", "bless.crt", "args", "--cert bless.crt"), "SIGNING="+string(pem))
	if o.code != 0 || o.outputs["digest"] != b.pushed(t, "app:1") {
		t.Errorf("exit code %d\n%s", o.code, o.log)
	}
	argv, _ := os.ReadFile(b.argv)
	if !strings.Contains(string(argv), "--key=env://SIGNING\n") || !strings.Contains(string(argv), "--cert\nbless.crt\n") {
		t.Errorf("arguments:\n%s", argv)
	}
}

func TestNoPermissionToPush(t *testing.T) {
	b := newBench(t)
	b.login(t, "reader")
	o := b.github(t, "action.yml", b.with())
	said := orders(o.log)
	if o.code != 1 || !strings.Contains(said[len(said)-1], b.host) || !strings.Contains(said[len(said)-1], "DENIED") {
		t.Errorf("exit code %d\n%s", o.code, o.log)
	}
	b.login(t, "writer")
	if b.pushed(t, "app:1") != "" {
		t.Error("the tag is there all the same")
	}
}

func TestATamperedProgramIsNotInstalled(t *testing.T) {
	b := newBench(t)
	good := b.digest
	b.publish(t, []byte("#!/bin/sh\ntouch tampered\n")) // with a checksums.txt that fits
	for _, path := range []string{"action.yml", "install/action.yml"} {
		with := map[string]string{"version": version, "mirror": b.mirror, "checksum": good}
		if path == "action.yml" {
			with = b.with()
		}
		o := b.github(t, path, with)
		if o.code != 1 || !strings.Contains(o.log, "is not what was released") || o.hostedAt != "" {
			t.Errorf("%s: exit code %d\n%s", path, o.code, o.log)
		}
	}
	if _, err := os.Stat(b.in("tampered")); err == nil {
		t.Error("it ran")
	}
}

func TestKeyless(t *testing.T) {
	b := newBench(t)
	sigstore := keylesstest.Start(t)
	instance := []string{"SIGSTORE_ID_TOKEN=" + keylesstest.Token, "SBOM_BLESS_FULCIO_URL=" + sigstore.URL, "SBOM_BLESS_REKOR_URL=" + sigstore.URL, "SBOM_BLESS_TRUST_ROOT=" + sigstore.RootFile(t)}
	with := b.with("key", "", "certificate-identity", keylesstest.Subject, "certificate-oidc-issuer", keylesstest.Issuer)
	o := b.github(t, "action.yml", with, instance...)
	if o.code != 0 || o.outputs["digest"] != b.pushed(t, "app:1") {
		t.Fatalf("exit code %d\n%s", o.code, o.log)
	}
	for _, want := range []string{"| the list of files and the SBOMs |", "**Not signed:** the files. They carry digests", "- Verified"} {
		if !strings.Contains(o.summary, want) {
			t.Errorf("the summary lacks %q:\n%s", want, o.summary)
		}
	}
	with["detached"], with["image"], with["to"] = "true", o.outputs["image"], ""
	before := o.outputs["digest"]
	if o = b.github(t, "action.yml", with, instance...); o.code != 0 || o.outputs["digest"] != before {
		t.Fatalf("detached: exit code %d, digest %s, before %s\n%s", o.code, o.outputs["digest"], before, o.log)
	}
	if !strings.Contains(o.summary, "### Attested") || !strings.Contains(o.summary, "The image is as it was") {
		t.Errorf("the summary of a detached run:\n%s", o.summary)
	}
}

func TestInstallPutsTheProgramOnThePath(t *testing.T) {
	b := newBench(t)
	program, err := os.ReadFile(b.product)
	if err != nil {
		t.Fatal(err)
	}
	b.digest = b.publish(t, program) // itself, for once
	o := b.github(t, "install/action.yml", map[string]string{"version": "v" + version, "mirror": b.mirror, "checksum": b.digest})
	if o.code != 0 || o.outputs["version"] != version || o.outputs["path"] != filepath.Join(o.hostedAt, "sbom-bless") {
		t.Fatalf("exit code %d, outputs %v, path %s\n%s", o.code, o.outputs, o.hostedAt, o.log)
	}
	if installed, err := os.ReadFile(o.outputs["path"]); err != nil || !bytes.Equal(installed, program) {
		t.Errorf("%s is not what was released: %v", o.outputs["path"], err)
	}
	if got, want := b.sh(t, o.outputs["path"], "--version"), b.sh(t, b.product, "--version"); got != want {
		t.Errorf("%s says %s, want %s", o.outputs["path"], got, want)
	}
}

// script runs a script with an environment, in the directory of the job.
func (b *bench) script(t *testing.T, script string, args []string, env ...string) outcome {
	t.Helper()
	return b.shell(t, "/bin/sh", script, args, env)
}

// alpine does the same with busybox alone, which is what Alpine has: another shell, and no curl.
func (b *bench) alpine(t *testing.T, script string, args []string, env ...string) outcome {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: make tools installs it", err)
	}
	applets := b.in("applets")
	if _, err := os.Stat(applets); err != nil {
		if out, err := exec.Command("sh", "-c", `mkdir "$2" && "$1" --install -s "$2"`, "sh", busybox, applets).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return b.shell(t, filepath.Join(applets, "sh"), script, args, append(env, "PATH="+applets))
}

func (b *bench) shell(t *testing.T, shell, script string, args, env []string) outcome {
	t.Helper()
	cmd := exec.Command(shell, append([]string{"-ec", script, "sh"}, args...)...)
	cmd.Dir, cmd.Env = b.dir, b.env(env...)
	out, _ := cmd.CombinedOutput()
	return outcome{code: cmd.ProcessState.ExitCode(), log: string(out)}
}

// TestTheProgramOnThePath needs no release; a program that lies in the workspace is not what is meant.
func TestTheProgramOnThePath(t *testing.T) {
	b := newBench(t)
	write(t, b.in("sbom-bless-ci/bin/sbom-bless"), "#!/bin/sh\ntouch planted\n")
	if err := os.Chmod(b.in("sbom-bless-ci/bin/sbom-bless"), 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"INPUT_IMAGE=oci:app", "INPUT_TO=oci:blessed:1", "INPUT_KEY=bless.key", "INPUT_SBOM_FORMATS=none"}
	if o := b.script(t, read(t, "ci/sbom-bless.sh"), []string{"bless"}, env...); o.code != 1 || !strings.Contains(o.log, "there is no sbom-bless") {
		t.Errorf("without a program: exit code %d\n%s", o.code, o.log)
	}
	o := b.script(t, read(t, "ci/sbom-bless.sh"), []string{"bless"}, append(env, "PATH="+filepath.Dir(b.product)+":/usr/bin:/bin")...)
	outputs := variables(b.in("sbom-bless-ci/outputs.env"))
	if o.code != 0 || outputs["BLESSED_IMAGE"] != "oci:blessed@"+outputs["BLESSED_DIGEST"] || outputs["BLESSED_SBOM_PATH"] != "" {
		t.Errorf("exit code %d, outputs %v\n%s", o.code, outputs, o.log)
	}
	if _, err := os.Stat(b.in("planted")); err == nil {
		t.Error("the planted program ran")
	}
}

// TestAScriptThatKnowsTheRelease has a pin of its own, as the script has after a release: it needs neither an input nor cosign.
func TestAScriptThatKnowsTheRelease(t *testing.T) {
	b := newBench(t)
	script := strings.Replace(read(t, "ci/sbom-bless.sh"), "<<'EOL'\n", "<<'EOL'\n"+strings.Repeat("2", 64)+"  sbom-bless_0.0.1_linux_amd64.tar.gz\n"+b.digest+"  "+archiveName+"\n", 1)
	o := b.script(t, script, []string{"install"}, "INPUT_MIRROR="+b.mirror)
	if o.code != 0 || !strings.Contains(o.log, "sbom-bless "+version+" in "+b.in("sbom-bless-ci/bin")) {
		t.Errorf("exit code %d\n%s", o.code, o.log)
	}
	b.publish(t, []byte("tampered"))
	if o := b.script(t, script, []string{"install"}, "INPUT_MIRROR="+b.mirror); o.code != 1 || !strings.Contains(o.log, "is not what was released") {
		t.Errorf("tampered: exit code %d\n%s", o.code, o.log)
	}
}

// TestCosignVerifiesTheRelease has the real cosign verify checksums.txt of a mirror that is signed with a key.
func TestCosignVerifiesTheRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("cosign takes minutes to build")
	}
	cosign, err := gotool.Path(t.Context(), gotool.Cosign)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	path := "PATH=" + filepath.Dir(cosign) + ":/usr/bin:/bin"
	sign := func(key string) {
		write(t, b.in("checksums.txt"), string(b.release["checksums.txt"]))
		cmd := exec.Command(cosign, "sign-blob", "--yes", "--key", key, "--use-signing-config=false", "--tlog-upload=false", "--bundle", "bundle.json", "checksums.txt")
		cmd.Dir, cmd.Env = b.dir, b.env("COSIGN_PASSWORD=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b.release["checksums.txt.sigstore.json"], _ = os.ReadFile(b.in("bundle.json"))
	}
	for _, name := range []string{"release", "stranger"} {
		cmd := exec.Command(cosign, "generate-key-pair", "--output-key-prefix", name)
		cmd.Dir, cmd.Env = b.dir, b.env("COSIGN_PASSWORD=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sign("release.key")
	with := map[string]string{"version": version, "mirror": b.mirror, "release-key": "release.pub"}
	if o := b.github(t, "install/action.yml", with, path); o.code != 0 || !strings.Contains(o.log, "its origin proved by signature") {
		t.Errorf("exit code %d\n%s", o.code, o.log)
	}
	sign("stranger.key")
	if o := b.github(t, "install/action.yml", with, path); o.code != 1 || !strings.Contains(o.log, "is not signed by whoever releases sbom-bless") {
		t.Errorf("signed by a stranger: exit code %d\n%s", o.code, o.log)
	}
	sign("release.key")
	b.publish(t, []byte("tampered"))
	if o := b.github(t, "install/action.yml", with, path); o.code != 1 || !strings.Contains(o.log, "is not signed by whoever releases sbom-bless") {
		t.Errorf("another checksums.txt than was signed: exit code %d\n%s", o.code, o.log)
	}
}

func TestGitLab(t *testing.T) {
	b := newBench(t)
	os.RemoveAll(b.in("docker"))
	spec, job := gitlab(t)
	env := []string{"CI_REGISTRY=" + b.host, "CI_REGISTRY_USER=writer", "CI_REGISTRY_PASSWORD=" + registryPassword, "GITLAB_CI=true"}
	with := b.with()
	for name, in := range spec.Spec.Inputs {
		value, given := with[name]
		if !given && in.Default != nil {
			value = *in.Default
		}
		for variable, v := range job.Variables {
			if v == "$[[ inputs."+name+" ]]" {
				env = append(env, variable+"="+value)
			}
		}
	}
	o := b.alpine(t, strings.Join(slices.Concat(job.BeforeScript, job.Script), "\n"), nil, env...)
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o.log)
	}
	b.noSecrets(t, b.in("sbom-bless-ci"), o.log)
	outputs := variables(b.in(job.Artifacts.Reports["dotenv"]))
	if digest := b.pushed(t, "app:1"); outputs["BLESSED_DIGEST"] != digest || outputs["BLESSED_IMAGE"] != b.host+"/app@"+digest {
		t.Errorf("%s was pushed, the outputs are %v", digest, outputs)
	}
	kept, _ := filepath.Glob(b.in(job.Artifacts.Paths[0]) + "/summary.md")
	if len(kept) != 1 || kept[0] != outputs["BLESSED_SUMMARY_PATH"] {
		t.Errorf("the artifacts have %v, the outputs %v", kept, outputs)
	}
	if info, err := os.Stat(b.in("docker/config.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the login: %v, %v", info, err)
	}
}

func TestTekton(t *testing.T) {
	b := newBench(t)
	v := tekton(t)
	with := b.with("key", b.in("bless.key"))
	replace := []string{"/sbom-bless/outputs.env", b.in("home/outputs.env")}
	for _, p := range v.Spec.Params {
		value, given := with[p.Name]
		if !given && p.Default != nil {
			value = *p.Default
		}
		replace = append(replace, "$(params."+p.Name+")", value)
	}
	for _, w := range v.Spec.Workspaces {
		replace = append(replace, "$(workspaces."+w.Name+".path)", map[string]string{"source": b.dir, "dockerconfig": b.in("docker")}[w.Name])
	}
	for _, r := range v.Spec.Results {
		replace = append(replace, "$(results."+r.Name+".path)", b.in("result-"+r.Name))
	}
	tekton := strings.NewReplacer(replace...)
	for _, s := range v.Spec.Steps {
		var env []string
		for _, e := range s.Env {
			switch {
			case e.ValueFrom != nil: // SBOM_BLESS_PASSWORD
			case e.Name == "INPUT_HOME":
				env = append(env, e.Name+"="+b.in("home"))
			default:
				env = append(env, e.Name+"="+tekton.Replace(e.Value))
			}
		}
		if o := b.alpine(t, tekton.Replace(s.Script), s.Args, env...); o.code != 0 {
			t.Fatalf("step %s: exit code %d\n%s", s.Name, o.code, o.log)
		}
	}
	digest := b.pushed(t, "app:1")
	image, _ := os.ReadFile(b.in("result-image"))
	short, _ := os.ReadFile(b.in("result-digest"))
	if digest == "" || string(short) != digest || string(image) != b.host+"/app@"+digest {
		t.Errorf("%s was pushed, the results are %q and %q", digest, image, short)
	}
}
