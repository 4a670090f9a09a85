// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/enforce"
)

// AnnotationImage names, in the config.json of a bundle that no image store knows, the
// image that it was made of: NAME@sha256:….
const AnnotationImage = "dev.sbom-bless.image"

// annotationImageOld is how it was named before; it is read for one release more.
const annotationImageOld = "org.sbom-bless.image"

// fromHook makes a container of what an OCI runtime tells a createRuntime hook (runtime
// specification 1.0.2, "Creating" state): its state, and the bundle that names.
func fromHook(ctx context.Context, state *specs.State, containerd *Containerd) (Container, error) {
	var spec specs.Spec
	if err := readJSON(filepath.Join(state.Bundle, "config.json"), &spec); err != nil {
		return Container{}, err
	}
	if spec.Root == nil {
		return Container{}, fmt.Errorf("%s/config.json: no root", state.Bundle)
	}
	rootfs := spec.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(state.Bundle, rootfs)
	}
	c := Container{Runtime: "oci", ID: state.ID, Name: state.ID, PID: state.Pid, Labels: map[string]string{}}
	maps.Copy(c.Labels, spec.Annotations)
	maps.Copy(c.Labels, state.Annotations)
	c.Root = startingRoot(state.Pid, rootfs)
	var err error
	if c.Cgroup, err = enforce.CgroupOf(state.Pid); err != nil {
		return c, err
	}
	if m := shimBundle.FindStringSubmatch(state.Bundle); m != nil && containerd != nil {
		return fromContainerd(ctx, containerd, m[1], c)
	}
	if root := graphRoot(rootfs); root != "" {
		c.Runtime = "podman"
		// podman takes annotations from images; its cgroups are its own.
		if c.Labels["io.container.manager"] == CRIO && !strings.Contains(c.Cgroup, "/libpod-") {
			c.Runtime = CRIO
		}
		fromPod(root, &c)
		return c, nil
	}
	c.Image, c.Digest, _ = strings.Cut(cmp.Or(c.Labels[AnnotationImage], c.Labels[annotationImageOld]), "@")
	if c.Digest == "" {
		c.Problem = fmt.Sprintf("no image store knows it, and annotation %s does not name NAME@sha256:…", AnnotationImage)
	}
	return c, nil
}

// shimBundle finds the namespace in the path of a bundle that containerd's shim made.
var shimBundle = regexp.MustCompile(`/io\.containerd\.runtime\.v2\.task/([^/]+)/[^/]+$`)

func fromContainerd(ctx context.Context, r *Containerd, namespace string, c Container) (Container, error) {
	known, err := r.lookupIn(ctx, namespace, c.ID)
	if err != nil {
		return c, err
	}
	known.PID, known.Root, known.Cgroup = c.PID, c.Root, c.Cgroup
	return known, nil
}

// fromPod fills in what podman's or CRI-O's annotations and storage say.
func fromPod(root string, c *Container) {
	// CRI-O keeps the labels of Kubernetes in an annotation.
	var labels map[string]string
	if json.Unmarshal([]byte(c.Labels["io.kubernetes.cri-o.Labels"]), &labels) == nil {
		maps.Copy(c.Labels, labels)
	}
	fromStorage(root, c)
	if c.Runtime == CRIO {
		c.fromCRI(criNamespace)
	}
}

// startingRoot is the root filesystem of a container that has not entered it yet: there are
// its mounts too, if the runtime has made them. Some runtimes mount it for all to see.
func startingRoot(pid int, rootfs string) string {
	inside := fmt.Sprintf("/proc/%d/root%s", pid, rootfs)
	var st unix.Statfs_t
	if unix.Statfs(inside, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return inside
	}
	return rootfs
}
