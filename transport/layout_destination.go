// SPDX-License-Identifier: Apache-2.0

package transport

// Writing OCI image layouts, several processes at a time.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

const layoutFile = `{"imageLayoutVersion":"1.0.0"}`

// layoutDestination writes into a directory. Blobs land under their digest as
// they come, where nobody looks for them; Commit lists them in index.json.
type layoutDestination struct {
	layout
	root    *os.Root
	created bool // the directory is ours
	syncs   errgroup.Group

	mu        sync.Mutex
	counted   map[v1.Hash]v1.Descriptor // content that Commit relies on
	written   []string                  // blobs that were not there before
	referrers []v1.Descriptor           // manifests with a subject that were put
	began     bool
	committed bool
}

func createLayout(r reference, o Options) (*layoutDestination, error) {
	if r.digest != (v1.Hash{}) {
		return nil, fmt.Errorf("%s: a destination has a tag, not a digest\nhint: oci:%s:TAG", r, r.path)
	}
	d, err := newLayoutDestination(r, o)
	if err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		d.root.Close()
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	return d, nil
}

func newLayoutDestination(r reference, o Options) (*layoutDestination, error) {
	created := false
	if _, err := os.Stat(r.path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(r.path, 0o755); err != nil {
			return nil, fmt.Errorf("%s: %w", r, err)
		}
		created = true
	}
	root, err := os.OpenRoot(r.path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	d := &layoutDestination{
		layout: layout{r, directory{root}, o}, root: root, created: created,
		counted: map[v1.Hash]v1.Descriptor{},
	}
	d.sweep()
	return d, nil
}

// check refuses a directory that is something else already.
func (d *layoutDestination) check() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(1)
	if err != nil && err != io.EOF {
		return err
	}
	if len(names) == 0 {
		return nil
	}
	if _, err := d.root.Stat("oci-layout"); errors.Is(err, fs.ErrNotExist) {
		return errors.New("the directory is not empty, and not an OCI layout")
	} else if err != nil {
		return rootError(err)
	}
	if _, err := d.index(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Has tells whether there is a file of the digest's name and the right size.
func (d *layoutDestination) Has(_ context.Context, desc v1.Descriptor) (bool, error) {
	if err := checkDescriptor(desc, d.o.MaxBlob); err != nil {
		return false, fmt.Errorf("%s: blob %s: %w", d.ref, desc.Digest, err)
	}
	info, err := d.root.Stat(blobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() != desc.Size) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("%s: blob %s: %w", d.ref, desc.Digest, rootError(err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counted[desc.Digest] = desc
	return true, nil
}

// PutBlob writes a blob to a temporary file beside the others and renames it.
func (d *layoutDestination) PutBlob(ctx context.Context, desc v1.Descriptor, open func() (io.ReadCloser, error)) error {
	if there, err := d.Has(ctx, desc); there || err != nil {
		return err
	}
	r, err := open()
	if err == nil {
		defer r.Close()
		err = d.putBlob(ctx, desc, r)
	}
	if err != nil {
		return fmt.Errorf("%s: blob %s: %w", d.ref, desc.Digest, err)
	}
	d.count(desc)
	return nil
}

// putBlob writes the file of a blob.
func (d *layoutDestination) putBlob(ctx context.Context, desc v1.Descriptor, r io.Reader) error {
	name := blobPath(desc.Digest)
	if err := d.begin(name); err != nil {
		return err
	}
	f, err := d.put(name, func(f *os.File) error { return copyVerified(ctx, f, r, desc) })
	if err == nil {
		d.sync(desc, f)
	}
	return err
}

// sync has the file of a blob written to the disk while others are made; Commit
// waits for that.
func (d *layoutDestination) sync(desc v1.Descriptor, f *os.File) {
	d.syncs.Go(func() error {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("blob %s: %w", desc.Digest, err)
		}
		return nil
	})
}

// count notes a blob that this run wrote.
func (d *layoutDestination) count(desc v1.Descriptor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counted[desc.Digest] = desc
	d.written = append(d.written, blobPath(desc.Digest))
}

// put makes the file name, whole or not at all, and gives it, still open.
func (d *layoutDestination) put(name string, write func(*os.File) error) (*os.File, error) {
	temp := tempName()
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if err = write(f); err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), d.root.Remove(temp))
	}
	return f, nil
}

// begin makes the file oci-layout, which is never replaced, as locks are on it, and the directory for a
// blob. In this order: others who begin now take a directory without that file for something else.
func (d *layoutDestination) begin(blob string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.began = true
	f, err := d.root.OpenFile("oci-layout", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.WriteString(layoutFile)
		err = errors.Join(err, f.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.root.MkdirAll(path.Dir(blob), 0o755); err != nil {
		return rootError(err)
	}
	return nil
}

// PutManifest writes a manifest; one with a subject is listed by Commit.
func (d *layoutDestination) PutManifest(ctx context.Context, desc v1.Descriptor, raw []byte) error {
	head, err := parseHead(raw, string(desc.MediaType))
	if err == nil {
		err = checkDescriptor(desc, d.o.MaxManifest)
	}
	if err != nil {
		return fmt.Errorf("%s: manifest %s: %w", d.ref, desc.Digest, err)
	}
	if err := d.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }); err != nil {
		return err
	}
	if head.Subject != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.referrers = append(d.referrers, head.referrer(desc))
	}
	return nil
}

