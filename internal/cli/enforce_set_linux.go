// SPDX-License-Identifier: Apache-2.0

package cli

// Where an attestation, or a list given by hand, becomes what a container may run.

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/filelist"
	"github.com/sbom-bless/sbom-bless/attest/locate"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/node"
	"github.com/sbom-bless/sbom-bless/transport"
)

// enforceSet gives the list that the flags name, with those of --join; root is what is
// listed without any.
func enforceSet(c *cli.Context, root string) (enforce.Set, error) {
	set, err := ownSet(c, root)
	if err != nil {
		return set, err
	}
	var joined []enforce.Set
	for _, image := range c.StringSlice("join") {
		if !enforce.Trust(c.String("trust")).Listed() {
			return set, usagef("--join adds to a list, and --trust keyring has none")
		}
		other, err := attestedSet(c, "--join", image)
		if err != nil {
			return set, fmt.Errorf("--join: %w", err)
		}
		joined = append(joined, other)
	}
	return set.Join(joined...), nil
}

// ownSet is the list without those of --join.
func ownSet(c *cli.Context, root string) (enforce.Set, error) {
	image, list, dir := c.String("image"), c.String("files"), c.String("attestations")
	trust, err := enforce.ParseTrust(c.String("trust"))
	if err != nil {
		return enforce.Set{}, usagef("%v", err)
	}
	switch {
	case !trust.Listed():
		return enforce.Set{Name: image}, nil // for the name alone
	case image != "" && list != "":
		return enforce.Set{}, usagef("choose --image or --files")
	case dir != "" && list != "" && !c.IsSet("join"):
		return enforce.Set{}, usagef("choose --image-attestation or --files")
	case list != "":
		return givenSet(list)
	case image != "" || dir != "":
		return attestedSet(c, "--image", image)
	case root != "":
		if _, err := os.Stat(root); err != nil {
			return enforce.Set{}, fmt.Errorf("--root: %w", err)
		}
		return listRoot(root)
	}
	return enforce.Set{}, usagef("needs --image, --image-attestation, --files or, for exec, --root")
}

// attestedSet verifies the attestation whose subject is the very manifest that
// image names, and takes its list. That of another digest does not count,
// whatever tag or name it had. Without an image, it is the one that --attestations has. flag
// is the one that names the image.
func attestedSet(c *cli.Context, flag, image string) (enforce.Set, error) {
	var subject v1.Hash
	if image != "" {
		ref, err := name.NewDigest(image)
		if err != nil {
			return enforce.Set{}, usagef("%s %s: the digest that the runtime resolved belongs to it: NAME@sha256:…", flag, image)
		}
		if subject, err = v1.NewHash(ref.DigestStr()); err != nil {
			return enforce.Set{}, err
		}
	}
	trust, given, err := readTrust(c.Context, c)
	if err != nil {
		return enforce.Set{}, err
	}
	if !given {
		return enforce.Set{}, usagef("the list of an image needs --key or --certificate-identity: whose attestation counts")
	}
	if dir := c.String("attestations"); dir != "" {
		if _, err := os.Stat(dir); err != nil {
			return enforce.Set{}, fmt.Errorf("--image-attestation: %w\nhint: name the directory that bless --attestation-out wrote", err)
		}
	}
	if image == "" {
		if subject, err = onlySubject(c, trust); err != nil {
			return enforce.Set{}, err
		}
	}
	verified, err := nodeAttestation(c, image, subject, trust)
	if image == "" {
		image = attestedName(verified, subject)
	}
	if err != nil {
		return enforce.Set{}, fmt.Errorf("%s: %w", image, err)
	}
	return node.Set(image, verified), nil
}

// onlySubject is the one image of which the directory of --attestations has a file list.
func onlySubject(c *cli.Context, trust attest.Trust) (v1.Hash, error) {
	dir := transport.OpenDir(c.String("attestations"))
	subjects, err := dir.Subjects(filelist.MediaType)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("--image-attestation: %w", err)
	}
	switch len(subjects) {
	case 0:
		return v1.Hash{}, fmt.Errorf("--image-attestation %s: no attestations\nhint: bless --attestation-out writes them; those that are embedded in an image, or in a runtime's content store, need --image NAME@sha256:…", dir.Path())
	case 1:
		return subjects[0], nil
	}
	var names []string
	for _, subject := range subjects {
		v, err := attest.VerifyFiles(c.Context, dir, subject, trust)
		line := "  " + attestedName(v, subject)
		if err != nil {
			line += "  (no attestation of it that counts)"
		} else if v.Blessing.Platform != "" {
			line += "  " + v.Blessing.Platform
		}
		names = append(names, line)
	}
	return v1.Hash{}, fmt.Errorf("--image-attestation %s: attestations of %d images\n%s\nhint: say which with --image NAME@sha256:…", dir.Path(), len(subjects), strings.Join(names, "\n"))
}

