// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v3"
)

// MaxSize is that of the largest policy that is read.
const MaxSize = 1 << 20

// Error is what is wrong with a policy: one thing, at one place.
type Error struct {
	File    string
	Line    int
	Message string
	// Hint says what to write instead.
	Hint string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
	if e.Hint != "" {
		s += "\nhint: " + e.Hint
	}
	return s
}

// Parse reads a policy. Any error is an *Error that names file.
func Parse(file string, b []byte) (*Policy, error) {
	p, err := parse(b)
	var e *Error
	switch {
	case err == nil:
		return p, nil
	case errors.As(err, &e):
		e.File = file
	default:
		e = syntaxError(file, err)
	}
	return nil, e
}

// yamlLine finds the line in an error of the YAML parser.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)`)

func syntaxError(file string, err error) *Error {
	e := &Error{File: file, Line: 1, Message: strings.TrimPrefix(err.Error(), "yaml: "), Hint: "the file is YAML: names, a colon and a space, values"}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if _, err := fmt.Sscan(m[1], &e.Line); err == nil {
			e.Message = m[2]
		}
	}
	return e
}

func parse(b []byte) (*Policy, error) {
	if len(b) > MaxSize {
		return nil, &Error{Line: 1, Message: fmt.Sprintf("%d bytes", len(b)), Hint: fmt.Sprintf("a policy has at most %d", MaxSize)}
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	var document yaml.Node
	if err := d.Decode(&document); err == io.EOF {
		return nil, &Error{Line: 1, Message: "empty", Hint: "the least policy is \"keys: [/etc/sbom-bless/bless.crt]\""}
	} else if err != nil {
		return nil, err
	}
	p := &Policy{WithoutAgent: AnswerAllow, Default: Rules{Mode: Audit, Unblessed: AnswerAudit, Trust: TrustSBOM, MaxSize: DefaultMaxSize}}
	root := document.Content[0]
	fields := map[string]field{
		"keys": each(func(n *yaml.Node) error {
			p.KeyLines = append(p.KeyLines, n.Line)
			return appendText(n, &p.Keys)
		}),
		"identities":    each(func(n *yaml.Node) error { return parseIdentity(n, p) }),
		"trust-root":    text(&p.TrustRoot),
		"attestations":  each(func(n *yaml.Node) error { return parseSource(n, p) }),
		"without-agent": choice(&p.WithoutAgent, AnswerAllow, AnswerDeny),
		// After all others: a match takes what it does not say from the top.
		"matches": each(func(n *yaml.Node) error { return parseMatch(n, p) }),
	}
	maps.Copy(fields, p.Default.fields())
	if err := mapping(root, fields, "matches"); err != nil {
		return nil, err
	}
	if err := p.Default.check(root); err != nil {
		return nil, err
	}
	var more yaml.Node
	if err := d.Decode(&more); err == nil {
		return nil, at(&more, "a second document", "a policy is one")
	} else if err != io.EOF {
		return nil, err
	}
	return p, p.check(root)
}

// check tells whether what the parts ask for is there.
func (p *Policy) check(root *yaml.Node) error {
	if len(p.Attestations) == 0 {
		p.Attestations = []Source{{Kind: Registry}}
	}
	asked := p.Trusts()
	switch {
	case len(asked) > 0 && len(p.Keys) == 0 && len(p.Identities) == 0:
		return at(root, "neither keys nor identities", "say whose attestations count, as in \"keys: [/etc/sbom-bless/bless.crt]\"")
	case len(p.Keys) == 0 && (slices.Contains(asked, TrustKeyring) || slices.Contains(asked, TrustBoth)):
		return at(root, "trust in signatures of files, but no keys", "name the certificates that signed the files in \"keys\"")
	}
	return nil
}

func (r *Rules) fields() map[string]field {
	return map[string]field{
		"mode":         choice(&r.Mode, Audit, Enforce, Ignore),
		"unblessed":    choice(&r.Unblessed, AnswerAllow, AnswerAudit, AnswerDeny),
		"trust":        choice(&r.Trust, TrustSBOM, TrustKeyring, TrustBoth),
		"jit":          boolean(&r.JIT),
		"soft":         boolean(&r.Soft),
		"interpreters": boolean(&r.Interpreters),
		"guard-all":    boolean(&r.GuardAll),
		"devices":      boolean(&r.Devices),
		"max-size":     size(&r.MaxSize),
		"mounts":       replace(&r.Mounts, mountPath),
		"join":         replace(&r.Join, joinedManifest),
		"not-before":   date(&r.NotBefore),
	}
}

// check refuses rules that contradict each other.
func (r *Rules) check(n *yaml.Node) error {
	if r.Unblessed == AnswerDeny && r.Mode == Audit {
		return at(n, "\"unblessed: deny\" with \"mode: audit\", which denies nothing", "say \"mode: enforce\", or \"unblessed: audit\"")
	}
	if !r.NotBefore.IsZero() && r.Trust == TrustKeyring {
		return at(n, "\"not-before\" with \"trust: keyring\", which asks for no attestation and so for no date", "say \"trust: both\"")
	}
	if len(r.Join) > 0 && r.Trust == TrustKeyring {
		return at(n, "\"join\" with \"trust: keyring\", which asks for no list", "say \"trust: both\", or \"join: []\"")
	}
	return nil
}

func parseMatch(n *yaml.Node, p *Policy) error {
	m := Match{Rules: p.Default, Line: n.Line}
	fields := map[string]field{
		"image": glob(&m.Image), "container": glob(&m.Container), "namespace": glob(&m.Namespace), "cgroup": glob(&m.Cgroup),
		"labels":  labels(&m.Labels),
		"digests": replace(&m.Digests, manifestDigest),
	}
	maps.Copy(fields, m.Rules.fields())
	if err := mapping(n, fields); err != nil {
		return err
	}
	if m.Image+m.Container+m.Namespace+m.Cgroup == "" && len(m.Labels) == 0 {
		return at(n, "a match without a condition", "give it image, container, namespace, cgroup or labels; what holds for all else stands at the top of the file")
	}
	p.Matches = append(p.Matches, m)
	return m.check(n)
}

func parseIdentity(n *yaml.Node, p *Policy) error {
	var i Identity
	err := mapping(n, map[string]field{
		"subject": text(&i.Subject), "subject-regexp": expression(&i.SubjectRegexp),
		"issuer": text(&i.Issuer), "issuer-regexp": expression(&i.IssuerRegexp),
	})
	if err == nil && ((i.Subject == "") == (i.SubjectRegexp == "") || (i.Issuer == "") == (i.IssuerRegexp == "")) {
		err = at(n, "an identity is a subject and an issuer", "give one of subject and subject-regexp, and one of issuer and issuer-regexp")
	}
	p.Identities = append(p.Identities, i)
	return err
}

func parseSource(n *yaml.Node, p *Policy) error {
	s := Source{}
	var err error
	if n.Kind == yaml.MappingNode {
		s.Kind = Directory
		err = mapping(n, map[string]field{string(Directory): text(&s.Path)})
		if err == nil && !path.IsAbs(s.Path) {
			err = at(n, fmt.Sprintf("directory %q is no absolute path", s.Path), "write it from the root, as in \"- directory: /var/lib/sbom-bless/attestations\"")
		}
	} else if err = choice(&s.Kind, Embedded, Registry)(n); err != nil {
		err = wrongType(n, "embedded, registry or \"- directory: PATH\"")
	}
	p.Attestations = append(p.Attestations, s)
	return err
}

func mountPath(n *yaml.Node, s string) error {
	if !path.IsAbs(s) || path.Clean(s) != s || s == "/" {
		return at(n, fmt.Sprintf("mount %q", s), "write its path in the container, from the root and without \"..\", as in /data")
	}
	return nil
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func manifestDigest(n *yaml.Node, s string) error {
	if !digestForm.MatchString(s) {
		return at(n, fmt.Sprintf("digest %q", s), "write sha256: and 64 hexadecimal digits, as `sbom-bless bless` prints it")
	}
	return nil
}

// joinedForm is the name of an image with its digest, or the digest alone.
var joinedForm = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9._:/-]*@)?sha256:[0-9a-f]{64}$`)

func joinedManifest(n *yaml.Node, s string) error {
	if !joinedForm.MatchString(s) {
		return at(n, fmt.Sprintf("image %q", s), "write NAME@sha256: and 64 hexadecimal digits, as `sbom-bless bless` prints it")
	}
	return nil
}

func glob(to *string) field {
	return func(n *yaml.Node) error {
		if err := text(to)(n); err != nil {
			return err
		}
		if !doublestar.ValidatePattern(*to) {
			return at(n, fmt.Sprintf("pattern %q", *to), "brackets and braces come in pairs; a backslash before one takes its meaning away")
		}
		return nil
	}
}

func labels(to *map[string]string) field {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.MappingNode {
			return wrongType(n, "names and values")
		}
		*to = map[string]string{}
		for i := 0; i < len(n.Content); i += 2 {
			var name, value string
			if err := text(&name)(n.Content[i]); err != nil {
				return err
			}
			if _, ok := (*to)[name]; ok {
				return at(n.Content[i], fmt.Sprintf("label %s stands twice", name), "keep one")
			}
			if err := glob(&value)(n.Content[i+1]); err != nil {
				return err
			}
			(*to)[name] = value
		}
		return nil
	}
}

func expression(to *string) field {
	return func(n *yaml.Node) error {
		if err := text(to)(n); err != nil {
			return err
		}
		if _, err := regexp.Compile(*to); err != nil {
			return at(n, err.Error(), "the syntax is that of Go, https://pkg.go.dev/regexp/syntax")
		}
		return nil
	}
}

func date(to *time.Time) field {
	return func(n *yaml.Node) error {
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if t, err := time.Parse(layout, n.Value); err == nil && n.Kind == yaml.ScalarNode {
				*to = t
				return nil
			}
		}
		return wrongType(n, "a date, as in 2026-11-25 or 2026-11-25T12:00:00Z")
	}
}
