// SPDX-License-Identifier: Apache-2.0

package cli

// How much memory a run takes at its peak, as the kernel counted it for the process.

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// peakFile is the variable with the name of a file to which sbom-bless writes its peak: getrusage(2)
// counts the memory of the process that it was started from as well.
const peakFile = "SBOM_BLESS_TEST_PEAK"

// reportPeak writes VmHWM of proc_pid_status(5) to the peakFile, if there is one.
func reportPeak() {
	name := os.Getenv(peakFile)
	if name == "" {
		return
	}
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		_, rest, _ := strings.Cut(string(status), "VmHWM:")
		err = os.WriteFile(name, []byte(rest), 0o644)
	}
	if err != nil {
		panic(err)
	}
}

// peakOf runs sbom-bless in dir and gives the most memory that it had, in MiB, and what it said.
func peakOf(t *testing.T, dir string, args ...string) (mib int64, out string, err error) {
	t.Helper()
	file := filepath.Join(dir, "peak")
	cmd := exec.Command("sbom-bless", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir+"/cache", "SBOM_BLESS_PASSWORD=", peakFile+"="+file)
	text, err := cmd.CombinedOutput()
	peak, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if _, err := fmt.Sscanf(string(peak), "%d kB", &mib); err != nil {
		t.Fatal(err)
	}
	return mib >> 10, string(text), err
}

// peakBlessing blesses the layout dir/source and verifies the result.
func peakBlessing(t *testing.T, dir string) (bless, verify int64) {
	t.Helper()
	must := func(args ...string) int64 {
		peak, out, err := peakOf(t, dir, args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return peak
	}
	must("keygen", "--out", "bless")
	bless = must("bless", "oci:source", "-t", "oci:blessed", "--key", "bless.key", "--no-cache", "--no-attestations", "--quiet")
	verify = must("verify", "oci:blessed", "--key", "bless.pub", "--files-only", "--quiet")
	return bless, verify
}

// maxPeak is the promise of docs/performance.md, in MiB.
const maxPeak = 200

// The size of a file has no influence on the memory that its layer takes, however it is packed.
func TestPeakMemoryDoesNotGrowWithTheFile(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	for _, packing := range []string{"", "gzip", "zstd"} {
		t.Run("packed "+packing, func(t *testing.T) {
			var least int64
			for _, mib := range []int64{64, 256, 1024} {
				dir := t.TempDir()
				if err := testimage.WriteHuge(filepath.Join(dir, "source"), packing, mib<<20); err != nil {
					t.Fatal(err)
				}
				bless, verify := peakBlessing(t, dir)
				t.Logf("%4d MiB: bless %d MiB, verify %d MiB", mib, bless, verify)
				if bless > maxPeak || verify > maxPeak {
					t.Errorf("%d MiB: bless took %d MiB, verify %d; the limit is %d", mib, bless, verify, maxPeak)
				}
				if least == 0 {
					least = bless
				}
				if bless > least+64 {
					t.Errorf("%d MiB: bless took %d MiB, and %d for a file of 64 MiB: memory grows with the file", mib, bless, least)
				}
				os.RemoveAll(dir)
			}
		})
	}
}

// A gzip stream can have more deflate blocks than data. What waits is counted by the memory it takes.
func TestPeakMemoryOfHostileStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	noise := testimage.Tar(testimage.File("noise", 0o644, bytes.Repeat([]byte("no two layers\n"), 300_000)))
	long := testimage.Tar(testimage.File(strings.Repeat("long/", 800)+"name", 0o644, nil).With("comment", strings.Repeat("x", 1_000_000)))
	const empty = "\x00\x00\x00\xff\xff"
	for _, c := range []struct {
		name    string
		tar     []byte
		deflate []byte
		refused string
	}{
		{"files in stored blocks of one byte", noise, single(noise), ""},
		{"ten million empty blocks behind a header", noise,
			join(stored(noise[:512]), bytes.Repeat([]byte(empty), 10_000_000), stored(noise[512:])), ""},
		{"ten million empty blocks within a header", noise,
			join(stored(noise[:100]), bytes.Repeat([]byte(empty), 10_000_000), stored(noise[100:])), "too many deflate blocks"},
		{"a header in stored blocks of one byte", long, single(long), "too many deflate blocks"},
		{"256 MiB of zeros behind the end", noise, join(stored(noise), zeros(256<<20)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			content := c.tar
			if strings.Contains(c.name, "zeros") {
				content = append(bytes.Clone(content), make([]byte, 256<<20)...)
			}
			err := testimage.Image{Layers: []testimage.Layer{{Tar: content, Compression: "gzip", Compressed: gzipOf(c.deflate, content)}}}.
				Build().WriteLayout(filepath.Join(dir, "source"), testimage.Tag)
			if err != nil {
				t.Fatal(err)
			}
			if c.refused == "" {
				bless, verify := peakBlessing(t, dir)
				t.Logf("bless %d MiB, verify %d MiB", bless, verify)
				if bless > maxPeak || verify > maxPeak {
					t.Errorf("bless took %d MiB, verify %d; the limit is %d", bless, verify, maxPeak)
				}
				return
			}
			for _, args := range [][]string{
				{"bless", "oci:source", "-t", "oci:blessed", "--hash-only", "--no-cache", "--no-attestations"},
				{"verify", "oci:source", "--hash-only", "--files-only"},
			} {
				peak, out, err := peakOf(t, dir, args...)
				t.Logf("%s %d MiB", args[0], peak)
				if err == nil || !strings.Contains(out, c.refused) {
					t.Errorf("%s was not refused for %q: %v\n%s", args[0], c.refused, err, out)
				}
				if peak > maxPeak {
					t.Errorf("%s took %d MiB, the limit is %d", args[0], peak, maxPeak)
				}
			}
		})
	}
}

// stored is deflate blocks with b as it is, of any size, and single of one byte each.
func stored(b []byte) []byte { return storedBy(b, 65535) }

func single(b []byte) []byte { return storedBy(b, 1) }

func storedBy(b []byte, size int) (out []byte) {
	for len(b) > 0 {
		n := min(len(b), size)
		out = append(out, 0)
		out = binary.LittleEndian.AppendUint16(out, uint16(n))
		out = binary.LittleEndian.AppendUint16(out, ^uint16(n))
		out, b = append(out, b[:n]...), b[n:]
	}
	return out
}

// zeros is n bytes of zero, compressed; the stream goes on after it.
func zeros(n int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		panic(err) // not for this level
	}
	w.Write(make([]byte, n))
	w.Flush()
	return b.Bytes()
}

// gzipOf makes a gzip file of deflate blocks that inflate to content, none of them the last.
func gzipOf(blocks, content []byte) []byte {
	out := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
	out = append(append(out, blocks...), "\x01\x00\x00\xff\xff"...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(content))
	return binary.LittleEndian.AppendUint32(out, uint32(len(content)))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
