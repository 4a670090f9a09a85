// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbom-bless/sbom-bless/internal/filelock"
)

// Tag is the name of a real image in its layout.
const Tag = "latest"

// recipe says how a real image is made. A new version makes it anew.
type recipe struct {
	version int
	build   func(ctx context.Context, b *builder) error
	cmd     []string
}

var recipes = map[string]recipe{
	"small":     {1, debian(), []string{"/bin/bash"}},
	"medium":    {2, debian(medium...), []string{"/usr/bin/python3", "/srv/app/app.py"}},
	"large":     {1, debian(large...), []string{"/bin/bash"}},
	"manyfiles": {2, manyFiles, []string{"/srv/app/node_modules"}},
}

// Real returns the OCI layout of a real image, which is tagged [Tag]; it makes
// the image when the cache does not hold it. Callers only read it. Making all
// but manyfiles needs mmdebstrap and a Debian mirror, and those of more than
// one layer root.
//
//	small      Debian base system: 1 layer, 5,000 files, 127 MB of tar
//	medium     with nginx, python3, perl, vim, numpy, an application: 3 layers, 10,000 files, 280 MB
//	large      with C, Java, Go, Rust and JavaScript toolchains, scipy, boost: 7 layers, 80,000 files, 3 GB
//	manyfiles  200,000 small files: 1 layer, 350 MB
func Real(ctx context.Context, name string) (string, error) {
	r, ok := recipes[name]
	if !ok {
		return "", fmt.Errorf("image %s: unknown; small, medium, large and manyfiles are known", name)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "sbom-bless", "images")
	dir := filepath.Join(cache, fmt.Sprintf("%s-%d", name, r.version))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(cache, "."+name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // another process made it meanwhile
	}
	if err := r.make(ctx, cache, dir); err != nil {
		return "", fmt.Errorf("image %s: %w", name, err)
	}
	return dir, nil
}

// make builds the image beside dir and moves it there when it is whole.
func (r recipe) make(ctx context.Context, cache, dir string) error {
	tmp, err := os.MkdirTemp(cache, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b := &builder{tmp: tmp, layout: filepath.Join(tmp, "layout")}
	if err := r.build(ctx, b); err != nil {
		return err
	}
	if err := b.finish(r.cmd); err != nil {
		return err
	}
	return os.Rename(b.layout, dir)
}

// lock takes an exclusive lock that ends with the process or with unlock.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := filelock.Lock(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// builder collects the layers of a real image in an OCI layout.
type builder struct {
	tmp, layout string
	layers      []v1.Descriptor
	diffIDs     []v1.Hash
	history     []v1.History
}

// add compresses the tar file as GNU gzip -6 does and appends it as a layer.
func (b *builder) add(ctx context.Context, tarFile, createdBy string) error {
	src, err := os.Open(tarFile)
	if err != nil {
		return err
	}
	defer src.Close()
	diffID, _, err := v1.SHA256(src)
	if err != nil {
		return err
	}
	if _, err := src.Seek(0, 0); err != nil {
		return err
	}
	gzip := exec.CommandContext(ctx, "gzip", "-6", "-n", "-c")
	gzip.Stdin, gzip.Stderr = src, os.Stderr
	out, err := gzip.StdoutPipe()
	if err != nil {
		return err
	}
	if err := gzip.Start(); err != nil {
		return err
	}
	desc, err := addBlob(b.layout, types.OCILayer, out)
	if err != nil {
		return err
	}
	if err := gzip.Wait(); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	b.layers = append(b.layers, desc)
	b.diffIDs = append(b.diffIDs, diffID)
	b.history = append(b.history, v1.History{Created: v1.Time{Time: Created}, CreatedBy: createdBy})
	return os.Remove(tarFile)
}

// finish writes config, manifest and index.
func (b *builder) finish(cmd []string) error {
	config, err := b.addJSON(types.OCIConfigJSON, v1.ConfigFile{
		OS: "linux", Architecture: "amd64",
		Created: v1.Time{Time: Created},
		Config: v1.Config{
			Cmd: cmd,
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: b.diffIDs},
		History: b.history,
	})
	if err != nil {
		return err
	}
	root, err := b.addJSON(types.OCIManifestSchema1, v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: b.layers,
	})
	if err != nil {
		return err
	}
	root.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	return writeIndex(b.layout, root, Tag)
}

func (b *builder) addJSON(mt types.MediaType, v any) (v1.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return addBlob(b.layout, mt, strings.NewReader(string(raw)))
}
