// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
)

// A set of 50,000 files is loaded in less than 200 ms: into the kernel, and as
// a list into the state directory. Maps alone: no program is loaded.
func BenchmarkSet50000(b *testing.B) {
	sets, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.HashOfMaps, KeySize: 4, MaxEntries: 1024,
		InnerMap: &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 32, ValueSize: 4, MaxEntries: 1},
	})
	if err != nil {
		b.Skip(err) // not root
	}
	objects, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 8, ValueSize: 1, MaxEntries: 4096})
	if err != nil {
		b.Fatal(err)
	}
	e := &Enforcer{options: Options{State: b.TempDir()}, maps: map[string]*ebpf.Map{"sets": sets, "objects": objects}}
	defer e.Close()
	for _, dir := range []string{"domains", "sets"} {
		if err := os.Mkdir(filepath.Join(e.options.State, dir), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	set := Set{Files: make([]File, 50_000)}
	for i := range set.Files {
		path := fmt.Sprintf("/usr/lib/python3/dist-packages/package%d/module%d.py", i/100, i)
		set.Files[i] = File{Path: path, SHA256: sha256.Sum256([]byte(path)), Package: fmt.Sprintf("deb python3-package%d 1.0-1", i/100)}
	}
	for b.Loop() {
		set.Name = fmt.Sprint("image", b.N)
		id, _, err := e.addSet(set)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := sets.Delete(id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