// Referrers lists those of index.json and those that Commit will list there.
func (d *layoutDestination) Referrers(ctx context.Context, subject v1.Hash, artifactType string) ([]v1.Descriptor, error) {
	there, err := d.layout.Referrers(ctx, subject, artifactType)
	if err != nil {
		return nil, err
	}
	list := referrerList(there)
	for _, desc := range d.pending() {
		if head, err := d.head(desc); err == nil && head.Subject.Digest == subject {
			list.add(desc, artifactType)
		}
	}
	return list.sorted(), nil
}

// pending gives the referrers that were put, ordered by digest.
func (d *layoutDestination) pending() []v1.Descriptor {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(referrerList(d.referrers).sorted())
}

// Commit gives root the tag of the reference, under a lock, so that several
// processes can add to one layout.
func (d *layoutDestination) Commit(ctx context.Context, root v1.Descriptor) (string, error) {
	err := d.syncs.Wait()
	var head manifestHead
	if err == nil {
		head, err = d.head(root)
	}
	if err == nil {
		err = d.locked(ctx, func() error {
			return d.list(func(x *index) error {
				if err := d.setTag(x, v1.Descriptor{MediaType: head.MediaType, Digest: root.Digest, Size: root.Size}); err != nil {
					return err
				}
				return addReferrers(x, d.pending(), head)
			})
		})
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.ref, err)
	}
	d.committed = true
	return reference{place: Layout, path: d.ref.path, digest: root.Digest}.String(), nil
}

// list writes index.json anew, as edit makes it.
func (d *layoutDestination) list(edit func(*index) error) error {
	for _, desc := range d.counted {
		if info, err := d.root.Stat(blobPath(desc.Digest)); err != nil || info.Size() != desc.Size {
			return fmt.Errorf("blob %s: %w: removed by another process while writing\nhint: run again", desc.Digest, ErrNotFound)
		}
	}
	x, err := d.index()
	if errors.Is(err, fs.ErrNotExist) {
		x, err = newIndex(), nil
	}
	if err != nil {
		return err
	}
	before, err := x.marshal()
	if err != nil {
		return err
	}
	if err := edit(x); err != nil {
		return err
	}
	raw, err := x.marshal()
	if err != nil {
		return err
	}
	if int64(len(raw)) > d.o.MaxManifest {
		return fmt.Errorf("index.json: %d bytes, more than the limit of %d", len(raw), d.o.MaxManifest)
	}
	if _, err := d.root.Stat("index.json"); err == nil && bytes.Equal(before, raw) {
		return nil
	}
	f, err := d.put("index.json", func(f *os.File) error {
		_, err := f.Write(raw)
		return errors.Join(err, f.Sync())
	})
	if err != nil {
		return err
	}
	return f.Close()
}

// setTag makes desc the entry that the reference names. The entry that had the
// tag goes; without a tag, the one untagged image does.
func (d *layoutDestination) setTag(x *index, desc v1.Descriptor) error {
	if d.ref.tag != "" {
		desc.Annotations = map[string]string{refName: d.ref.tag}
	}
	e, err := newEntry(desc)
	if err != nil {
		return err
	}
	var same []int
	for i, old := range x.entries {
		if old.desc.Annotations[refName] == d.ref.tag && (d.ref.tag != "" || !d.isReferrer(old.desc)) {
			same = append(same, i)
		}
	}
	switch {
	case slices.ContainsFunc(same, func(i int) bool { return x.entries[i].desc.Digest == desc.Digest }):
	case len(same) == 1 || d.ref.tag != "" && len(same) > 1:
		x.entries[same[0]] = e
		for _, i := range slices.Backward(same[1:]) {
			x.entries = slices.Delete(x.entries, i, i+1)
		}
	default:
		x.entries = append(x.entries, e)
	}
	return nil
}

// addReferrers lists manifests with a subject, except children of the root,
// which it lists itself.
func addReferrers(x *index, referrers []v1.Descriptor, root manifestHead) error {
	for _, desc := range referrers {
		is := func(d v1.Descriptor) bool { return d.Digest == desc.Digest }
		if slices.ContainsFunc(x.entries, func(e entry) bool { return is(e.desc) }) || slices.ContainsFunc(root.Manifests, is) {
			continue
		}
		e, err := newEntry(desc)
		if err != nil {
			return err
		}
		x.entries = append(x.entries, e)
	}
	return nil
}

// Close takes away what this run put into a layout that nobody ever committed
// to. In other layouts, blobs stay: another run may rely on them by now.
func (d *layoutDestination) Close() error {
	defer d.root.Close()
	_ = d.syncs.Wait() // Commit reports its error; without Commit it does not matter
	if d.committed {
		return nil
	}
	if d.began {
		if err := d.locked(context.Background(), d.undo); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", d.ref, err)
		}
	}
	if d.created {
		os.Remove(d.ref.path) // stays if something is in it
	}
	return nil
}

func (d *layoutDestination) undo() error {
	if _, err := d.root.Stat("index.json"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range d.written {
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{"blobs/sha256", "blobs/sha512", "blobs"} {
		_ = d.root.Remove(dir) // stays if something is in it
	}
	if _, err := d.root.Stat("blobs"); errors.Is(err, fs.ErrNotExist) {
		return d.root.Remove("oci-layout")
	}
	return nil
}

var _ Store = (*layoutDestination)(nil)
