// SPDX-License-Identifier: Apache-2.0

package sbom_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/sbom"
	"github.com/sbom-bless/sbom-bless/tree"
)

// real is a Debian image with its SBOM, made once for all tests.
type real struct {
	image     v1.Image
	files     *tree.Tree
	content   map[string][]byte // of files below var/lib/dpkg
	options   sbom.Options
	inventory *sbom.Inventory
	sbom      *sbom.SBOM
}

var debian = sync.OnceValues(func() (*real, error) {
	r := &real{content: map[string][]byte{}}
	dir, err := testimage.Real(context.Background(), "small")
	if err != nil {
		return nil, err
	}
	l, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := l.ImageIndex()
	if err != nil {
		return nil, err
	}
	manifests, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if r.image, err = index.Image(manifests.Manifests[0].Digest); err != nil {
		return nil, err
	}
	if r.files, err = readTree(r.image, r.content); err != nil {
		return nil, err
	}
	config, err := r.image.ConfigFile()
	if err != nil {
		return nil, err
	}
	digest, err := r.image.Digest()
	if err != nil {
		return nil, err
	}
	r.options = sbom.Options{Name: "registry.example/debian:12", Digest: digest, DiffIDs: config.RootFS.DiffIDs, Created: time.Unix(1_700_000_000, 0), Version: "v0.0.0-test"}
	unpacked, err := os.MkdirTemp("", "sbom-bless-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(unpacked)
	if r.inventory, err = scan(r.image, len(r.options.DiffIDs), unpacked); err != nil {
		return nil, err
	}
	r.sbom, err = r.inventory.Document(r.files, r.options)
	return r, err
})

func debianImage(t *testing.T) *real {
	t.Helper()
	r, err := debian()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scan finds the packages of an image.
func scan(img v1.Image, layers int, dir string) (*sbom.Inventory, error) {
	found, err := sbom.Scan(context.Background(), img, layers, dir)
	if err != nil {
		return nil, err
	}
	return found.Inventory(img, layers)
}

// readTree reads the layers of an image, with digests.
func readTree(img v1.Image, content map[string][]byte) (*tree.Tree, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var all [][]tree.File
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			return nil, err
		}
		var files []tree.File
		for tr := tar.NewReader(bufio.NewReaderSize(rc, 1<<20)); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
			if h.Typeflag == tar.TypeXGlobalHeader {
				continue
			}
			f := tree.File{Name: h.Name, Type: h.Typeflag, Mode: uint32(h.Mode), UID: h.Uid, GID: h.Gid, Size: h.Size, Link: h.Linkname}
			if f.Type == tar.TypeReg {
				s1, s256 := sha1.New(), sha256.New()
				var b bytes.Buffer
				w := io.MultiWriter(s1, s256)
				name := path.Clean(h.Name)
				if strings.HasPrefix(name, "var/lib/dpkg/") {
					w = io.MultiWriter(w, &b)
				}
				if _, err := io.Copy(w, tr); err != nil {
					return nil, err
				}
				f.SHA1, f.SHA256 = s1.Sum(nil), s256.Sum(nil)
				content[name] = b.Bytes()
			}
			files = append(files, f)
		}
		all = append(all, files)
	}
	return tree.Flatten(all)
}

