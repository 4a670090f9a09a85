// SPDX-License-Identifier: Apache-2.0

//go:build linux

package churn

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/internal/vm"
)

const (
	manyImages     = 10
	manyFiles      = 100_000 // of each image
	manySizes      = 23_000  // that these have: 100,000 files of a Debian's /usr have 23,425
	manyContainers = 500
	memoryLimit    = 288 << 10 // KiB
)

// 500 containers of ten images with 100,000 files each fit in 288 MiB, and all
// of it is given back with the last of them.
func TestCapacity(t *testing.T) {
	vm.Test(t, []vm.Kernel{"7.3"}, vm.Config{Memory: 2048, Host: bringImage, Timeout: 10 * time.Minute}, capacity)
}

func capacity(t *testing.T, k vm.Kernel) {
	files, err := makeImage()
	if err != nil {
		t.Fatal(err)
	}
	e, err := enforce.Load(options)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	list := make([]*container, manyContainers)
	for i := range list {
		if list[i], err = newContainer(); err != nil {
			t.Fatal(err)
		}
	}
	before, err := look()
	if err != nil {
		t.Fatal(err)
	}
	memoryBefore, err := kernelMemory()
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	domains := make([]enforce.Domain, manyContainers)
	for i := range manyImages {
		set := largeSet(i, files)
		for n := i; n < manyContainers; n += manyImages {
			d := list[n].domain()
			if d.ID, err = e.Add(d, set); err != nil {
				t.Fatal(err)
			}
			domains[n] = d
		}
	}
	t.Logf("added in %s", time.Since(started).Round(time.Second))
	for n := range 2 * manyImages {
		if err := list[n*manyContainers/(2*manyImages)].try(); err != nil {
			t.Error(err)
		}
	}
	locked, sets, err := mapMemory()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := kernelMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sets; maps %d MiB; the kernel keeps %d MiB more than before, file lists on tmpfs among it", sets, locked>>10, (memory-memoryBefore)>>10)
	if sets != manyImages {
		t.Errorf("%d sets for %d images", sets, manyImages)
	}
	if locked > memoryLimit || memory-memoryBefore > memoryLimit {
		t.Errorf("more than %d MiB", memoryLimit>>10)
	}

	known, err := e.Domains()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range known {
		if err := e.Remove(d); err != nil {
			t.Fatal(err)
		}
	}
	// Inner maps are freed some time after the last use of them could end.
	var after traces
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Second) {
		if err := e.Sweep(); err != nil { // which forgets their ids
			t.Fatal(err)
		}
		if after, err = look(); err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(before, after) || time.Now().After(end) {
			break
		}
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Error(d)
	}
	left, err := kernelMemory()
	if err != nil {
		t.Fatal(err)
	}
	if left-memoryBefore > 16<<10 {
		t.Errorf("%d MiB are not given back", (left-memoryBefore)>>10)
	}
}

// largeSet lists the image's files, and others as a large image would have.
func largeSet(n int, files []enforce.File) enforce.Set {
	set := enforce.Set{Name: fmt.Sprintf("registry.example/app%d@sha256:%064x", n, n), Digest: fmt.Sprintf("sha256:%064x", n), Sizes: true}
	set.Files = append(set.Files, files...)
	for i := len(files); i < manyFiles; i++ {
		path := fmt.Sprintf("/usr/share/application/%d/module%d.so", n, i)
		set.Files = append(set.Files, enforce.File{Path: path, SHA256: sha256.Sum256([]byte(path)), Package: "deb application 1.0-1", Size: uint64(i % manySizes)})
	}
	return set
}

// mapMemory is what all maps of the kernel say that they take, in KiB, and the
// number of sets.
func mapMemory() (kib, sets int, err error) {
	err = each(ebpf.MapGetNextID, func(id ebpf.MapID) error {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return err
		}
		bytes, ok := info.Memlock()
		if !ok {
			return fmt.Errorf("map %s does not say what it takes", info.Name)
		}
		kib += int(bytes >> 10)
		if info.Name == "bless_set" {
			sets++
		}
		return nil
	})
	return kib, sets, err
}
