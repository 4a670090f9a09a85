// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vm

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What enforcement and the tests stand on is there on every kernel.
func TestGuest(t *testing.T) {
	Test(t, nil, Config{Host: func(t TB, c *Config) {
		file := filepath.Join(t.TempDir(), "hello")
		if err := os.WriteFile(file, []byte("from the host"), 0o640); err != nil {
			t.Fatal(err)
		}
		c.Files["/etc/deep/hello"] = file
	}}, func(t *testing.T, k Kernel) {
		t.Run("is the kernel asked for", func(t *testing.T) {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				t.Fatal(err)
			}
			if release := unix.ByteSliceToString(u.Release[:]); !strings.HasPrefix(release, string(k)+".") {
				t.Errorf("release %s, want %s", release, k)
			}
		})
		t.Run("has the files", func(t *testing.T) {
			got, err := os.ReadFile("/etc/deep/hello")
			if err != nil || string(got) != "from the host" {
				t.Errorf("%q, %v", got, err)
			}
			if fi, err := os.Stat("/etc/deep/hello"); err != nil || fi.Mode() != 0o640 {
				t.Errorf("%v, %v", fi, err)
			}
		})
		t.Run("mounts an overlay", func(t *testing.T) {
			d := t.TempDir()
			for _, sub := range []string{"lower", "upper", "work", "merged"} {
				if err := os.Mkdir(filepath.Join(d, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			merged := filepath.Join(d, "merged")
			if err := unix.Mount("overlay", merged, "overlay", 0,
				"lowerdir="+d+"/lower,upperdir="+d+"/upper,workdir="+d+"/work"); err != nil {
				t.Fatal(err)
			}
			if err := unix.Setxattr(merged, "security.bpf.bless", []byte("x"), 0); err != nil {
				t.Errorf("security.bpf.bless: %v", err)
			}
			if err := unix.Unmount(merged, 0); err != nil {
				t.Error(err)
			}
		})
		t.Run("lets the root be pivoted", func(t *testing.T) {
			// As a container runtime does, in a mount namespace that ends
			// with its thread.
			done := make(chan error)
			go func() {
				runtime.LockOSThread()
				done <- pivot(t.TempDir())
			}()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		t.Run("has BPF LSM, BTF and IMA", func(t *testing.T) {
			lsm, err := os.ReadFile("/sys/kernel/security/lsm")
			if err != nil || !strings.Contains(string(lsm), "bpf") {
				t.Errorf("lsm %s, %v", lsm, err)
			}
			for _, f := range []string{"/sys/kernel/btf/vmlinux", "/sys/kernel/security/ima/policy", "/sys/fs/cgroup/cgroup.procs", "/sys/kernel/tracing/trace"} {
				if _, err := os.Stat(f); err != nil {
					t.Error(err)
				}
			}
		})
	})
}

func pivot(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	return unix.PivotRoot(".", ".")
}

// What goes wrong in a guest comes out as what it was.
func TestFailures(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	for _, c := range []struct{ name, program, append, want string }{
		{"a program that is missing its library", "/bin/true", "", "no such file or directory"},
		{"a panic", "/proc/self/exe", "rdinit=/nowhere", "panic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Run(context.Background(), Config{Kernel: "6.1", Program: c.program, Append: c.append})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("result %v, error %v, want %q in it", r, err, c.want)
			}
		})
	}
}
