// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
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
	set := Set{Files: make([]File, 50_000), Sizes: true}
	for i := range set.Files {
		path := fmt.Sprintf("/usr/lib/python3/dist-packages/package%d/module%d.py", i/100, i)
		set.Files[i] = File{Path: path, SHA256: sha256.Sum256([]byte(path)), Package: fmt.Sprintf("deb python3-package%d 1.0-1", i/100), Size: uint64(i / 2)}
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

// Each size of a file is one more key, which no digest is, and the map has room for all.
func TestSizesOfSet(t *testing.T) {
	file := func(content string) File {
		return File{SHA256: sha256.Sum256([]byte(content)), Size: uint64(len(content))}
	}
	set := Set{Files: []File{file("ab"), file("cd"), file("e"), file("ab"), file("")}}
	keys, values := set.kernel()
	if len(keys) != 5 || len(values) != 5 {
		t.Errorf("without sizes %d keys, %d values", len(keys), len(values))
	}
	set.Sizes = true
	keys, values = set.kernel()
	got := map[[32]byte]uint32{}
	for i, k := range keys {
		got[k] = values[i]
	}
	for i, want := range map[int]uint32{0: 0, 1: 1, 2: 2, 3: 0, 4: 4} {
		if n, ok := got[set.Files[i].SHA256]; !ok || n != want {
			t.Errorf("file %d: value %d, want %d, its first name", i, n, want)
		}
	}
	for size, want := range []bool{true, true, true, false} {
		key := [32]byte{0: byte(size)}
		copy(key[8:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		if value, ok := got[key]; ok != want || value != 0 {
			t.Errorf("size %d: %t, value %d", size, ok, value)
		}
	}
	if len(keys) != 5+3 || len(values) != 5+3 {
		t.Errorf("%d keys, %d values", len(keys), len(values))
	}
	var d blessDomain
	if d.use(0, set); d.Flags != 0 {
		t.Errorf("no set, flags %d", d.Flags)
	}
	if d.use(1, set); d.Flags != uint32(blessDomainFlagsDOMAIN_SIZES) || d.Set != 1 {
		t.Errorf("%+v", d)
	}
}

// TestDomains reads what other processes wrote since, and nothing twice.
func TestDomains(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "domains"), 0o700); err != nil {
		t.Fatal(err)
	}
	e, other := &Enforcer{options: Options{State: dir}}, &Enforcer{options: Options{State: dir}}
	for id := range uint32(3) {
		if err := other.remember(Domain{ID: id, Name: "before"}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want ...string) {
		t.Helper()
		domains, err := e.Domains()
		var names []string
		for _, d := range domains {
			names = append(names, d.Name)
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("%v %v, not %v", names, err, want)
		}
	}
	is("before", "before", "before")
	if err := other.remember(Domain{ID: 1, Name: "after"}); err != nil {
		t.Fatal(err)
	}
	is("before", "after", "before")
	if err := os.Remove(other.statePath("domains", 0, ".json")); err != nil {
		t.Fatal(err)
	}
	is("after", "before")
	if n := len(e.records.known); n != 2 {
		t.Errorf("%d domains are kept", n)
	}
	// A file is read once: here its content changes behind the back of all of that.
	name := other.statePath("domains", 2, ".json")
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	e.records.known[recordKey{name, st.Ino, st.Ctim}] = Domain{ID: 2, Name: "from memory"}
	is("after", "from memory")
}
