// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sbom-bless/sbom-bless/internal/refname"
)

// Place is one of the kinds of places an image can be in. Its value is the
// prefix that containers-transports(5) gives it, without the colon.
type Place string

// The places.
const (
	Registry      Place = "docker"
	Daemon        Place = "docker-daemon"
	DockerArchive Place = "docker-archive"
	Layout        Place = "oci"
	OCIArchive    Place = "oci-archive"
)

// PlaceOf is the place that a reference names.
func PlaceOf(ref string) Place {
	if prefix, _, found := strings.Cut(ref, ":"); found {
		switch p := Place(prefix); p {
		case Daemon, DockerArchive, Layout, OCIArchive:
			return p
		}
	}
	return Registry
}

// Repository is a reference of a registry without tag and digest, spelled as ref spells it. Other
// places have no names that mean something elsewhere: of theirs it is empty.
func Repository(ref string) string {
	if PlaceOf(ref) != Registry {
		return ""
	}
	return refname.Repository(strings.TrimPrefix(ref, "docker://"))
}

// reference is a parsed image reference.
type reference struct {
	place  Place
	path   string         // file or directory, where the place has one
	tag    string         // OCI: org.opencontainers.image.ref.name; may be empty
	digest v1.Hash        // OCI, daemon: a digest instead of a tag; may be zero
	name   name.Reference // registry, and Docker's places; nil if none was given
}

// String gives the reference as it is written on the command line.
func (r reference) String() string {
	switch r.place {
	case Registry:
		return fullName(r.name)
	case Daemon:
		if r.name == nil {
			return "docker-daemon:" + r.digest.String()
		}
		return "docker-daemon:" + familiar(r.name)
	}
	s := string(r.place) + ":" + r.path
	switch {
	case r.digest != v1.Hash{}:
		return s + "@" + r.digest.String()
	case r.name != nil:
		return s + ":" + familiar(r.name)
	case r.tag != "":
		return s + ":" + r.tag
	}
	return s
}

// parseReference understands what the package documentation lists: what has none
// of the prefixes is a registry reference.
func parseReference(s string, insecure bool) (reference, error) {
	r, err := parsePlace(s, insecure)
	if err != nil {
		return reference{}, fmt.Errorf("reference %q: %w", s, err)
	}
	return r, nil
}

func parsePlace(s string, insecure bool) (reference, error) {
	if s == "" {
		return reference{}, errors.New("is empty\nhint: registry.example/app:1, oci:DIR, oci-archive:FILE, docker-archive:FILE or docker-daemon:NAME")
	}
	prefix, rest, found := strings.Cut(s, ":")
	if !found {
		prefix = ""
	}
	switch Place(prefix) {
	case Registry:
		if after, ok := strings.CutPrefix(rest, "//"); ok {
			return parseRegistry(after, insecure)
		}
	case Daemon:
		return parseDaemon(rest)
	case DockerArchive:
		return parseDockerArchive(rest)
	case Layout, OCIArchive:
		return parseOCI(Place(prefix), rest)
	}
	switch prefix {
	case "oci-dir", "oci-layout":
		return reference{}, fmt.Errorf("unknown place\nhint: oci:%s", rest)
	case "dir", "containers-storage", "podman", "sif", "ostree", "registry":
		return reference{}, errors.New("unknown place\nhint: the places are docker://, docker-daemon:, docker-archive:, oci-archive: and oci:DIR")
	case "http", "https":
		if strings.HasPrefix(rest, "//") {
			return reference{}, fmt.Errorf("is a URL\nhint: write %s", strings.TrimPrefix(rest, "//"))
		}
	}
	return parseRegistry(s, insecure)
}

func parseRegistry(s string, insecure bool) (reference, error) {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "/") {
		return reference{}, fmt.Errorf("is a path, not an image\nhint: oci:%s for a layout, docker-archive:%s for the file of docker save", s, s)
	}
	n, err := parseName(s, insecure)
	return reference{place: Registry, name: n}, err
}

