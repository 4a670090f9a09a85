// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

// What containers/storage, which podman and CRI-O keep containers and images in, knows
// of a container. Its files are read, never locked: it replaces them whole.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CRIO is how CRI-O names itself to plugins, and [Container.Runtime] of its containers.
const CRIO = "cri-o"

// DefaultStorage is the graph root of containers/storage, for root.
const DefaultStorage = "/var/lib/containers/storage"

type storedContainer struct {
	ID       string   `json:"id"`
	Names    []string `json:"names"`
	Image    string   `json:"image"`
	Layer    string   `json:"layer"`
	Metadata string   `json:"metadata"`
}

type storedImage struct {
	ID     string   `json:"id"`
	Digest string   `json:"digest"`
	Names  []string `json:"names"`
	Layer  string   `json:"layer"`
	Mapped []string `json:"mapped-layers"`
}

type storedLayer struct {
	ID     string `json:"id"`
	Parent string `json:"parent"`
}

// find looks in the lists of one kind; those marked volatile are of containers that do
// not outlive a boot. It gives nil when none is it.
func find[T any](root, kind string, ok func(*T) bool) (*T, error) {
	for _, volatile := range []string{"", "volatile-"} {
		var list []T
		err := readJSON(filepath.Join(root, "overlay-"+kind, volatile+kind+".json"), &list)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range list {
			if ok(&list[i]) {
				return &list[i], nil
			}
		}
	}
	return nil, nil
}

// fromStorage fills c with what the storage at root knows of the container c.ID. The image
// counts only if the container's layer lies on the image's; else c.Problem says what is wrong.
func fromStorage(root string, c *Container) {
	problem := func(err error, format string, args ...any) {
		if c.Problem = fmt.Sprintf(format, args...); err != nil {
			c.Problem += ": " + firstLine(err)
		}
	}
	sc, err := find(root, "containers", func(x *storedContainer) bool { return x.ID == c.ID })
	if sc == nil {
		problem(err, "containers/storage does not know it")
		return
	}
	if len(sc.Names) > 0 {
		c.Name = sc.Names[0]
	}
	// Of CRI-O's own (RuntimeContainerMetadata of its internal/storage, v1.34.0): the annotations
	// are near those that a pod's author writes.
	var crio struct {
		Pod   bool   `json:"pod"`
		PodID string `json:"pod-id"`
	}
	c.Sandbox = c.Runtime == CRIO && json.Unmarshal([]byte(sc.Metadata), &crio) == nil && crio.Pod && crio.PodID == c.ID
	image, err := find(root, "images", func(x *storedImage) bool { return x.ID == sc.Image })
	if image == nil {
		problem(err, "containers/storage lacks image %q of container %s", sc.Image, c.ID)
		return
	}
	c.Image = image.ID
	if len(image.Names) > 0 {
		c.Image = image.Names[0]
	}
	// The name that it was started by.
	if m := imageName.FindStringSubmatch(sc.Metadata); m != nil && slices.Contains(image.Names, m[1]) {
		c.Image = m[1]
	}
	layer, err := find(root, "layers", func(x *storedLayer) bool { return x.ID == sc.Layer })
	if layer == nil || layer.Parent != image.Layer && !slices.Contains(image.Mapped, layer.Parent) {
		problem(err, "the layer of container %s does not lie on image %s", c.ID, image.ID)
		return
	}
	if image.Digest == "" {
		problem(nil, "image %s has no manifest: it was built here", c.Image)
		return
	}
	c.Digest = image.Digest
}

// imageName finds the name in the metadata that podman keeps.
var imageName = regexp.MustCompile(`"image-name":"([^"]+)"`)

// scopes matches the cgroups that podman and CRI-O give containers; libpod-payload- is
// podman's in a unit of systemd (Quadlet, --cgroups=split).
var scopes = regexp.MustCompile(`^(libpod|libpod-payload|crio)-([0-9a-f]{64})(\.scope)?$`)

// Storage brings the running containers of podman and CRI-O to an agent: those that no
// hook told of.
type Storage struct {
	Agent *Agent
	// Root is the graph root.
	Root string
	// Cgroups is where the search begins.
	Cgroups string
}

// Scan looks at all cgroups once, and admits the containers that the agent does not know.
func (s *Storage) Scan(ctx context.Context) error {
	list, err := s.find(func(c *Container) bool { return !s.Agent.Known(c) && c.refresh() })
	errs := []error{err}
	for _, c := range list {
		if err := s.Agent.Admit(ctx, c, Running); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// AdmitStarting brings a container of CRI-O that waits to be started, which CRI-O does whatever
// a plugin says. So it is put under a list, or nothing of it runs.
func (s *Storage) AdmitStarting(ctx context.Context, id string) error {
	list, err := s.find(func(c *Container) bool {
		if c.ID != id {
			return false
		}
		pids := processes(c.Cgroup)
		if len(pids) == 0 {
			return false
		}
		c.PID, c.Root = pids[0], fmt.Sprintf("/proc/%d/root", pids[0]) // the runtime's, which has entered it
		return true
	})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("container %s: no cgroup below %s has a process of it", id, s.Cgroups)
	}
	return s.Agent.Admit(ctx, list[0], Created)
}

// Sandbox is none: most pods of CRI-O have none, and the OCI hook asks for each container.
func (s *Storage) Sandbox(context.Context, string) (*Container, error) { return nil, nil }

// find looks at all cgroups for containers that are wanted.
func (s *Storage) find(wanted func(*Container) bool) ([]Container, error) {
	if _, err := os.Stat(s.Root); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []Container
	err := filepath.WalkDir(s.Cgroups, func(dir string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went
		}
		if err != nil {
			return err
		}
		m := scopes.FindStringSubmatch(e.Name())
		if !e.IsDir() || m == nil {
			return nil
		}
		// A user gives cgroups any name in those that are its own. That of a container may be
		// its user's, if it has a user namespace.
		var above unix.Stat_t
		if err := unix.Stat(filepath.Dir(dir), &above); err != nil || above.Uid != 0 {
			return nil
		}
		c := Container{Runtime: map[string]string{"libpod": "podman", "libpod-payload": "podman", "crio": CRIO}[m[1]], ID: m[2], Name: m[2], Cgroup: dir}
		if !wanted(&c) {
			return fs.SkipDir
		}
		var spec specs.Spec
		err = readJSON(filepath.Join(s.Root, "overlay-containers", c.ID, "userdata/config.json"), &spec)
		if errors.Is(err, fs.ErrNotExist) {
			return fs.SkipDir // of another storage
		}
		if c.Labels = spec.Annotations; err != nil {
			c.Problem = firstLine(err)
		} else {
			fromPod(s.Root, &c)
		}
		list = append(list, c)
		return fs.SkipDir
	})
	return list, err
}

// graphRoot tells the storage that a root filesystem is in: GRAPHROOT/overlay/LAYER/merged.
func graphRoot(rootfs string) string {
	if dir, ok := strings.CutSuffix(rootfs, "/merged"); ok && filepath.Base(filepath.Dir(dir)) == "overlay" {
		return filepath.Dir(filepath.Dir(dir))
	}
	return ""
}
