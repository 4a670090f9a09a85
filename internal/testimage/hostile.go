// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// hostileCases lists the images to refuse. Those that only a limit can tell from
// a good one say which in their About.
func hostileCases() []Case {
	bad := func(name, about string, make func() *Bundle) Case { return Case{name, about, true, make} }
	// layer is a bad archive, manifest an image whose description was tampered with.
	layer := func(name, about string, make func() []byte) Case {
		return bad(name, about, func() *Bundle { return oneTar(make()) })
	}
	manifest := func(name, about string, edit func(*v1.Manifest, *v1.ConfigFile)) Case {
		return bad(name, about, func() *Bundle { return layers(typical(), typical()[:5]).build(edit) })
	}
	mediaType := func(name, about string, mt types.MediaType) Case {
		return manifest(name, about, func(m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[1].MediaType = mt })
	}
	cases := []Case{
		// What a layer unpacks to.
		bad("gzip-bomb", "4 GiB of zeros in 4 MB of gzip (limit: layer size)", func() *Bundle { return bomb("gzip") }),
		bad("zstd-bomb", "4 GiB of zeros in 400 KB of zstd (limit: ratio)", func() *Bundle { return bomb("zstd") }),
		bad("entries-bomb", "4 million entries in 14 MB of gzip (limit: entries)", entriesBomb),
		bad("header-bomb", "a PAX header of 1 GiB", headerBomb),
		bad("zstd-window", "a zstd frame that asks for a window of 3.75 TiB", zstdWindow),

		// Archives that parsers disagree on.
		layer("pax-size", "a PAX size that differs from the header's: what it hides is a second archive to some", func() []byte {
			inner := Tar(File("hidden", 0o755, elf))
			return archive(Records(fmt.Sprintf("size=%d", len(inner))), Header("a", tar.TypeReg, 0), inner)
		}),
		layer("pax-duplicate", "a PAX header with one key twice", func() []byte {
			return archive(Records("path=a", "path=b"), Header("c", tar.TypeReg, 0))
		}),
		layer("pax-length", "a PAX record whose length is a lie", func() []byte {
			body := []byte("99 path=a\n")
			return archive(Header("PaxHeaders/0", tar.TypeXHeader, int64(len(body))), Pad(body), Header("c", tar.TypeReg, 0))
		}),
		layer("pax-newline", "a PAX record without its newline", func() []byte {
			body := []byte("9 path=a ")
			return archive(Header("PaxHeaders/0", tar.TypeXHeader, int64(len(body))), Pad(body), Header("c", tar.TypeReg, 0))
		}),
		layer("pax-orphan", "a PAX header that nothing follows", func() []byte { return archive(Records("path=a")) }),
		layer("second-archive", "a second archive after the end marker", func() []byte {
			return append(Tar(typical()...), Tar(File("hidden", 0o755, elf))...)
		}),
		layer("bad-checksum", "a header block with a wrong checksum", func() []byte {
			content := Tar(typical()...)
			content[1] ^= 1
			return content
		}),
		layer("negative-size", "a base-256 size below zero", func() []byte {
			h := Header("a", tar.TypeReg, 0)
			for i := 124; i < 136; i++ {
				h[i] = 0xff
			}
			sign(h)
			return archive(h)
		}),
		layer("truncated-tar", "an archive that ends in the middle of a file", func() []byte {
			return archive(Header("a", tar.TypeReg, 10000), make([]byte, 5120))[:512+5120]
		}),
		layer("sparse-overlap", "a sparse file whose spans overlap", func() []byte {
			return Tar(SparsePAX("a", 1<<20, Span{4096, make([]byte, 4096)}, Span{4096, make([]byte, 4096)}))
		}),
		layer("sparse-unaligned", "a sparse file whose first span ends within a block: GNU tar reads the next one elsewhere", func() []byte {
			return Tar(SparsePAX("a", 1<<20, Span{0, elf}, Span{4096, []byte("next")}))
		}),
		layer("sparse-bomb", "a sparse file of 8 EiB with 12 bytes of data (limit: layer size)", func() []byte {
			return Tar(SparsePAX("a", 1<<63-1, Span{0, []byte("twelve bytes")}))
		}),
		layer("sparse-ratio", "a sparse file of 60 GB with 12 bytes of data (limit: ratio)", func() []byte {
			return Tar(SparsePAX("a", 60e9, Span{0, []byte("twelve bytes")}))
		}),

		// Entries with no good meaning.
		layer("escape", "a name that climbs out of the root", func() []byte { return Tar(File("../../etc/passwd", 0o644, nil)) }),
		layer("hardlink-escape", "a hard link out of the root", func() []byte { return Tar(Link("a", "../../etc/shadow")) }),
		layer("symlink-long", "a symbolic link with a target of 100 kB: Linux takes 4,095 bytes", func() []byte {
			return Tar(Symlink("a", strings.Repeat("a/", 50_000)))
		}),
		layer("heavy-names", "3,000 symbolic links with names and targets of 4 KB: a million would be 8 GB, in a few MB of gzip", func() []byte {
			var entries []Entry
			for i := range 3000 {
				entries = append(entries, Symlink(fmt.Sprintf("%s%d", strings.Repeat("directory/", 400), i), strings.Repeat("target/", 580)))
			}
			return Tar(entries...)
		}),
		layer("deep-parents", "20 hard links that lack 2,000 parents each: more than 100 MB of directories in 800 bytes of gzip", func() []byte {
			entries := []Entry{File("a", 0o644, nil)}
			for i := range 20 {
				entries = append(entries, Link(fmt.Sprintf("%d/%sb", i, strings.Repeat("d/", 2000)), "a"))
			}
			return Tar(entries...)
		}),
		layer("hardlink-dangling", "a hard link to nothing", func() []byte { return Tar(Link("a", "missing")) }),
		layer("overlay-xattr", "trusted.overlay.redirect in a layer", func() []byte {
			return Tar(Dir("a/").With("SCHILY.xattr.trusted.overlay.redirect", "/etc"))
		}),
		layer("user-overlay-xattr", "user.overlay.opaque in a layer", func() []byte {
			return Tar(Dir("a/").With("SCHILY.xattr.user.overlay.opaque", "y"))
		}),
		layer("foreign-ima", "a security.ima that another key signed (--replace-xattrs allows it)", func() []byte {
			return Tar(File("a", 0o755, elf).With("SCHILY.xattr.security.ima", "\x03\x02\x04\x01\x02\x03\x04\x00\x08signature"))
		}),
		layer("foreign-bpf", "a security.bpf.bless that is not ours, LIBARCHIVE form (--replace-xattrs allows it)", func() []byte {
			return Tar(File("a", 0o755, elf).With("LIBARCHIVE.xattr.security.bpf.bless", "bm90IG91cnM"))
		}),
		bad("hardlink-whiteout", "a hard link to a file that an upper layer's whiteout took away", func() *Bundle {
			return layers(typical(), []Entry{Whiteout("usr/bin/app"), Link("b", "usr/bin/app")}).Build()
		}),

		// Streams.
		bad("truncated-gzip", "a gzip stream cut short, its digest right", func() *Bundle { return damaged("gzip", func(b []byte) []byte { return b[:len(b)-20] }) }),
		bad("truncated-zstd", "a zstd stream cut short, its digest right", func() *Bundle { return damaged("zstd", func(b []byte) []byte { return b[:len(b)-20] }) }),
		bad("gzip-crc", "a gzip stream with a wrong checksum", func() *Bundle {
			return damaged("gzip", func(b []byte) []byte { b[len(b)-8] ^= 1; return b })
		}),
		bad("gzip-trailing", "bytes after the last gzip member", func() *Bundle {
			return damaged("gzip", func(b []byte) []byte { return append(b, "not gzip"...) })
		}),
		bad("not-gzip", "a layer said to be gzip that is a plain archive, and another one", func() *Bundle {
			return damaged("gzip", func([]byte) []byte { return Tar(typical()...) })
		}),

		// Descriptions that do not fit the content.
		manifest("wrong-diffid", "a diffID that is not the layer's", func(_ *v1.Manifest, c *v1.ConfigFile) { c.RootFS.DiffIDs[1] = hashOf(nil) }),
		manifest("swapped-diffids", "diffIDs in the wrong order", func(_ *v1.Manifest, c *v1.ConfigFile) {
			c.RootFS.DiffIDs[0], c.RootFS.DiffIDs[1] = c.RootFS.DiffIDs[1], c.RootFS.DiffIDs[0]
		}),
		manifest("diffid-count", "fewer diffIDs than layers", func(_ *v1.Manifest, c *v1.ConfigFile) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] }),
		manifest("size-small", "a layer larger than its descriptor says", func(m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[1].Size-- }),
		manifest("size-large", "a layer smaller than its descriptor says", func(m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[1].Size++ }),
		manifest("size-negative", "a descriptor of a size below zero", func(m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[1].Size = -1 }),
		manifest("missing-blob", "a layer that is not there", func(m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[1].Digest = hashOf([]byte("nowhere")) }),
		bad("wrong-digest", "a layer whose bytes are not those of its digest", func() *Bundle {
			b := layers(typical()).Build()
			other := layers(typical()[:3]).Build()
			for h := range b.Blobs { // every blob but JSON
				if b.Blobs[h][0] == 0x1f {
					for _, content := range other.Blobs {
						if content[0] == 0x1f {
							b.Blobs[h] = append(content, make([]byte, max(0, len(b.Blobs[h])-len(content)))...)[:len(b.Blobs[h])]
						}
					}
				}
			}
			return b
		}),
		bad("digest-syntax", "a digest that climbs out of the layout", func() *Bundle {
			return rewritten(layers(typical()).Build(), func(raw string) string {
				i := strings.LastIndex(raw, "sha256:")
				return raw[:i] + "sha256:../../../../../../etc/passwd" + raw[i+len("sha256:")+64:]
			})
		}),

		// Types.
		mediaType("encrypted", "an encrypted layer", types.OCILayer+"+encrypted"),
		mediaType("unknown-type", "a layer of a type that nobody knows", "application/vnd.example.layer.v1.tar+lz4"),
		manifest("foreign-layer", "a layer to be fetched from a URL", func(m *v1.Manifest, _ *v1.ConfigFile) {
			m.Layers[1].MediaType = types.DockerForeignLayer
			m.Layers[1].URLs = []string{"http://192.0.2.1/layer"}
		}),
		manifest("layer-urls", "an ordinary layer with a URL", func(m *v1.Manifest, _ *v1.ConfigFile) {
			m.Layers[1].URLs = []string{"http://192.0.2.1/layer"}
		}),
		bad("schema1", "a manifest of Docker's schema 1", func() *Bundle {
			b := &Bundle{Blobs: map[v1.Hash][]byte{}}
			b.Root = b.add(types.DockerManifestSchema1Signed, []byte(`{"schemaVersion":1,"name":"a","tag":"b","architecture":"amd64","fsLayers":[],"history":[]}`))
			b.Manifests = []v1.Descriptor{b.Root}
			return b
		}),
		bad("nested-index", "an index in an index in an index, twenty deep", func() *Bundle {
			b := layers(typical()).Build()
			for range 20 {
				b.Root = b.addJSON(types.OCIImageIndex, v1.IndexManifest{
					SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{b.Root},
				})
				b.Manifests = append(b.Manifests, b.Root)
			}
			return b
		}),
		manifest("huge-manifest", "a manifest with an annotation of 32 MiB", func(m *v1.Manifest, _ *v1.ConfigFile) {
			m.Annotations = map[string]string{"a": strings.Repeat("a", 32<<20)}
		}),
		manifest("huge-config", "a config with a label of 32 MiB", func(_ *v1.Manifest, c *v1.ConfigFile) {
			c.Config.Labels = map[string]string{"a": strings.Repeat("a", 32<<20)}
		}),
	}
	return cases
}

