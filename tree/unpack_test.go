// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/tree"
)

// generate makes a random stack of layers over few names, so that they meet.
// Contents are distinct; a file's SHA256 field holds its content. With
// whiteoutsFirst, whiteouts stand before all other entries of their layer,
// because containerd lets them hide what came before them in the layer.
func generate(r *rand.Rand, whiteoutsFirst bool) [][]tree.File {
	name := func() string {
		p := make([]string, 1+r.IntN(3))
		for i := range p {
			p[i] = string("abc"[r.IntN(3)])
		}
		return strings.Join(p, "/")
	}
	var layers [][]tree.File
	var seen []string
	for l := range 1 + r.IntN(4) {
		var hidden, files []tree.File
		for e := range 1 + r.IntN(8) {
			f := tree.File{Name: name(), Mode: 0o600 | uint32(r.IntN(8))<<3 | uint32(r.IntN(8)), UID: r.IntN(3), GID: r.IntN(3)}
			switch k := r.IntN(20); {
			case k < 7:
				f.Type = '5'
				f.Mode |= 0o700
			case k < 13:
				f.Type = '0'
				f.SHA256 = fmt.Appendf(nil, "content %d.%d", l, e)
				f.Size = int64(len(f.SHA256))
			case k < 14:
				f.Type, f.Link, f.Mode = '2', name(), 0o777
			case k < 16:
				if len(seen) == 0 {
					continue
				}
				f.Type, f.Link = '1', seen[r.IntN(len(seen))]
			case k < 17:
				f.Type = '6'
			default:
				dir, b := filepath.Split(f.Name)
				f = tree.File{Name: dir + ".wh." + b, Type: '0', Mode: 0o644}
				if k == 19 {
					f.Name = dir + b + "/.wh..wh..opq"
				}
				if whiteoutsFirst {
					hidden = append(hidden, f)
				} else {
					files = append(files, f)
				}
				continue
			}
			seen = append(seen, f.Name)
			files = append(files, f)
		}
		layers = append(layers, append(hidden, files...))
	}
	return layers
}

func tarOf(t *testing.T, files []tree.File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Typeflag: f.Type, Mode: int64(f.Mode), Uid: f.UID, Gid: f.GID, Size: f.Size, Linkname: f.Link, Format: tar.FormatPAX}
		if f.Type == '5' {
			h.Name += "/"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// line describes an entry by what both a tree and a directory can tell.
func line(e *tree.Entry) string {
	switch e.Type {
	case '5':
		return fmt.Sprintf("%s directory", e.Name)
	case '2':
		return fmt.Sprintf("%s -> %s", e.Name, e.Link)
	case '6':
		return fmt.Sprintf("%s fifo", e.Name)
	}
	return fmt.Sprintf("%s %o %d:%d %s", e.Name, e.Mode, e.UID, e.GID, e.SHA256)
}

func lines(t *tree.Tree) []string {
	var l []string
	for i := range t.Files {
		l = append(l, line(&t.Files[i]))
	}
	slices.Sort(l)
	return l
}

// readDir describes a directory as lines does a tree, without the directories that are not in want: unpackers
// make some to put a whiteout in them.
func readDir(t *testing.T, dir string, want *tree.Tree) []string {
	t.Helper()
	var l []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a whiteout with nothing below it, which overlayfs lists
		}
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		var e tree.Entry
		e.Name, _ = filepath.Rel(dir, path)
		e.Mode, e.UID, e.GID = st.Mode&0o7777, int(st.Uid), int(st.Gid)
		switch d.Type() {
		case fs.ModeDir:
			e.Type = '5'
			if want.Lookup(e.Name) == nil {
				return nil
			}
		case fs.ModeSymlink:
			e.Type = '2'
			e.Link, err = os.Readlink(path)
		case fs.ModeNamedPipe:
			e.Type = '6'
		default:
			e.Type = '0'
			e.SHA256, err = os.ReadFile(path)
		}
		l = append(l, line(&e))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(l)
	return l
}

func show(layers [][]tree.File) string {
	var b strings.Builder
	for i, l := range layers {
		for _, f := range l {
			fmt.Fprintf(&b, "%d: %c %s %s %o %d:%d\n", i, f.Type, f.Name, f.Link, f.Mode, f.UID, f.GID)
		}
	}
	return b.String()
}

// errLeftOut is what an unpacker says of a stack that it is not made for.
var errLeftOut = errors.New("left out")

// throughLink is the warning of layers that unpackers which know one root directory, and no layers,
// make another tree of.
const throughLink = "parent is a symbolic link of a lower layer"