// attestedName is the name that a verified attestation gives its subject, or else the digest.
func attestedName(v *attest.Verified, subject v1.Hash) string {
	if v != nil && strings.HasSuffix(v.Blessing.Image.Name, "@"+subject.String()) {
		return v.Blessing.Image.Name
	}
	return subject.String()
}

// nodeAttestation finds what a trusted key says of the files of subject: in the directory of
// --attestations, which may also be the content store of a runtime, or else in the image itself, or
// else beside it in the registry.
func nodeAttestation(c *cli.Context, image string, subject v1.Hash, trust attest.Trust) (*attest.Verified, error) {
	q := locate.Query{Image: v1.Descriptor{Digest: subject}, Trust: trust, FilesOnly: true, Layers: true}
	var places []locate.Place
	if path := c.String("attestations"); path != "" {
		dir := transport.OpenDir(path)
		places = locate.Places(path, dir)
		if manifest, err := dir.Describe(subject); err == nil {
			q.Image = manifest
		} else {
			places = places[:1] // it has no images
		}
	} else {
		src, err := transport.Open(c.Context, image, transport.Options{Insecure: c.Bool("insecure")})
		if err != nil {
			return nil, err
		}
		defer src.Close()
		places = locate.Places("", src)
		if root := src.Root(); root.Digest == subject && root.MediaType.IsImage() {
			q.Image = root
		} else {
			places = places[1:] // an index has no layers
		}
	}
	found, err := locate.First(c.Context, places, q)
	return found.Verified, err
}

// givenSet reads a list and names it by its digest.
func givenSet(list string) (enforce.Set, error) {
	b, err := os.ReadFile(list)
	if err != nil {
		return enforce.Set{}, fmt.Errorf("--files: %w", err)
	}
	set, err := enforce.ParseSet(fmt.Sprintf("%s@sha256:%x", filepath.Base(list), sha256.Sum256(b)), bytes.NewReader(b))
	if err != nil {
		return enforce.Set{}, fmt.Errorf("%s: %w", list, err)
	}
	if len(set.Files) == 0 {
		return enforce.Set{}, fmt.Errorf("%s: lists no file", list)
	}
	return set, nil
}

// listRoot lists what root holds now.
func listRoot(root string) (enforce.Set, error) {
	set := enforce.Set{Name: root + " at " + time.Now().UTC().Format(time.RFC3339), Sizes: true}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		size, err := io.Copy(h, bufio.NewReaderSize(f, 1<<20))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		listed := enforce.File{Path: "/" + strings.TrimPrefix(strings.TrimPrefix(name, filepath.Clean(root)), "/"), Size: uint64(size)}
		h.Sum(listed.SHA256[:0])
		set.Files = append(set.Files, listed)
		return nil
	})
	return set, err
}

// nodeKeys gives the verifier the certificates of --key, unless it has some:
// those of `enforce run` count then, and they must be among them.
func nodeKeys(c *cli.Context, e *enforce.Enforcer) error {
	if trust := enforce.Trust(c.String("trust")); !trust.Signed() {
		return nil
	}
	have, err := e.Keys()
	if err != nil {
		return err
	}
	certs, err := readCertificates(c.StringSlice("key"))
	if err != nil {
		return err
	}
	if len(have) == 0 {
		return e.SetKeys(certs)
	}
	for i, cert := range certs {
		if !slices.ContainsFunc(have, cert.Equal) {
			return fmt.Errorf("%s is not among the keys of the verifier\nhint: sbom-bless enforce run --key, or the policy's keys, say which count", c.StringSlice("key")[i])
		}
	}
	return nil
}

func readCertificates(paths []string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, path := range paths {
		cert, err := key.LoadCertificate(path)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

func onOverlay(root string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(root, &st) == nil && st.Type == 0x794c7630 // OVERLAYFS_SUPER_MAGIC
}
