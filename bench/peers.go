// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/sbom-bless/sbom-bless/internal/testimage"
)

// eachLayer works on the layers of an image two at a time and takes the time.
func eachLayer(l layoutInfo, work func(path string) error) (usage, error) {
	var g errgroup.Group
	g.SetLimit(2)
	started, before := time.Now(), cpuTime()
	for _, path := range l.layers {
		g.Go(func() error { return work(path) })
	}
	err := g.Wait()
	return usage{wall: time.Since(started), cpu: cpuTime() - before}, err
}

// cpuTime is what this process and the commands it waited for have taken.
func cpuTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			panic(err) // not for these arguments
		}
		sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return sum
}

// gunzip is the yardstick: GNU gzip unpacks the layers and throws them away.
func gunzip(ctx context.Context, l layoutInfo) (usage, error) {
	return eachLayer(l, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		cmd := exec.CommandContext(ctx, "gzip", "-dc")
		cmd.Stdin = f // no Stdout: it is the null device
		return cmd.Run()
	})
}

// gunzipHash is the least that a verifier does: GNU gzip unpacks the layers and
// crypto/sha256 reads them.
func gunzipHash(ctx context.Context, l layoutInfo) (usage, error) {
	return eachLayer(l, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		cmd := exec.CommandContext(ctx, "gzip", "-dc")
		cmd.Stdin = f
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		_, copyErr := io.CopyBuffer(sha256.New(), bufio.NewReaderSize(out, 1<<20), make([]byte, 1<<20))
		return errors.Join(copyErr, cmd.Wait())
	})
}

// recompress is what a tool that changes a gzip layer does as a rule: unpack and
// pack again. It reads no tar, hashes and signs nothing.
func recompress(l layoutInfo) (usage, error) {
	return eachLayer(l, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		r, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<20))
		if err != nil {
			return err
		}
		w, err := gzip.NewWriterLevel(io.Discard, 6)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		return w.Close()
	})
}

// unpackSignRepack is today's way to an image with signed files.
func unpackSignRepack(ctx context.Context, layout, key, dir string) (usage, error) {
	image, bundle := filepath.Join(dir, "image"), filepath.Join(dir, "bundle")
	if err := testimage.CopyLayout(image, layout); err != nil {
		return usage{}, err
	}
	rootfs := filepath.Join(bundle, "rootfs")
	var sum usage
	for _, args := range [][]string{
		{"umoci", "unpack", "--image", image + ":" + testimage.Tag, bundle},
		{"evmctl", "ima_sign", "-r", "-a", "sha256", "--key", key, rootfs},
		{"umoci", "repack", "--image", image + ":signed", bundle},
	} {
		u, err := measure(exec.CommandContext(ctx, args[0], args[1:]...))
		if err != nil {
			return usage{}, err
		}
		sum.wall += u.wall
		sum.cpu += u.cpu
		sum.peak = max(sum.peak, u.peak)
	}
	// evmctl 1.4 exits 0 under -r when every file failed.
	return sum, filepath.WalkDir(rootfs, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n, _ := syscall.Getxattr(path, "security.ima", nil); n <= 0 {
			return fmt.Errorf("evmctl did not sign %s", path)
		}
		return fs.SkipAll
	})
}
