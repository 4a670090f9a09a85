// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Case is an image known for the trouble it makes.
type Case struct {
	Name, About string
	// Refused tells that a careful reader must not accept the image.
	Refused bool
	Make    func() *Bundle
}

// Cases lists all of them: the good ones, then the hostile ones.
func Cases() []Case { return append(goodCases(), hostileCases()...) }

// elf is what starts an ELF executable.
var elf = []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00")

// program is an x86-64 executable of program headers alone, each a type (PT_LOAD 1, PT_GNU_STACK
// 0x6474e551) and flags (1 executable, 2 writable), which begin at the offset.
func program(offset int, headers ...[2]uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, offset+56*len(headers))
	copy(b, elf)
	le.PutUint64(b[32:], uint64(offset))
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], uint16(len(headers)))
	for i, h := range headers {
		le.PutUint32(b[offset+56*i:], h[0])
		le.PutUint32(b[offset+56*i+4:], h[1])
	}
	return b
}

// spans are what the good sparse files hold. GNU tar starts each span on a block
// of its own, archive/tar and bsdtar where the last one ended: only the last
// may be other than whole blocks.
var spans = []Span{{4096, bytes.Repeat([]byte("data at 4096...\n"), 32)}, {1 << 19, []byte("and in the middle")}}

// one is an image of one gzip layer.
func one(entries ...Entry) *Bundle { return oneTar(Tar(entries...)) }

func oneTar(content []byte) *Bundle {
	return Image{Layers: []Layer{{Tar: content, Compression: "gzip"}}}.Build()
}

// layers makes one gzip layer of each list.
func layers(lists ...[]Entry) Image {
	var im Image
	for _, entries := range lists {
		im.Layers = append(im.Layers, Layer{Tar: Tar(entries...), Compression: "gzip"})
	}
	return im
}

// typical is a layer with a program, a library, a script, data and a link.
func typical() []Entry {
	return []Entry{
		Dir("usr/"), Dir("usr/bin/"), Dir("usr/lib/"), Dir("etc/"),
		File("usr/bin/app", 0o755, append(bytes.Clone(elf), "app"...)),
		File("usr/lib/libapp.so.1", 0o644, append(bytes.Clone(elf), "library"...)),
		File("usr/bin/start", 0o755, []byte("#!/bin/sh\nexec /usr/bin/app\n")),
		File("etc/app.conf", 0o640, []byte("listen 8080\n")),
		File("etc/empty", 0o644, nil),
		Symlink("usr/lib/libapp.so", "libapp.so.1"),
	}
}

// alpine is busybox in a version and another package with a library, as apk installs them, and a file that is neither's.
func alpine(version, other, local string) []Entry {
	installed := fmt.Sprintf("P:busybox\nV:%s\nA:x86_64\nL:GPL-2.0-only\nF:bin\nR:busybox\n\nP:%s\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\nR:%s.so\n\n", version, other, other)
	return []Entry{
		File("etc/os-release", 0o644, []byte("ID=alpine\nVERSION_ID=3.20.0\n")), File("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\n")),
		File("etc/motd", 0o644, nil), File("srv/data", 0o644, []byte("data")), File("opt/local", 0o755, []byte("#!/bin/sh\necho "+local+"\n")),
		File("bin/busybox", 0o755, append(bytes.Clone(elf), version...)), File("lib/"+other+".so", 0o755, append(bytes.Clone(elf), other...)),
		File("lib/apk/db/installed", 0o644, []byte(installed)),
	}
}