// archive joins blocks and ends them.
func archive(blocks ...[]byte) []byte { return Tar(Raw(blocks...)) }

// damaged is an image whose layer's blob went through damage; its digest, size
// and diffID are right.
func damaged(compression string, damage func([]byte) []byte) *Bundle {
	content := Tar(append(typical(), File("noise", 0o644, noise(100000)))...)
	return Image{Layers: []Layer{{
		Tar: content, Compression: compression, Compressed: damage(Compress(content, compression)),
	}}}.Build()
}

// rewritten exchanges the root manifest for an edited copy.
func rewritten(b *Bundle, edit func(string) string) *Bundle {
	root := b.add(b.Root.MediaType, []byte(edit(string(b.Blobs[b.Root.Digest]))))
	root.Platform = b.Root.Platform
	b.Root = root
	b.Manifests[len(b.Manifests)-1] = root
	return b
}

// bomb is one file of 4 GiB of zeros. Its diffID is wrong, as nobody gets so far.
func bomb(compression string) *Bundle {
	const size = 4 << 30
	return oversized(compression, Header("zeros", tar.TypeReg, size), make([]byte, 64<<20), size/(64<<20))
}

// headerBomb is an extended header with one record of 1 GiB.
func headerBomb() *Bundle {
	const size = 1 << 30
	start := append(Header("PaxHeaders/0", tar.TypeXHeader, size), []byte(fmt.Sprintf("%d path=", size))...)
	return oversized("gzip", start, bytes.Repeat([]byte("a"), 64<<20), 16)
}

// entriesBomb repeats 4,096 empty files.
func entriesBomb() *Bundle {
	var block []byte
	for i := range 4096 {
		block = append(block, Header(fmt.Sprintf("f%d", i), tar.TypeReg, 0)...)
	}
	return oversized("gzip", nil, block, 1024)
}

// oversized is a layer of start and n times block, each compressed for itself:
// gzip members and zstd frames may be strung together.
func oversized(compression string, start, block []byte, n int) *Bundle {
	blob := Compress(start, compression)
	blob = append(blob, bytes.Repeat(Compress(block, compression), n)...)
	return Image{Layers: []Layer{{Tar: start, Compression: compression, Compressed: blob}}}.Build()
}

// zstdWindow is a frame header with the largest window there is (RFC 8878,
// section 3.1.1.1.2) and an empty block.
func zstdWindow() *Bundle {
	blob := binary.LittleEndian.AppendUint32(nil, 0xFD2FB528)
	blob = append(blob, 0, 0xff, 1, 0, 0)
	return Image{Layers: []Layer{{Tar: nil, Compression: "zstd", Compressed: blob}}}.Build()
}

// noise is n bytes that do not compress, the same ones each time.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}
