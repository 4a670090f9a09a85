// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

const usage = `usage: mkimage NAME [DIR]
       mkimage tampered SOURCE PATH DIR

Makes the test image NAME and prints the path of its OCI layout, where it is
tagged "latest". The real images small, medium, large and manyfiles stay in the
cache directory; DIR, when given, becomes a copy made of hard links. All other
images are written to DIR. "tampered" copies the layout SOURCE with one byte of the file PATH
changed, and all digests of the image right:

`

// Main is the command mkimage; its result is the exit code. A testscript can
// have it as a command of its own.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) == 4 && args[0] == "tampered" {
		if err := Tamper(args[1], args[2], args[3]); err != nil {
			fmt.Fprintln(stderr, "mkimage:", err)
			return 1
		}
		fmt.Fprintln(stdout, args[3])
		return 0
	}
	if len(args) < 1 || len(args) > 2 {
		fmt.Fprint(stderr, usage)
		for _, c := range Cases() {
			fmt.Fprintf(stderr, "  %-24s %s\n", c.Name, c.About)
		}
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var dir string
	if len(args) == 2 {
		dir = args[1]
	}
	path, err := mkimage(ctx, args[0], dir)
	if err != nil {
		fmt.Fprintln(stderr, "mkimage:", err)
		return 1
	}
	fmt.Fprintln(stdout, path)
	return 0
}

func mkimage(ctx context.Context, name, dir string) (string, error) {
	for _, c := range Cases() {
		if c.Name != name {
			continue
		}
		if dir == "" {
			return "", fmt.Errorf("image %s: where to? mkimage %s DIR", name, name)
		}
		return dir, c.Make().WriteLayout(dir, Tag)
	}
	cached, err := Real(ctx, name)
	if err != nil || dir == "" {
		return cached, err
	}
	return dir, CopyLayout(dir, cached)
}

// CopyLayout makes to a copy of the layout from, with hard links where it can.
func CopyLayout(to, from string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		// index.json is changed in place by tools that add a tag.
		if filepath.Base(path) != "index.json" && os.Link(path, target) == nil {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}