func TestFilesOfTheDocumentsAreThoseOfTheImage(t *testing.T) {
	r := debianImage(t)
	for name, doc := range map[string][]byte{"SPDX": r.sbom.SPDX, "CycloneDX": r.sbom.CycloneDX} {
		if err := sbom.Check(doc, r.files); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%d files, %d packages, %d owned; SPDX %d bytes, CycloneDX %d", len(r.files.Files), len(r.sbom.Packages), len(r.sbom.Owner), len(r.sbom.SPDX), len(r.sbom.CycloneDX))
	for name, doc := range map[string][]byte{"SPDX": r.sbom.SPDXShort, "CycloneDX": r.sbom.CycloneDXShort} {
		if err := sbom.Check(doc, &tree.Tree{}); err != nil {
			t.Errorf("%s without files: %v", name, err)
		}
		if len(doc) > len(r.sbom.CycloneDX)/2 {
			t.Errorf("%s without files: %d bytes", name, len(doc))
		}
	}
}

func TestCheckFindsDifferences(t *testing.T) {
	r := debianImage(t)
	i := 0
	for !r.files.Files[i].Regular() || r.files.Files[i].Size == 0 {
		i++
	}
	change := func(edit func(e *tree.Entry) bool) *tree.Tree {
		c := &tree.Tree{Files: append([]tree.Entry{}, r.files.Files...)}
		if !edit(&c.Files[i]) {
			c.Files = append(c.Files[:i], c.Files[i+1:]...)
		}
		return c
	}
	other := bytes.Repeat([]byte{1}, 32)
	for name, c := range map[string]struct {
		files *tree.Tree
		want  string
	}{
		"a file the image has not": {change(func(*tree.Entry) bool { return false }), "in the SBOM, not in the image"},
		"another content":          {change(func(e *tree.Entry) bool { e.SHA256 = other; return true }), "SHA-256 "},
		"another SHA-1":            {change(func(e *tree.Entry) bool { e.SHA1 = other[:20]; return true }), "SHA-1 "},
		"a file the SBOM has not":  {change(func(e *tree.Entry) bool { e.Name += "x"; return true }), "not in the SBOM"},
		"a file become a link":     {change(func(e *tree.Entry) bool { e.Type = '2'; return true }), "in the SBOM, not in the image"},
	} {
		for format, doc := range map[string][]byte{"SPDX": r.sbom.SPDX, "CycloneDX": r.sbom.CycloneDX} {
			err := sbom.Check(doc, c.files)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), r.files.Files[i].Name) {
				t.Errorf("%s, %s: error %v, want %s of %s", format, name, err, c.want, r.files.Files[i].Name)
			}
		}
	}
	if err := sbom.Check(r.sbom.SPDX, &tree.Tree{}); err == nil || strings.Count(err.Error(), "\n") != 11 || !strings.Contains(err.Error(), " more") {
		t.Errorf("a long list of differences: %v", err)
	}
	for _, doc := range []string{"", "{", "{}", `{"spdxVersion":"SPDX-2.3","files":[{"fileName":"a"},{"fileName":"/a"}]}`, `{"spdxVersion":"SPDX-2.3","files":[{"fileName":"\"a"}]}`} {
		if err := sbom.Check([]byte(doc), &tree.Tree{}); err == nil {
			t.Errorf("%s: taken", doc)
		}
	}
}

// TestOwnersAreThoseOfDpkg compares the owners with the lists that dpkg itself keeps.
func TestOwnersAreThoseOfDpkg(t *testing.T) {
	r := debianImage(t)
	compared, packages := 0, map[string]bool{}
	for name, content := range r.content {
		list, ok := strings.CutPrefix(name, "var/lib/dpkg/info/")
		if !ok || !strings.HasSuffix(list, ".list") {
			continue
		}
		pkg, _, _ := strings.Cut(strings.TrimSuffix(list, ".list"), ":")
		packages[pkg] = true
		for line := range strings.Lines(string(content)) {
			e := r.files.Resolve(strings.TrimSpace(line))
			if e == nil || !e.Regular() {
				continue
			}
			i, ok := r.sbom.Owner[e.Name]
			if !ok {
				t.Errorf("%s: nobody's, dpkg says %s", e.Name, pkg)
			} else if got := r.sbom.Packages[i]; got.Type != "deb" || got.Name != pkg {
				t.Errorf("%s: of %s, dpkg says %s", e.Name, got, pkg)
			}
			compared++
		}
	}
	if len(packages) < 50 || compared < 2000 {
		t.Errorf("only %d files of %d packages compared", compared, len(packages))
	}
	t.Logf("%d files of %d packages compared", compared, len(packages))
}

// TestSameBytes scans again, as another process on another day would.
func TestSameBytes(t *testing.T) {
	r := debianImage(t)
	inventory, err := scan(r.image, len(r.options.DiffIDs), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again, err := inventory.Document(r.files, r.options)
	if err != nil {
		t.Fatal(err)
	}
	for name, docs := range map[string][2][]byte{
		"SPDX": {r.sbom.SPDX, again.SPDX}, "CycloneDX": {r.sbom.CycloneDX, again.CycloneDX},
		"SPDX without files": {r.sbom.SPDXShort, again.SPDXShort}, "CycloneDX without files": {r.sbom.CycloneDXShort, again.CycloneDXShort},
	} {
		if !bytes.Equal(docs[0], docs[1]) {
			t.Errorf("%s: other bytes, from %s", name, firstDifference(docs[0], docs[1]))
		}
	}
}

func firstDifference(a, b []byte) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return string(a[max(i-100, 0):min(i+100, len(a))])
		}
	}
	return "the end"
}

