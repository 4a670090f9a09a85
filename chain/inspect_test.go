// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/internal/testimage"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/transport"
	"github.com/sbom-bless/sbom-bless/xattr"
)

// layout writes a test image to a layout of its own, and gives its reference.
func layout(t *testing.T, name string) string {
	t.Helper()
	for _, c := range testimage.Cases() {
		if c.Name == name {
			dir := t.TempDir()
			if err := c.Make().WriteLayout(dir, testimage.Tag); err != nil {
				t.Fatal(err)
			}
			return "oci:" + dir
		}
	}
	t.Fatalf("no image %s", name)
	return ""
}

// blessed blesses an image with a new key, without attestations.
func blessed(t *testing.T, source string, o bless.Options) string {
	t.Helper()
	k, err := key.Generate("ecdsa-p256", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xattr.NewSigner(k.Signer, k.Cert)
	if err != nil {
		t.Fatal(err)
	}
	src, err := transport.Open(t.Context(), source, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dest := "oci:" + t.TempDir()
	dst, err := transport.Create(t.Context(), dest, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := Bless(t.Context(), src, dst, Options{Options: o, Signer: signer, Dest: dest}); err != nil {
		t.Fatal(err)
	}
	return dest
}

// TestListingComparesImageAndList has a list that is not quite that of the image.
func TestListingComparesImageAndList(t *testing.T) {
	ctx := context.Background()
	src, err := transport.Open(ctx, blessed(t, layout(t, "whiteouts"), bless.Options{}), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r, err := bless.Inspect(ctx, src, bless.InspectOptions{Tree: true})
	if err != nil {
		t.Fatal(err)
	}
	img := &r.Images[0]
	var files []filelist.File
	regular := 0
	for i := range img.Tree.Files {
		e := &img.Tree.Files[i]
		if !e.Regular() {
			continue
		}
		regular++
		f := filelist.File{Path: e.Name, Package: -1}
		switch e.Name {
		case "srv/new": // the list does not have it
			continue
		case "usr/bin/app", "usr/bin/start":
			f.Package = 1
		}
		files = append(files, f)
	}
	files = append(files, filelist.File{Path: "a/first", Package: 0}, filelist.File{Path: "zz/last", Package: -1})
	raw, err := filelist.Encode(files, []filelist.Package{{Type: "deb", Name: "gone", Version: "1"}, {Type: "deb", Name: "app", Version: "2"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := filelist.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := list(l, img, "", true)
	if d := cmp.Diff([]string{"srv/new"}, got.Unlisted); d != "" {
		t.Errorf("unlisted (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"a/first", "zz/last"}, got.Missing); d != "" {
		t.Errorf("missing (-want +got):\n%s", d)
	}
	if p := got.Packages[1]; p.Regular != 2 || p.Signed != 2 || p.Code != 2 || p.Bless != 2 || p.CodeUnblessed != 0 {
		t.Errorf("package: %+v", p)
	}
	if p := got.Packages[0]; p.Regular != 0 {
		t.Errorf("package without files: %+v", p)
	}
	if n := int64(regular - 2); got.Orphans.Regular != n || int64(len(got.OrphanFiles)) != n || got.Orphans.Signed != n {
		t.Errorf("%d orphans, %v; want %d", got.Orphans.Regular, got.OrphanFiles, n)
	}
}

func TestPortabilityDependsOnTheAttributes(t *testing.T) {
	source := layout(t, "typical")
	rows := func(image string) map[string]Portability {
		src, err := transport.Open(context.Background(), image, transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		r, err := bless.Inspect(context.Background(), src, bless.InspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]Portability{}
		for _, p := range portable(&r.Images[0]) {
			out[p.Unpacker] = p
		}
		return out
	}
	for _, p := range rows(source) {
		if p.Outcome != kept {
			t.Errorf("an image without attributes: %+v", p)
		}
	}
	evm := rows(blessed(t, source, bless.Options{EVM: true, Hash: xattr.SHA512}))
	if p := evm["containerd, rootless (nerdctl, BuildKit)"]; p.Outcome != refused {
		t.Errorf("%+v", p)
	}
	if p := evm["containerd, as root (Kubernetes, nerdctl, Docker)"]; p.Outcome != kept ||
		p.Note != "a kernel whose IMA policy demands another hash algorithm refuses the image; security.evm no longer fits where owners are changed: userns-remap, idmapping by chown, SELinux relabelling" {
		t.Errorf("%+v", p)
	}
}

func TestLostAttributes(t *testing.T) {
	for _, c := range []struct {
		total         bless.Coverage
		blessed, lost bool
	}{
		{bless.Coverage{Regular: 2, Unsigned: 2}, false, false},
		{bless.Coverage{Regular: 2, Signed: 2}, true, false},
		{bless.Coverage{Regular: 2, Signed: 1, Unsigned: 1}, true, true},
		{bless.Coverage{Regular: 2, Digests: 1, Broken: 1}, true, true},
	} {
		img := ImageInspection{ImageInspection: bless.ImageInspection{Total: c.total}}
		if img.Blessed() != c.blessed || img.Lost() != c.lost {
			t.Errorf("%+v: blessed %t, lost %t", c.total, img.Blessed(), img.Lost())
		}
	}
}
