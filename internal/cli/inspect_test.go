// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/bless"
	"github.com/sbom-bless/sbom-bless/transport"
)

// TestListingComparesImageAndList has a list that is not quite that of the image.
func TestListingComparesImageAndList(t *testing.T) {
	workshop(t, "whiteouts")
	mustRun(t, "bless", "oci:source", "-t", "oci:blessed", "--key", "bless.key", "--no-attestations")
	ctx := context.Background()
	src, err := transport.Open(ctx, "oci:blessed", transport.Options{})
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
	workshop(t, "typical")
	mustRun(t, "bless", "oci:source", "-t", "oci:evm", "--key", "bless.key", "--no-attestations", "--evm", "--hash", "sha512")
	rows := func(image string) map[string]portability {
		src, err := transport.Open(context.Background(), image, transport.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		r, err := bless.Inspect(context.Background(), src, bless.InspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]portability{}
		for _, p := range portable(&r.Images[0]) {
			out[p.Unpacker] = p
		}
		return out
	}
	for _, p := range rows("oci:source") {
		if p.Outcome != kept {
			t.Errorf("an image without attributes: %+v", p)
		}
	}
	evm := rows("oci:evm")
	if p := evm["containerd, rootless (nerdctl, BuildKit)"]; p.Outcome != refused {
		t.Errorf("%+v", p)
	}
	if p := evm["containerd, as root (Kubernetes, nerdctl, Docker)"]; p.Outcome != kept ||
		p.Note != "a kernel whose IMA policy demands another hash algorithm refuses the image; security.evm no longer fits where owners are changed: userns-remap, idmapping by chown, SELinux relabelling" {
		t.Errorf("%+v", p)
	}
}
