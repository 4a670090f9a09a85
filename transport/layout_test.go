// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/internal/filelock"
)

// TestLayoutKeepsWhatIsThere: entries, annotations and fields of others stay as
// they are, and a tag moves.
func TestLayoutKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	testImage(10).write(t, "oci:"+dir+":old", Options{})
	raw, err := os.ReadFile(dir + "/index.json")
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"schemaVersion":2`), []byte(`"annotations":{"mine":"<&>"},"schemaVersion":2`), 1)
	raw = bytes.Replace(raw, []byte(`"mediaType":"application/vnd.oci.image.manifest`), []byte(`"future":[1,2],"mediaType":"application/vnd.oci.image.manifest`), 1)
	if err := os.WriteFile(dir+"/index.json", raw, 0o644); err != nil {
		t.Fatal(err)
	}
	a, b := testImage(20), testImage(30)
	a.write(t, "oci:"+dir+":new", Options{})
	b.write(t, "oci:"+dir+":new", Options{})
	now, err := os.ReadFile(dir + "/index.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"future":[1,2]`, `"annotations":{"mine":"<&>"}`} {
		if !bytes.Contains(now, []byte(part)) {
			t.Errorf("%s is lost: %s", part, now)
		}
	}
	var tags []string
	for _, d := range indexOf(t, dir).Manifests {
		tags = append(tags, d.Annotations[refName])
	}
	if !slices.Equal(tags, []string{"old", "new"}) {
		t.Errorf("tags are %q", tags)
	}
	same(t, read(t, "oci:"+dir+":old", Options{}), testImage(10))
	same(t, read(t, "oci:"+dir+":new", Options{}), b)
	b.write(t, "oci:"+dir+":new", Options{})
	if again, _ := os.ReadFile(dir + "/index.json"); !bytes.Equal(again, now) {
		t.Error("the same image again changes index.json")
	}
}

func TestUntaggedImageIsReplaced(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{10, 20, 20} {
		c, _ := attested()
		c.addImage(uint64(size), "amd64", size)
		c.write(t, "oci:"+dir, Options{})
		if s, err := Open(t.Context(), "oci:"+dir, Options{}); err != nil {
			t.Fatal(err)
		} else if s.Close(); s.Root().Digest != c.root.Digest {
			t.Errorf("root is %s, want %s", s.Root().Digest, c.root.Digest)
		}
	}
}

// TestLayoutIsReadInPlace: no copy, no temporary file.
func TestLayoutIsReadInPlace(t *testing.T) {
	dir := t.TempDir()
	c := testImage(1000)
	c.write(t, "oci:"+dir, Options{})
	same(t, read(t, "oci:"+dir, Options{TempDir: "/nonexistent"}), c)
	c.write(t, "oci-archive:"+dir+"/a.tar", Options{})
	same(t, read(t, "oci-archive:"+dir+"/a.tar", Options{TempDir: "/nonexistent"}), c)
}

func TestManyWritersOneLayout(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	shared := testImage(200_000)
	images := map[string]*content{}
	var wg sync.WaitGroup
	for i := range 16 {
		c := testImage(200_000, i)
		tag := fmt.Sprintf("v%d", i)
		if i%4 == 0 {
			c = shared
		}
		images[tag] = c
		wg.Go(func() { c.write(t, "oci:"+dir+":"+tag, Options{}) })
	}
	wg.Wait()
	for tag, c := range images {
		same(t, read(t, "oci:"+dir+":"+tag, Options{}), c)
	}
	onlyBlobs(t, dir)
}