// compare runs unpack on random stacks. What Flatten takes
// without a warning must unpack, and what unpacks must be the same tree; stacks
// with an excepted warning are left out.
func compare(t *testing.T, stacks int, whiteoutsFirst bool, except []string, unpack func(t *testing.T, layers [][]tree.File) (string, error)) {
	if os.Geteuid() != 0 {
		t.Fatal("unpacking with owners needs root")
	}
	compared := 0
	for seed := range uint64(stacks) {
		layers := generate(rand.New(rand.NewPCG(seed, 1)), whiteoutsFirst)
		want, err := tree.Flatten(layers)
		if err != nil || slices.ContainsFunc(except, func(w string) bool { return strings.Contains(strings.Join(want.Warnings, "\n"), w) }) {
			continue
		}
		dir, err := unpack(t, layers)
		if errors.Is(err, errLeftOut) {
			continue
		}
		if err != nil {
			if len(want.Warnings) == 0 {
				t.Errorf("stack %d: unpacking: %v\n%s", seed, err, show(layers))
			}
			continue
		}
		if d := cmp.Diff(readDir(t, dir, want), lines(want)); d != "" {
			t.Errorf("stack %d (-unpacked +flattened):\n%s\n%s", seed, d, show(layers))
		}
		compared++
	}
	if compared < stacks/5 {
		t.Errorf("only %d of %d stacks compared", compared, stacks)
	}
	t.Logf("%d of %d stacks compared", compared, stacks)
}

// remakes tells that a layer hides a directory and makes it anew. On overlayfs containerd then loses the whiteout,
// and what it hid shows again; Flatten keeps to the specification, as the other unpackers do.
func remakes(layer []tree.File) bool {
	return slices.ContainsFunc(layer, func(w tree.File) bool {
		dir, b := filepath.Split(w.Name)
		hidden, ok := strings.CutPrefix(b, ".wh.")
		return ok && slices.ContainsFunc(layer, func(f tree.File) bool { return strings.HasPrefix(f.Name+"/", dir+hidden+"/") })
	})
}

// TestSameTreeAsContainerdOnOverlay unpacks as containerd does for its overlayfs snapshotter, each layer into a
// directory of its own, and reads them mounted over each other.
func TestSameTreeAsContainerdOnOverlay(t *testing.T) {
	compare(t, 800, true, nil, func(t *testing.T, layers [][]tree.File) (string, error) {
		top := t.TempDir() // on a tmpfs: overlayfs takes no whiteouts on overlayfs
		if err := syscall.Mount("none", top, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(top, syscall.MNT_DETACH) })
		var dirs []string
		for i, l := range layers {
			if remakes(l) {
				return "", errLeftOut
			}
			dir := filepath.Join(top, strconv.Itoa(i))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := archive.Apply(context.Background(), dir, bytes.NewReader(tarOf(t, l)), archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(dirs))
			if err != nil {
				return "", errLeftOut // a hard link to a file of a lower layer, which the naive snapshotter takes
			}
			dirs = slices.Insert(dirs, 0, dir)
		}
		root := filepath.Join(top, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("none", root, "overlay", 0, "lowerdir="+strings.Join(append(dirs, root), ":")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
		return root, nil
	})
}

func TestSameTreeAsContainerd(t *testing.T) {
	compare(t, 800, true, []string{throughLink}, func(t *testing.T, layers [][]tree.File) (string, error) {
		dir := t.TempDir()
		for i, l := range layers {
			if _, err := archive.Apply(context.Background(), dir, bytes.NewReader(tarOf(t, l))); err != nil {
				return "", fmt.Errorf("layer %d: %w", i, err)
			}
		}
		return dir, nil
	})
}

func TestSameTreeAsUmoci(t *testing.T) {
	umoci, err := exec.LookPath("umoci")
	if err != nil {
		t.Fatal("umoci is missing: apt-get install umoci")
	}
	for _, whiteoutsFirst := range []bool{true, false} {
		compare(t, 60, whiteoutsFirst, []string{"owner or mode of the hard link", throughLink}, func(t *testing.T, layers [][]tree.File) (string, error) {
			dir := t.TempDir()
			img := empty.Image
			for _, l := range layers {
				raw := tarOf(t, l)
				layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }, tarball.WithMediaType(types.OCILayer))
				if err != nil {
					t.Fatal(err)
				}
				if img, err = mutate.AppendLayers(img, layer); err != nil {
					t.Fatal(err)
				}
			}
			img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
			path, err := layout.Write(filepath.Join(dir, "oci"), empty.Index)
			if err != nil {
				t.Fatal(err)
			}
			if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "t"}), layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"})); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "root")
			if b, err := exec.Command(umoci, "raw", "unpack", "--image", filepath.Join(dir, "oci")+":t", out).CombinedOutput(); err != nil {
				return "", fmt.Errorf("umoci: %w: %s", err, b)
			}
			return out, nil
		})
	}
}
