// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
)

// Open opens the image or index that ref names for reading. A tag is resolved
// here, once.
func Open(ctx context.Context, ref string, o Options) (Source, error) {
	o = o.withDefaults()
	r, err := parseReference(ref, o.Insecure)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w", r, errors.ErrUnsupported)
}

// Create prepares the place that ref names to take an image. Nothing that is
// there changes before Commit.
func Create(ctx context.Context, ref string, o Options) (Destination, error) {
	o = o.withDefaults()
	r, err := parseReference(ref, o.Insecure)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w", r, errors.ErrUnsupported)
}