// TestProcessesOfOneLayout does the same with processes, as the lock is between
// those.
func TestProcessesOfOneLayout(t *testing.T) {
	if dir := os.Getenv("LAYOUT"); dir != "" {
		for i := range 10 {
			testImage(100, os.Getpid(), i).write(t, fmt.Sprintf("oci:%s:p%d-%d", dir, os.Getpid(), i), Options{})
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "new")
	var wg sync.WaitGroup
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestProcessesOfOneLayout$")
		cmd.Env = append(os.Environ(), "LAYOUT="+dir)
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	x := indexOf(t, dir)
	if len(x.Manifests) != 40 {
		t.Errorf("%d images, want 40", len(x.Manifests))
	}
	for _, d := range x.Manifests {
		read(t, "oci:"+dir+":"+d.Annotations[refName], Options{})
	}
	onlyBlobs(t, dir)
}

// onlyBlobs fails if there is anything in the layout that does not belong there.
func onlyBlobs(t *testing.T, dir string) {
	t.Helper()
	for _, name := range filesIn(t, dir) {
		if !strings.HasPrefix(name, "blobs/sha256/") && name != "index.json" && name != "oci-layout" {
			t.Errorf("left behind: %s", name)
		}
	}
}

func TestLayoutOfARunThatFailed(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "new")
	begin := func(ctx context.Context) *content {
		c := testImage(1000)
		d, err := Create(t.Context(), "oci:"+dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.PutBlob(ctx, c.order[0], func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.bytes[c.order[0].Digest])), nil }); err != nil {
			t.Fatal(err)
		}
		err = d.PutBlob(ctx, c.order[1], func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("short")), nil })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error is %v", err)
		}
		return c
	}
	begin(t.Context())
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("a layout that was never finished is still there: %v, %v", left, err)
	}
	testImage(5).write(t, "oci:"+dir+":good", Options{})
	c := begin(t.Context())
	onlyBlobs(t, dir)
	same(t, read(t, "oci:"+dir+":good", Options{}), testImage(5))
	c.write(t, "oci:"+dir+":again", Options{})
	same(t, read(t, "oci:"+dir+":again", Options{}), c)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := Create(t.Context(), "oci:"+dir+":never", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := testImage(99).put(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	onlyBlobs(t, dir)
}

// TestLockOfALayoutMadeAgain: who waits for the lock of a layout that is taken
// away and made again gets that of the new one.
func TestLockOfALayoutMadeAgain(t *testing.T) {
	dir := t.TempDir()
	testImage(1).write(t, "oci:"+dir, Options{})
	first, err := os.OpenFile(dir+"/oci-layout", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := filelock.Lock(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	d, err := createLayout(reference{place: Layout, path: dir}, Options{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	done := make(chan error)
	go func() {
		done <- d.locked(t.Context(), func() error {
			if err := tryLock(dir); !errors.Is(err, syscall.EWOULDBLOCK) {
				return fmt.Errorf("the lock of the new layout is free: %v", err)
			}
			return nil
		})
	}()
	time.Sleep(50 * time.Millisecond) // it has the old file open by then, or this tests nothing
	if err := errors.Join(os.Remove(dir+"/oci-layout"), os.WriteFile(dir+"/oci-layout", []byte(layoutFile), 0o644), first.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func tryLock(dir string) error {
	f, err := os.OpenFile(dir+"/oci-layout", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// TestTwoRunsOneFails: what a failing run takes away, another one must not have
// relied on.
func TestTwoRunsOneFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	c := testImage(1000)
	first, err := Create(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.put(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second, err := Create(t.Context(), "oci:"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := c.put(t.Context(), second); err != nil { // finds everything there
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Commit(t.Context(), c.root); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrNotFound) {
		t.Errorf("commit of blobs that are gone: %v", err)
	}
}

func TestHostileLayouts(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := testImage(1000)
	head, _ := parseHead(c.bytes[c.root.Digest], "")
	layer := head.Layers[0]
	blob := func(dir string) string { return filepath.Join(dir, blobPath(layer.Digest)) }
	index := func(dir, raw string) error { return os.WriteFile(dir+"/index.json", []byte(raw), 0o644) }
	for name, test := range map[string]struct {
		harm func(dir string) error
		want string
	}{
		"missing blob":  {func(dir string) error { return os.Remove(blob(dir)) }, "blob " + layer.Digest.String() + ": not found"},
		"missing index": {func(dir string) error { return os.Remove(dir + "/index.json") }, "no OCI layout"},
		"short blob":    {func(dir string) error { return os.Truncate(blob(dir), 5) }, "5 bytes, the descriptor says"},
		"long blob":     {func(dir string) error { return os.Truncate(blob(dir), 1<<30) }, "more than the"},
		"link out of the layout": {func(dir string) error {
			return errors.Join(os.Remove(blob(dir)), os.Symlink(secret, blob(dir)))
		}, "a symbolic link leads out"},
		"pipe": {func(dir string) error {
			return errors.Join(os.Remove(blob(dir)), syscall.Mkfifo(blob(dir), 0o600))
		}, "not a regular file"},
		"device": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/index.json"), os.Symlink("/dev/zero", dir+"/index.json"))
		}, "a symbolic link leads out"},
		"digest that is a path": {func(dir string) error {
			return index(dir, `{"schemaVersion":2,"manifests":[{"mediaType":"`+string(types.OCIManifestSchema1)+`","size":6,"digest":"sha256:../../../`+secret+`"}]}`)
		}, "index.json: "},
		"negative size": {func(dir string) error {
			return index(dir, `{"schemaVersion":2,"manifests":[{"mediaType":"`+string(types.OCIManifestSchema1)+`","size":-1,"digest":"`+c.root.Digest.String()+`"}]}`)
		}, "size -1 is negative"},
		"size beyond all": {func(dir string) error {
			return index(dir, `{"schemaVersion":2,"manifests":[{"mediaType":"`+string(types.OCIManifestSchema1)+`","size":9223372036854775807,"digest":"`+c.root.Digest.String()+`"}]}`)
		}, "more than the limit"},
		"huge index": {func(dir string) error { return os.Truncate(dir+"/index.json", 1<<40) }, "more than the limit"},
		"no images":  {func(dir string) error { return index(dir, `{"schemaVersion":2,"manifests":[]}`) }, "not found"},
		"not JSON":   {func(dir string) error { return index(dir, `<html>`) }, "index.json: invalid character"},
		"deep JSON": {func(dir string) error {
			return index(dir, `{"schemaVersion":2,"manifests":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`)
		}, "index.json: "},
		"other manifest": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, blobPath(c.root.Digest)), make([]byte, c.root.Size), 0o644)
		}, "manifest " + c.root.Digest.String() + ": the bytes have the digest"},
		"manifest listed as an index": {func(dir string) error {
			return index(dir, `{"schemaVersion":2,"manifests":[{"mediaType":"`+string(types.OCIImageIndex)+`","size":`+fmt.Sprint(c.root.Size)+`,"digest":"`+c.root.Digest.String()+`"}]}`)
		}, "is offered as"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.write(t, "oci:"+dir, Options{})
			if err := test.harm(dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(t.Context(), "oci:"+dir, Options{})
			if err == nil {
				defer s.Close()
				_, err = s.Blob(t.Context(), layer)
			}
			wantError(t, err, "oci:"+dir, test.want)
		})
	}
}

func TestDescriptorsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	c := testImage(10)
	c.write(t, "oci:"+dir+"/l", Options{})
	c.write(t, "oci-archive:"+dir+"/a.tar", Options{})
	c.write(t, "docker-archive:"+dir+"/d.tar", Options{})
	host := memoryRegistry(t)
	c.write(t, host+"/app:1", Options{})
	manifest := c.bytes[c.root.Digest]
	good := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	const syntax = "is not sha256: and 64, or sha512: and 128 lower case hexadecimal digits"
	bad := []struct {
		v1.Descriptor
		want string
	}{
		{v1.Descriptor{}, syntax},
		{v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "../../../../etc/passwd"}, Size: 1}, syntax},
		{v1.Descriptor{Digest: v1.Hash{Algorithm: "..", Hex: "index.json"}, Size: 1}, syntax},
		{v1.Descriptor{Digest: v1.Hash{Algorithm: "md5", Hex: strings.Repeat("a", 32)}, Size: 1}, syntax},
		{v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("A", 64)}, Size: 1}, syntax},
		{v1.Descriptor{Digest: good, Size: -1}, "size -1 is negative"},
		{v1.Descriptor{Digest: good, Size: 1 << 62}, "4611686018427387904 bytes, more than the limit"},
		{v1.Descriptor{Digest: good, Size: int64(len(manifest))}, "not found"},
	}
	for _, ref := range []string{"oci:" + dir + "/l", "oci-archive:" + dir + "/a.tar", "docker-archive:" + dir + "/d.tar", host + "/app:1"} {
		s, err := Open(t.Context(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, desc := range bad {
			_, err := s.Blob(t.Context(), desc.Descriptor)
			wantError(t, err, ref, "blob ", desc.want)
			_, err = s.Manifest(t.Context(), desc.Descriptor)
			wantError(t, err, ref, "manifest ", desc.want)
		}
	}
	for _, ref := range []string{"oci:" + dir + "/n", "oci-archive:" + dir + "/b.tar", "docker-archive:" + dir + "/e.tar", host + "/app:2"} {
		d, err := Create(t.Context(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, desc := range bad {
			want := strings.Replace(desc.want, "not found", "the bytes have the digest", 1)
			err := d.PutBlob(t.Context(), desc.Descriptor, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(manifest)), nil })
			wantError(t, err, ref, want)
			err = d.PutManifest(t.Context(), desc.Descriptor, manifest)
			wantError(t, err, ref, want)
			if _, err := d.Commit(t.Context(), desc.Descriptor); err == nil {
				t.Errorf("%s: committed %+v", ref, desc)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDirectoryThatIsNoLayout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Create(t.Context(), "oci:"+dir, Options{})
	wantError(t, err, "not empty, and not an OCI layout")
	_, err = Create(t.Context(), "oci:"+dir+"/mine", Options{})
	wantError(t, err, "oci:"+dir+"/mine")
	_, err = Open(t.Context(), "oci:"+dir+"/mine", Options{})
	wantError(t, err, "not a directory", "hint: oci-archive:")
	_, err = Open(t.Context(), "oci-archive:"+dir, Options{})
	wantError(t, err, "is a directory", "hint: oci:")
	for _, ref := range []string{"oci:" + dir + "/none", "oci-archive:" + dir + "/none", "docker-archive:" + dir + "/none"} {
		if _, err := Open(t.Context(), ref, Options{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error is %v", ref, err)
		}
	}
	_, err = Create(t.Context(), "oci-archive:"+dir+"/none/a.tar", Options{})
	wantError(t, err, "no such file or directory")
	_, err = Create(t.Context(), "docker-archive:"+dir, Options{})
	wantError(t, err, "not a regular file")
}

// FuzzIndex: editing index.json keeps what it does not know, and reads back.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"annotations":{"a":"b"},"manifests":[{"mediaType":"x","size":1,"digest":"sha256:` + strings.Repeat("0", 64) + `","unknown":{}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := parseIndex(raw)
		if err != nil {
			return
		}
		out, err := x.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseIndex(out)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if len(again.entries) != len(x.entries) || len(again.fields) != len(x.fields) {
			t.Fatalf("%s became %s", raw, out)
		}
		for i, e := range x.entries {
			var a, b any
			if json.Unmarshal(e.raw, &a) != nil || json.Unmarshal(again.entries[i].raw, &b) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("%s became %s", e.raw, again.entries[i].raw)
			}
		}
	})
}