// TestPackageHoldsItsFiles looks at one package in both documents.
func TestPackageHoldsItsFiles(t *testing.T) {
	r := debianImage(t)
	bash := r.files.Resolve("/bin/bash")
	if bash == nil {
		t.Fatal("no bash in the image")
	}
	var spdx struct {
		Packages []struct {
			SPDXID, Name            string
			FilesAnalyzed           bool
			PackageVerificationCode struct{ PackageVerificationCodeValue string }
		}
		Files []struct {
			SPDXID, FileName string
			Checksums        []struct{ Algorithm, ChecksumValue string }
		}
		Relationships []struct{ SPDXElementID, RelationshipType, RelatedSPDXElement string }
	}
	if err := json.Unmarshal(r.sbom.SPDX, &spdx); err != nil {
		t.Fatal(err)
	}
	id := map[string]string{}
	for _, p := range spdx.Packages {
		id[p.Name] = p.SPDXID
		if p.Name == "bash" && (!p.FilesAnalyzed || len(p.PackageVerificationCode.PackageVerificationCodeValue) != 40) {
			t.Errorf("bash has files: %+v", p)
		}
	}
	for _, f := range spdx.Files {
		if f.FileName == bash.Name {
			id[f.FileName] = f.SPDXID
		}
	}
	found := false
	for _, x := range spdx.Relationships {
		found = found || x.SPDXElementID == id["bash"] && x.RelationshipType == "CONTAINS" && x.RelatedSPDXElement == id[bash.Name]
	}
	if !found {
		t.Errorf("SPDX: %s is not in %s", id[bash.Name], id["bash"])
	}

	var cdx struct {
		SerialNumber string
		Components   []struct {
			Name, Type string
			BOMRef     string `json:"bom-ref"`
			Components []struct {
				Name   string
				Hashes []struct{ Alg, Content string }
			}
		}
		Compositions []struct {
			Aggregate  string
			Assemblies []string
		}
	}
	if err := json.Unmarshal(r.sbom.CycloneDX, &cdx); err != nil {
		t.Fatal(err)
	}
	found = false
	for _, c := range cdx.Components {
		if c.Name != "bash" {
			continue
		}
		for _, f := range c.Components {
			found = found || f.Name == "/"+bash.Name && f.Hashes[1].Alg == "SHA-256" && f.Hashes[1].Content == hex.EncodeToString(bash.SHA256)
		}
		complete := false
		for _, a := range cdx.Compositions[0].Assemblies {
			complete = complete || a == c.BOMRef
		}
		if !complete || cdx.Compositions[0].Aggregate != "complete" {
			t.Error("CycloneDX: the list of bash's files is not said to be complete")
		}
	}
	if !found {
		t.Errorf("CycloneDX: %s is not in bash", bash.Name)
	}
}

// TestOtherImageSameContent writes the SBOM of the blessed image from the scan of its source.
func TestOtherImageSameContent(t *testing.T) {
	r := debianImage(t)
	o := r.options
	o.Digest = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	o.DiffIDs = []v1.Hash{{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)}}
	s, err := r.inventory.Document(r.files, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{"SPDX": s.SPDX, "CycloneDX": s.CycloneDX} {
		if !bytes.Contains(doc, []byte(o.Digest.Hex)) || !bytes.Contains(doc, []byte(o.DiffIDs[0].Hex)) {
			t.Errorf("%s does not name the image and its layer", name)
		}
		if bytes.Contains(doc, []byte(r.options.Digest.Hex)) || bytes.Contains(doc, []byte(r.options.DiffIDs[0].Hex)) {
			t.Errorf("%s names the source", name)
		}
	}
	o.Name = ""
	if s, err = r.inventory.Document(r.files, o); err != nil {
		t.Fatal(err)
	}
	var doc struct{ Name string }
	if err := json.Unmarshal(s.SPDX, &doc); err != nil || doc.Name != o.Digest.String() {
		t.Errorf("an image without a name is called %q, %v", doc.Name, err)
	}
	o.DiffIDs = nil
	if _, err := r.inventory.Document(r.files, o); err == nil {
		t.Error("an image with fewer layers was taken")
	}
	files := &tree.Tree{Files: []tree.Entry{{File: tree.File{Name: "a", Type: '0'}}}}
	if _, err := r.inventory.Document(files, r.options); err == nil {
		t.Error("a file without digests was taken")
	}
}

// TestOddNames has names that JSON cannot hold.
func TestOddNames(t *testing.T) {
	r := debianImage(t)
	files := &tree.Tree{}
	for i, name := range []string{"\x01", `"quoted"`, `a\x2db`, "new\nline", "ünï", "\xff\xfe", "\xff\xfe\\"} {
		files.Files = append(files.Files, tree.Entry{File: tree.File{Name: name, Type: '0', SHA256: bytes.Repeat([]byte{byte(i)}, 32), SHA1: bytes.Repeat([]byte{byte(i)}, 20)}})
	}
	s, err := r.inventory.Document(files, r.options)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{"SPDX": s.SPDX, "CycloneDX": s.CycloneDX} {
		if err := sbom.Check(doc, files); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
