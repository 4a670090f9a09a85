// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/transport"
)

// containerdName is how containerd names itself to plugins, and [Container.Runtime] of its containers.
const containerdName = "containerd"

// Containerd brings the containers of a containerd to an agent.
type Containerd struct {
	Agent *Agent
	// Address is its socket.
	Address string

	client atomic.Pointer[containerd.Client]
}

// errNotConnected says that there is no containerd, or not now.
var errNotConnected = errors.New("containerd does not answer")

// Run follows containerd until ctx is done: it finds what runs, then hears of
// what comes and goes. It waits for a containerd that is not there, or goes.
func (r *Containerd) Run(ctx context.Context) error {
	for {
		err := r.follow(ctx)
		client := r.client.Swap(nil)
		if client != nil {
			_ = client.Close() // of no use any more
		}
		if ctx.Err() != nil {
			return nil
		}
		if client != nil { // one that was never there is no news
			r.Agent.notify(Notice{Operation: "runtime", Action: "lost", Message: fmt.Sprintf("containerd at %s: %v", r.Address, err)})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}

// Connect reaches containerd once.
func (r *Containerd) Connect(ctx context.Context) error {
	if _, err := os.Stat(r.Address); err != nil {
		return err
	}
	client, err := containerd.New(r.Address, containerd.WithTimeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("%s: %w", r.Address, err)
	}
	if _, err := client.Version(ctx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", r.Address, err), client.Close())
	}
	r.client.Store(client)
	return nil
}

func (r *Containerd) follow(ctx context.Context) error {
	if r.client.Load() == nil {
		if err := r.Connect(ctx); err != nil {
			return err
		}
	}
	client := r.client.Load()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait() // after cancel: nothing that it waits for is waited for
	defer cancel()
	// Events first: what starts while the list is read is heard of twice, which does no harm.
	heard, failed := client.Subscribe(ctx, `topic~="/tasks/(create|start|delete)"`, `topic=="/containers/create"`)
	r.Agent.notify(Notice{Operation: "runtime", Action: "found", Message: "containerd at " + r.Address})
	wg.Go(func() {
		if err := r.Scan(ctx); err != nil && ctx.Err() == nil {
			r.Agent.problem("", err)
		}
	})
	for {
		select {
		case e := <-heard:
			// Lists may take time to come, and other containers do not wait for it.
			wg.Go(func() { r.hear(ctx, e) })
		case err := <-failed:
			return err
		}
	}
}

// hear acts on one event.
func (r *Containerd) hear(ctx context.Context, e *events.Envelope) {
	ctx = namespaces.WithNamespace(ctx, e.Namespace)
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		r.Agent.problem("", fmt.Errorf("event %s: %w", e.Topic, err))
		return
	}
	id := ""
	switch v := v.(type) {
	case *apievents.ContainerCreate:
		// Its process comes soon: the list is better there before.
		id = v.ID
		var c Container
		if c, err = r.lookup(ctx, id); err == nil {
			r.Agent.Warm(ctx, c)
		}
	case *apievents.TaskCreate:
		id = v.ContainerID
		err = r.admit(ctx, id, int(v.Pid), Created)
	case *apievents.TaskStart:
		id = v.ContainerID
		err = r.admit(ctx, id, int(v.Pid), Running)
	case *apievents.TaskDelete:
		id = v.ContainerID
		if v.ID == "" || v.ID == id { // not that of an exec
			var c Container
			if c, err = r.lookup(ctx, id); err == nil {
				err = r.Agent.Gone(c.key())
			}
		}
	}
	if err != nil && ctx.Err() == nil && !errdefs.IsNotFound(err) && !errors.Is(err, os.ErrNotExist) {
		r.Agent.problem(id, err)
	}
}

// Scan admits what runs already, and the agent does not know.
func (r *Containerd) Scan(ctx context.Context) error {
	client := r.client.Load()
	if client == nil {
		return nil // Run scans when it is there
	}
	spaces, err := client.NamespaceService().List(ctx)
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	for _, space := range spaces {
		ctx := namespaces.WithNamespace(ctx, space)
		list, err := client.Containers(ctx)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", space, err)
		}
		for _, c := range list {
			task, err := c.Task(ctx, nil)
			if errdefs.IsNotFound(err) {
				continue
			}
			var known Container
			pid := 0
			if err == nil {
				pid, err = firstOf(ctx, task)
			}
			if err == nil {
				known, err = r.running(ctx, c.ID(), pid)
			}
			if err == nil && !r.Agent.Known(&known) {
				err = r.Agent.Admit(ctx, known, Running)
			}
			if err != nil && !errdefs.IsNotFound(err) && !errors.Is(err, os.ErrNotExist) && ctx.Err() == nil {
				r.Agent.problem(c.ID(), err)
			}
		}
	}
	return nil
}