func goodCases() []Case {
	good := func(name, about string, make func() *Bundle) Case { return Case{name, about, false, make} }
	compressed := func(docker bool, compression string) func() *Bundle {
		return func() *Bundle {
			return Image{Docker: docker, Layers: []Layer{{Tar: Tar(typical()...), Compression: compression}}}.Build()
		}
	}
	return []Case{
		good("typical", "a program, a library, a script, data, a symbolic link; OCI, gzip", compressed(false, "gzip")),
		good("uncompressed", "the same, not compressed", compressed(false, "")),
		good("zstd", "the same, zstd", compressed(false, "zstd")),
		good("docker", "the same with Docker's media types, gzip", compressed(true, "gzip")),
		good("index", "amd64 and arm64 with their attestation manifests", func() *Bundle {
			return Index(true, layers(typical()), Image{
				Platform: v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"},
				Layers:   []Layer{{Tar: Tar(File("bin/arm", 0o755, elf)), Compression: "zstd"}},
			})
		}),
		good("docker-list", "amd64 and arm64 as a Docker manifest list", func() *Bundle {
			arm := layers(typical())
			arm.Platform = v1.Platform{OS: "linux", Architecture: "arm64"}
			amd := layers(typical())
			amd.Docker, arm.Docker = true, true
			return Index(false, amd, arm)
		}),
		good("families", "platforms that share layers, in manifests with media types of Docker and of OCI, in both orders", func() *Bundle {
			share := func(arch string, docker bool) Image {
				return Image{Docker: docker, Platform: v1.Platform{OS: "linux", Architecture: arch}, Layers: []Layer{
					{Tar: Tar(typical()...), Compression: "gzip"}, {Tar: Tar(File("bin/"+arch, 0o755, elf)), Compression: "gzip"}}}
			}
			return Index(false, share("amd64", true), share("arm64", false), share("arm", true))
		}),
		good("families-in-one", "one layer twice in a manifest, under media types of Docker and of OCI", func() *Bundle {
			return Image{Layers: []Layer{{Tar: Tar(typical()...), Compression: "gzip", MediaType: types.DockerLayer}, {Tar: Tar(typical()...), Compression: "gzip"}}}.Build()
		}),
		good("mislabelled", "layers whose media type says another packing than the bytes have", func() *Bundle {
			plain, packed, other := Tar(typical()...), Tar(File("opt/a", 0o644, []byte("a"))), Tar(File("opt/b", 0o644, []byte("b")))
			return Image{Layers: []Layer{
				{Tar: plain, Compressed: plain, Compression: "gzip"}, {Tar: packed, Compressed: Compress(packed, "gzip")}, {Tar: packed, Compressed: Compress(packed, "zstd"), Compression: "gzip"},
				{Tar: other, Compressed: Compress(other, "gzip"), Compression: "zstd"}, {Tar: nil, Compressed: []byte{}, Compression: "gzip"}}}.Build()
		}),
		good("config-octet-stream", "platforms whose configs have a media type that says nothing", func() *Bundle {
			amd, arm := layers(typical()), layers([]Entry{File("bin/arm", 0o755, elf)})
			amd.ConfigType, arm.ConfigType, arm.Platform = "application/octet-stream", "text/html", v1.Platform{OS: "linux", Architecture: "arm64"}
			return Index(false, amd, arm)
		}),
		good("estargz-lossless", "a layer with a table of contents behind its end, as BuildKit writes it", func() *Bundle {
			return oneTar(append(Tar(typical()...), Tar(File("stargz.index.json", 0o444, []byte(`{"version":1,"entries":[]}`)))...))
		}),
		good("no-layers", "an image of config alone", func() *Bundle { return Image{}.Build() }),
		good("empty-layer", "a layer without an entry between two others", func() *Bundle {
			return layers(typical(), nil, []Entry{File("a", 0o644, []byte("a"))}).Build()
		}),
		good("same-layer-twice", "one layer, twice", func() *Bundle { return layers(typical(), typical()).Build() }),
		good("hardlinks", "links to an earlier entry, to a lower layer, and to a file that this layer replaces", func() *Bundle {
			return layers(
				[]Entry{File("bin/a", 0o755, elf), Link("bin/b", "bin/a"), File("bin/d", 0o755, []byte("#!/bin/sh\n"))},
				[]Entry{Link("bin/c", "bin/a"), File("bin/d", 0o755, []byte("#!/bin/dash\n")), Link("bin/e", "bin/d")},
			).Build()
		}),
		good("whiteouts", "whiteouts, an opaque directory, a file that becomes a directory and back", func() *Bundle {
			return layers(
				append(typical(), Dir("srv/"), File("srv/old", 0o644, []byte("old")), File("x", 0o644, []byte("file")), Dir("y/"), File("y/in", 0o644, []byte("in"))),
				[]Entry{Whiteout("etc/app.conf"), Dir("srv/"), Whiteout("srv/.wh..wh..opq"), File("srv/new", 0o644, []byte("new")),
					Dir("x/"), File("x/in", 0o644, []byte("in")), File("y", 0o644, []byte("file"))},
			).Build()
		}),
		good("executable-memory", "programs with an executable stack, a segment that is writable and executable, program headers far behind, and such that a layer replaced", func() *Bundle {
			const load, stack = 1, 0x6474e551
			plain := program(64, [2]uint32{load, 5}, [2]uint32{stack, 6})
			return layers(
				[]Entry{File("bin/plain", 0o755, plain), File("bin/stack", 0o755, program(64, [2]uint32{load, 5}, [2]uint32{stack, 7})), Link("bin/link", "bin/stack"),
					File("bin/segment", 0o755, program(64, [2]uint32{load, 7}, [2]uint32{stack, 6})), File("bin/replaced", 0o755, program(64, [2]uint32{stack, 7}))},
				[]Entry{File("bin/far", 0o755, program(8192, [2]uint32{stack, 6})), File("bin/replaced", 0o755, plain)},
			).Build()
		}),
		good("sparse-gnu", "a sparse file, old GNU format", func() *Bundle {
			return one(SparseGNU("sparse", 1<<20, spans...))
		}),
		good("sparse-pax", "a sparse file, PAX format 1.0", func() *Bundle {
			return one(SparsePAX("sparse", 1<<20, spans...))
		}),
		good("devices", "devices, a FIFO, a directory with odd permissions", func() *Bundle {
			d := Dir("tmp/")
			d.Mode = 0o1777
			return one(append(typical(), Device("dev/null", 1, 3), Fifo("run/pipe"), d)...)
		}),
		good("long-names", "names of 101, 300 and 4,000 bytes, PAX and GNU", func() *Bundle {
			var entries []Entry
			for _, n := range []int{101, 300, 4000} {
				name := strings.Repeat("directory/", n/10) + strings.Repeat("n", n%10)
				pax, gnu := File("pax/"+name+"p", 0o644, []byte("p")), File("gnu/"+name+"g", 0o644, []byte("g"))
				pax.Format, gnu.Format = tar.FormatPAX, tar.FormatGNU
				entries = append(entries, pax, gnu)
			}
			return one(entries...)
		}),
		good("odd-names", "names with spaces, quotes, control characters, not UTF-8; ./a and a//b", func() *Bundle {
			return one(File("with space", 0o644, []byte("1")), File("quo\"te'", 0o644, []byte("2")),
				Raw(Header("caf\xe9", tar.TypeReg, 1), Pad([]byte("3"))),
				Raw(Header("bell\a\x1b[31m", tar.TypeReg, 1), Pad([]byte("4"))),
				File("./dot", 0o644, []byte("5")), File("double//slash", 0o644, []byte("6")), File("/absolute", 0o644, []byte("7")))
		}),
		good("duplicates", "one path twice in a layer, the second differs", func() *Bundle {
			return one(File("a", 0o644, []byte("first")), File("b", 0o644, nil), File("a", 0o755, []byte("second")))
		}),
		good("capabilities", "security.capability and user.* attributes, SCHILY and LIBARCHIVE forms", func() *Bundle {
			capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			return one(File("bin/ping", 0o755, elf).With("SCHILY.xattr.security.capability", capability),
				File("data", 0o644, []byte("x")).With("SCHILY.xattr.user.note", "a=b", "LIBARCHIVE.xattr.user.note", "YT1i"))
		}),
		good("global-pax", "a global PAX header, as git archive writes", func() *Bundle {
			body := []byte("52 comment=0123456789012345678901234567890123456789\n")
			return one(Raw(Header("pax_global_header", tar.TypeXGlobalHeader, int64(len(body))), Pad(body)), File("a", 0o644, []byte("a")))
		}),
		good("extra-zeros", "zero blocks after the end marker, up to a record of 10 KiB", func() *Bundle {
			content := Tar(typical()...)
			return oneTar(append(content, make([]byte, 20*512-len(content)%(20*512))...))
		}),
		good("trailing-data", "bytes after the end marker that are no archive", func() *Bundle {
			return oneTar(append(Tar(typical()...), bytes.Repeat([]byte("x"), 512)...))
		}),
		good("no-end-marker", "an archive without its two zero blocks", func() *Bundle {
			content := Tar(typical()...)
			return oneTar(content[:len(content)-1024])
		}),
		good("gzip-members", "a gzip layer of three members, the cuts in the middle of files", func() *Bundle {
			content := Tar(typical()...)
			var blob []byte
			for _, part := range [][]byte{content[:1000], content[1000:2500], content[2500:]} {
				blob = append(blob, Compress(part, "gzip")...)
			}
			return Image{Layers: []Layer{{Tar: content, Compression: "gzip", Compressed: blob}}}.Build()
		}),
		good("stargz", "a layer with the annotations of eStargz and zstd:chunked, and one of its own", func() *Bundle {
			return Image{Layers: []Layer{{Tar: Tar(typical()...), Compression: "gzip", Annotations: map[string]string{
				"containerd.io/snapshot/stargz/toc.digest":            "sha256:" + strings.Repeat("0", 64),
				"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1",
				"io.github.containers.zstd-chunked.manifest-checksum": "sha256:" + strings.Repeat("0", 64),
				"io.containers.estargz.uncompressed-size":             "4096",
				"io.containers.zstd-chunked.manifest-position":        "1:2:3:1",
				"com.example/what": "base",
			}}}}.Build()
		}),
		good("packages", "packages of Alpine with their database", func() *Bundle { return layers(alpine("1.36.1-r29", "zlib", "one")).Build() }),
		good("packages-next", "the same later: one package is newer, one came, one went, and files changed that are of none", func() *Bundle {
			return layers(alpine("1.36.1-r30", "musl", "two"), []Entry{File("etc/passwd", 0o666, []byte("root:x:0:0:root:/:/bin/sh\n")), Symlink("etc/motd", "issue"), Whiteout("srv")}).Build()
		}),
		good("large-file", "one file of 100 MiB that hardly compresses, one of zeros", func() *Bundle {
			return one(File("random", 0o644, noise(32<<20)), File("zeros", 0o644, make([]byte, 68<<20)))
		}),
		good("many-entries", "10,000 files of a few bytes", func() *Bundle {
			var entries []Entry
			for i := range 10000 {
				entries = append(entries, File(fmt.Sprintf("d%02d/f%d", i%100, i), 0o644, fmt.Append(nil, i)))
			}
			return one(entries...)
		}),
	}
}
