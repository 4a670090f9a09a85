// SPDX-License-Identifier: Apache-2.0

package transport

import "context"

// Open opens the image or index that ref names for reading. A tag is resolved
// here, once.
func Open(ctx context.Context, ref string, o Options) (Source, error) {
	o = o.withDefaults()
	r, err := parseReference(ref, o.Insecure)
	if err != nil {
		return nil, err
	}
	switch r.place {
	case Daemon:
		return openDaemon(ctx, r, o)
	case DockerArchive:
		return openDockerArchive(ctx, r, o)
	case Layout:
		return openLayout(r, o)
	case OCIArchive:
		return openOCIArchive(ctx, r, o)
	}
	return openRegistry(ctx, r, o)
}

// Create prepares the place that ref names to take an image. Nobody sees a
// change there before Commit.
func Create(ctx context.Context, ref string, o Options) (Destination, error) {
	o = o.withDefaults()
	r, err := parseReference(ref, o.Insecure)
	if err != nil {
		return nil, err
	}
	switch r.place {
	case Daemon:
		return destination(createDaemon(ctx, r, o))
	case DockerArchive:
		return destination(createDockerArchive(r, o))
	case Layout:
		return destination(createLayout(r, o))
	case OCIArchive:
		return destination(createOCIArchive(r, o))
	}
	return destination(createRegistry(r, o))
}

// destination keeps a nil pointer from becoming an interface that is not nil.
func destination[D Destination](d D, err error) (Destination, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}