// admit brings a container whose first process is pid.
func (r *Containerd) admit(ctx context.Context, id string, pid int, stage Stage) error {
	c, err := r.running(ctx, id, pid)
	if err != nil {
		return err
	}
	return r.Agent.Admit(ctx, c, stage)
}

func (r *Containerd) running(ctx context.Context, id string, pid int) (Container, error) {
	c, err := r.lookup(ctx, id)
	if err != nil {
		return c, err
	}
	c.PID, c.Root = pid, fmt.Sprintf("/proc/%d/root", pid)
	c.Cgroup, err = enforce.CgroupOf(pid)
	return c, err
}

// criNamespace is where containerd's CRI keeps its containers. Only that asks NRI.
const criNamespace = "k8s.io"

// AdmitStarting brings a container of the CRI that waits to be started.
func (r *Containerd) AdmitStarting(ctx context.Context, id string) error {
	c, err := r.ofCRI(ctx, id)
	if err != nil {
		return err
	}
	return r.Agent.Admit(ctx, c, Starting)
}

// runc is the runtime whose setup process executes nothing once it has left the host's root
// filesystem, but the container's program. gVisor's, for one, executes itself again.
const runc = "io.containerd.runc.v2"

// Sandbox finds the sandbox of a pod that runc runs; nil: something else does.
func (r *Containerd) Sandbox(ctx context.Context, id string) (*Container, error) {
	c, err := r.ofCRI(ctx, id)
	if err != nil || !c.Sandbox || c.runtime != runc {
		return nil, err
	}
	return &c, nil
}

// ofCRI is a container of the CRI that has a process.
func (r *Containerd) ofCRI(ctx context.Context, id string) (Container, error) {
	ctx = namespaces.WithNamespace(ctx, criNamespace)
	client := r.client.Load()
	if client == nil {
		return Container{}, errNotConnected
	}
	c, err := client.LoadContainer(ctx, id)
	if err != nil {
		return Container{}, fmt.Errorf("container %s: %w", id, err)
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		return Container{}, fmt.Errorf("container %s: %w", id, err)
	}
	pid, err := firstOf(ctx, task)
	if err != nil {
		return Container{}, err
	}
	return r.running(ctx, id, pid)
}

// firstOf is a task's first process. A task that ended keeps the pid until it is deleted,
// and the kernel gives it to another process of the host.
func firstOf(ctx context.Context, task containerd.Task) (int, error) {
	status, err := task.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", task.ID(), err)
	}
	if status.Status == containerd.Stopped || task.Pid() == 0 {
		return 0, fmt.Errorf("container %s has no process: %w", task.ID(), errdefs.ErrNotFound)
	}
	return int(task.Pid()), nil
}

// Labels that the CRI plugin gives containers. It sets labelKind last, over what pods and images
// bring (BuildLabels of containerd's internal/cri/util, v2.4.2).
const (
	labelKind         = "io.cri-containerd.kind"
	labelContainer    = "io.kubernetes.container.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	labelPod          = "io.kubernetes.pod.name"
)

func isSandbox(space string, labels map[string]string) bool {
	return space == criNamespace && labels[labelKind] == "sandbox"
}

// fromCRI believes those labels where the CRI plugin sets them. Elsewhere the author of the
// image may have: clients copy an image's labels to the container.
func (c *Container) fromCRI(space string) {
	if space != criNamespace {
		return
	}
	if name := c.Labels[labelContainer]; name != "" {
		c.Name = name
	}
	if pod := c.Labels[labelPodNamespace]; pod != "" {
		c.Namespace = pod
	}
}

func (r *Containerd) lookupIn(ctx context.Context, namespace, id string) (Container, error) {
	return r.lookup(namespaces.WithNamespace(ctx, namespace), id)
}

