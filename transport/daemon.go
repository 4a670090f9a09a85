// SPDX-License-Identifier: Apache-2.0

package transport

// The Docker daemon, by its Engine API: docker save and docker load, with the
// archives of docker_archive.go between.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/client"
)

// dial connects to the daemon that DOCKER_HOST, DOCKER_TLS_VERIFY and
// DOCKER_CERT_PATH name, as the docker command does.
func dial(ctx context.Context) (*client.Client, error) {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return nil, err
	}
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		c.Close()
		return nil, fmt.Errorf("%w\nhint: DOCKER_HOST names the daemon's socket", err)
	}
	return c, nil
}

// openDaemon saves the image into a temporary file, once.
func openDaemon(ctx context.Context, r reference, o Options) (Source, error) {
	t, id, err := save(ctx, r, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	// The archive was saved by ID, and so has one image without a name.
	s, err := newSaved(ctx, reference{place: Daemon, digest: id}, t, o)
	if err != nil {
		t.tar.Close()
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	return s, nil
}

func save(ctx context.Context, r reference, o Options) (*tarFiles, v1.Hash, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	defer c.Close()
	id, err := imageID(ctx, c, r)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	stream, err := c.ImageSave(ctx, []string{id.String()})
	if err != nil {
		return nil, v1.Hash{}, err
	}
	defer stream.Close()
	b, err := spoolAll(ctx, o.TempDir, stream, o.MaxBlob)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	t, err := indexTar(ctx, b, o)
	return t, id, err
}

// imageID resolves a name: the digest of the config, or with containerd's image
// store that of the manifest or index.
func imageID(ctx context.Context, c *client.Client, r reference) (v1.Hash, error) {
	name := r.digest.String()
	if r.name != nil {
		name = fullName(r.name)
	}
	image, err := c.ImageInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return v1.Hash{}, fmt.Errorf("image %w", ErrNotFound)
	} else if err != nil {
		return v1.Hash{}, err
	}
	return parseDigest(image.ID)
}

// daemonDestination collects an archive and loads it.
type daemonDestination struct {
	dockerArchive
}

func createDaemon(ctx context.Context, r reference, o Options) (*daemonDestination, error) {
	if r.name == nil {
		return nil, fmt.Errorf("%s: a destination has a tag, not an ID\nhint: docker-daemon:app:1", r)
	}
	c, err := dial(ctx) // so that nobody waits for a daemon that is not there
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	defer c.Close()
	a, err := createDockerArchive(r, o)
	if err != nil {
		return nil, err
	}
	return &daemonDestination{*a}, nil
}

// Commit loads the image and gives its ID.
func (d *daemonDestination) Commit(ctx context.Context, root v1.Descriptor) (string, error) {
	id, err := d.load(ctx, root)
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.ref, err)
	}
	return reference{place: Daemon, digest: id}.String(), nil
}

func (d *daemonDestination) load(ctx context.Context, root v1.Descriptor) (v1.Hash, error) {
	files, err := d.files(root)
	if err != nil {
		return v1.Hash{}, err
	}
	c, err := dial(ctx)
	if err != nil {
		return v1.Hash{}, err
	}
	defer c.Close()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		w.CloseWithError(d.writeTar(ctx, w, files))
		close(done)
	}()
	result, err := c.ImageLoad(ctx, r)
	if err == nil {
		err = loadError(result)
		result.Close()
	}
	r.Close() // lets the writer end, if the daemon did not read it all
	<-done
	if err != nil {
		return v1.Hash{}, fmt.Errorf("load: %w", err)
	}
	id, err := imageID(ctx, c, d.ref)
	if err != nil {
		return v1.Hash{}, err
	}
	head, err := d.head(root)
	if err == nil && id != head.Config.Digest && id != root.Digest {
		err = fmt.Errorf("the daemon has %s under this name after loading %s", id, root.Digest)
	}
	return id, err
}

// loadError reads the messages of a load: the daemon says 200 before it begins,
// and what went wrong in the stream.
func loadError(r io.Reader) error {
	for dec := json.NewDecoder(io.LimitReader(r, 16<<20)); ; {
		var m struct {
			Error string `json:"error"`
		}
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
	}
}