// parseName parses a Docker reference; without tag it means "latest". A tag
// beside a digest is ignored, as the digest decides.
func parseName(s string, insecure bool) (name.Reference, error) {
	opts := []name.Option{name.WeakValidation}
	if insecure {
		opts = append(opts, name.Insecure)
	}
	n, err := name.ParseReference(s, opts...)
	if err != nil && strings.ToLower(s) != s {
		return nil, fmt.Errorf("%w\nhint: repository names are lower case", err)
	}
	return n, err
}

var digestPattern = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

func parseDigest(s string) (v1.Hash, error) {
	if !digestPattern.MatchString(s) {
		return v1.Hash{}, fmt.Errorf("digest %q is not sha256: and 64, or sha512: and 128 lower case hexadecimal digits", s)
	}
	return v1.NewHash(s)
}

func parseDaemon(s string) (reference, error) {
	if s == "" {
		return reference{}, errors.New("names no image\nhint: docker-daemon:app:1")
	}
	if digestPattern.MatchString(s) {
		h, err := v1.NewHash(s)
		return reference{place: Daemon, digest: h}, err
	}
	n, err := parseName(s, false)
	return reference{place: Daemon, name: n}, err
}

func parseDockerArchive(s string) (reference, error) {
	path, ref, found := strings.Cut(s, ":")
	if path == "" {
		return reference{}, errors.New("names no file\nhint: docker-archive:app.tar or docker-archive:app.tar:app:1")
	}
	r := reference{place: DockerArchive, path: path}
	if !found {
		return r, nil
	}
	n, err := parseName(ref, false)
	if err != nil {
		return reference{}, err
	}
	if _, ok := n.(name.Tag); !ok {
		return reference{}, errors.New("an archive of docker save names images by tag, not by digest")
	}
	r.name = n
	return r, nil
}

// tagPattern is the grammar of org.opencontainers.image.ref.name in the OCI
// image specification 1.1, annotations.md.
var tagPattern = regexp.MustCompile(`^[A-Za-z0-9]+([-._:@/+]|--|[A-Za-z0-9])*$`)

func parseOCI(p Place, s string) (reference, error) {
	r := reference{place: p, path: s}
	if i := strings.LastIndex(s, "@"); i >= 0 && strings.HasPrefix(s[i:], "@sha") {
		h, err := parseDigest(s[i+1:])
		if err != nil {
			return reference{}, err
		}
		r.path, r.digest = s[:i], h
		if path, tag, _ := strings.Cut(r.path, ":"); tag != "" {
			return reference{}, fmt.Errorf("has a tag and a digest\nhint: %s:%s@%s", p, path, h)
		}
	} else if path, tag, found := strings.Cut(s, ":"); found {
		if !tagPattern.MatchString(tag) {
			return reference{}, fmt.Errorf("%q is not a tag\nhint: %s:PATH:TAG, and PATH has no colon", tag, p)
		}
		r.path, r.tag = path, tag
	}
	r.path = strings.TrimSuffix(r.path, ":")
	if r.path == "" {
		return reference{}, fmt.Errorf("names no path\nhint: %s:PATH or %s:PATH:TAG", p, p)
	}
	return r, nil
}

// fullName is the name every tool understands alike: Docker Hub is docker.io.
func fullName(n name.Reference) string {
	if d, ok := n.(name.Digest); ok {
		return repository(n.Context()) + "@" + d.DigestStr()
	}
	return repository(n.Context()) + ":" + n.Identifier()
}

func repository(r name.Repository) string {
	if r.RegistryStr() == name.DefaultRegistry {
		return "docker.io/" + r.RepositoryStr()
	}
	return r.Name()
}

// familiar is the name people write: docker.io/library/ goes without saying.
func familiar(n name.Reference) string {
	if n == nil {
		return ""
	}
	s := fullName(n)
	if rest, ok := strings.CutPrefix(s, "docker.io/"); ok {
		return strings.TrimPrefix(rest, "library/")
	}
	return s
}