// lookup asks containerd what a container is.
func (r *Containerd) lookup(ctx context.Context, id string) (Container, error) {
	client := r.client.Load()
	if client == nil {
		return Container{}, errNotConnected
	}
	info, err := client.ContainerService().Get(ctx, id)
	if err != nil {
		return Container{}, fmt.Errorf("container %s: %w", id, err)
	}
	space, _ := namespaces.Namespace(ctx)
	c := Container{Runtime: containerdName, ID: space + "/" + id, Image: info.Image, Name: id, Namespace: space, Labels: info.Labels, runtime: info.Runtime.Name}
	c.fromCRI(space)
	c.Sandbox = isSandbox(space, info.Labels)
	if err := resolve(ctx, client, &info, &c); err != nil {
		c.Problem = firstLine(err)
	}
	return c, nil
}

// resolve finds the manifest that the container was made of. A name may mean another image
// by now, so it counts only if its layers are those that the container's snapshot lies on.
func resolve(ctx context.Context, client *containerd.Client, info *containers.Container, c *Container) error {
	if info.Image == "" {
		return errors.New("containerd made it of no image of its own")
	}
	image, err := client.ImageService().Get(ctx, info.Image)
	if err != nil {
		return fmt.Errorf("image %s: %w", info.Image, err)
	}
	snapshot, err := client.SnapshotService(info.Snapshotter).Stat(ctx, info.SnapshotKey)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", info.SnapshotKey, err)
	}
	found, err := manifestOf(ctx, client.ContentStore(), image.Target, snapshot.Parent, c)
	if err != nil {
		return fmt.Errorf("image %s: %w", info.Image, err)
	}
	if !found {
		return fmt.Errorf("image %s is %s now, and the container was not made of that", info.Image, image.Target.Digest)
	}
	return nil
}

// maxJSON is the largest manifest, index or config that is read.
const maxJSON = 8 << 20

// manifestOf looks for the manifest whose layers have this chain id, in an image or index.
func manifestOf(ctx context.Context, store content.Store, desc ocispec.Descriptor, chain string, c *Container) (bool, error) {
	if images.IsIndexType(desc.MediaType) {
		var index ocispec.Index
		if err := readBlob(ctx, store, desc, &index); err != nil {
			return false, err
		}
		for _, m := range index.Manifests {
			found, err := manifestOf(ctx, store, m, chain, c)
			if errdefs.IsNotFound(err) {
				continue // of another platform, not pulled
			}
			if found || err != nil {
				return found, err
			}
		}
		return false, nil
	}
	if !images.IsManifestType(desc.MediaType) {
		return false, fmt.Errorf("%s is a %s", desc.Digest, desc.MediaType)
	}
	var m ocispec.Manifest
	if err := readBlob(ctx, store, desc, &m); err != nil {
		return false, err
	}
	if !slices.Contains([]string{images.MediaTypeDockerSchema2Config, ocispec.MediaTypeImageConfig}, m.Config.MediaType) {
		return false, nil // an attestation's manifest
	}
	var config ocispec.Image
	if err := readBlob(ctx, store, m.Config, &config); err != nil {
		return false, err
	}
	if identity.ChainID(config.RootFS.DiffIDs).String() != chain {
		return false, nil
	}
	space, _ := namespaces.Namespace(ctx)
	c.Digest, c.content = desc.Digest.String(), stored{store, space}
	hash, err := v1.NewHash(c.Digest)
	c.manifest = v1.Descriptor{MediaType: types.MediaType(desc.MediaType), Size: desc.Size, Digest: hash}
	return true, err
}

// stored is a containerd's content store, as those read it who look for attestations in
// an image. They need not know its namespace.
type stored struct {
	content.Store
	space string
}

// Manifest is that of transport.Fetcher.
func (s stored) Manifest(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	return content.ReadBlob(namespaces.WithNamespace(ctx, s.space), s.Store, descriptor(desc))
}

// Blob is that of transport.Fetcher.
func (s stored) Blob(ctx context.Context, desc v1.Descriptor) (transport.Blob, error) {
	return s.ReaderAt(namespaces.WithNamespace(ctx, s.space), descriptor(desc))
}

func descriptor(desc v1.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: string(desc.MediaType), Size: desc.Size, Digest: digest.Digest(desc.Digest.String())}
}

func readBlob(ctx context.Context, store content.Store, desc ocispec.Descriptor, v any) error {
	if desc.Size > maxJSON {
		return fmt.Errorf("%s: %d bytes are too many", desc.Digest, desc.Size)
	}
	b, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if desc.Digest.Algorithm().FromBytes(b) != desc.Digest {
		return fmt.Errorf("%s: containerd's content is not that", desc.Digest)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	return nil
}
