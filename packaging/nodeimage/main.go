// SPDX-License-Identifier: Apache-2.0

// Command nodeimage makes the image that runs on the nodes of a cluster: one static program and
// nothing else, for each platform, as an OCI layout. It needs no container engine. The same programs
// give the same digests on every machine.
package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const usage = `usage: nodeimage [-version VERSION] LAYOUT PROGRAM...

Writes an image of PROGRAMs, one for each architecture, into the new directory LAYOUT and prints its
digest. In the image each is /usr/bin/sbom-bless.

`

func main() {
	flags := flag.NewFlagSet("nodeimage", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage); flags.PrintDefaults() }
	version := flags.String("version", "devel", "version that the image says it is of")
	_ = flags.Parse(os.Args[1:]) // it exits
	if flags.NArg() < 2 {
		flags.Usage()
		os.Exit(2)
	}
	digest, err := write(flags.Arg(0), *version, flags.Args()[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "nodeimage:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// write makes the layout at dir, which must not be there.
func write(dir, version string, programs []string) (v1.Hash, error) {
	if _, err := os.Lstat(dir); err == nil {
		return v1.Hash{}, fmt.Errorf("%s is there already\nhint: remove it, or name another", dir)
	}
	var adds []mutate.IndexAddendum
	for _, program := range programs {
		image, platform, err := imageOf(program, version)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("%s: %w", program, err)
		}
		if slices.ContainsFunc(adds, func(a mutate.IndexAddendum) bool { return a.Platform.Equals(platform) }) {
			return v1.Hash{}, fmt.Errorf("%s: a second program for %s", program, platform.String())
		}
		adds = append(adds, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	slices.SortFunc(adds, func(a, b mutate.IndexAddendum) int { // whatever order they were named in
		return bytes.Compare([]byte(a.Platform.String()), []byte(b.Platform.String()))
	})
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
	digest, err := index.Digest()
	if err != nil {
		return v1.Hash{}, err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	return digest, path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version}))
}

// architectures are those that the agent has been built for, by the name that images have for them.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// imageOf makes the image of one program.
func imageOf(program, version string) (v1.Image, v1.Platform, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, v1.Platform{}, err
	}
	architecture, err := architectureOf(content)
	if err != nil {
		return nil, v1.Platform{}, err
	}
	platform := v1.Platform{OS: "linux", Architecture: architecture}
	files, err := archive(content)
	if err != nil {
		return nil, platform, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, platform, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, platform, err
	}
	config := &v1.ConfigFile{
		OS: platform.OS, Architecture: architecture, Created: v1.Time{Time: made},
		History: []v1.History{{Created: v1.Time{Time: made}, CreatedBy: "nodeimage"}},
		Config: v1.Config{
			Entrypoint: []string{"/" + inImage}, Env: []string{"PATH=/usr/bin"}, User: "0:0",
			Labels: map[string]string{
				"org.opencontainers.image.title":    "sbom-bless",
				"org.opencontainers.image.version":  version,
				"org.opencontainers.image.licenses": "Apache-2.0",
				"org.opencontainers.image.source":   "https://github.com/sbom-bless/sbom-bless",
			},
		},
	}
	diffID, err := layer.DiffID()
	if err != nil {
		return nil, platform, err
	}
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}}
	image, err = mutate.ConfigFile(image, config)
	return image, platform, err
}

// architectureOf tells what a program is for. One that needs others to run is none for this image.
func architectureOf(content []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return "", fmt.Errorf("it is no ELF program: %w", err)
	}
	architecture, ok := architectures[f.Machine]
	if !ok {
		return "", fmt.Errorf("it is a program for %s, not for amd64 or arm64", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", errors.New("it is not static, and the image has no libraries\nhint: build it with CGO_ENABLED=0")
		}
	}
	return architecture, nil
}
