// SPDX-License-Identifier: Apache-2.0

//go:build linux

package enforce

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/xattr"
)

// Ability is one thing that a kernel can or cannot do, found out by doing it where that can be.
type Ability struct {
	Name string `json:"name"`
	// OK: it can.
	OK bool `json:"ok"`
	// Unknown: whether it can was not found out, for the reason in Error. OK is false then.
	Unknown bool `json:"unknown,omitempty"`
	// Required: without it nothing can be enforced.
	Required bool `json:"required"`
	// Signed: trust modes keyring and both need it.
	Signed bool `json:"signed"`
	// Consequence says what follows; where it is missing, what to change.
	Consequence string `json:"consequence"`
	// Error says why it could not, or how the question failed.
	Error string `json:"error,omitempty"`
}

// Names of abilities without which the agent computes digests.
const (
	staleHashes = "fresh file hashes"
	otherHashes = "SHA-256 file hashes"
)

// Probe tries what the verifier needs and what it can use. It leaves nothing
// loaded.
func Probe() []Ability {
	lsm, hash := tryHooks()
	is := func(err error) func() error { return func() error { return err } }
	probes := []struct {
		name, with, without string
		required, signed    bool
		try                 func() error
	}{
		{"programs never skipped", "what programs have to judge is judged",
			"boot Linux 6.1.54 or later", true, false, checkSkips},
		{"kernel type information", "programs fit this kernel",
			"boot a kernel with CONFIG_DEBUG_INFO_BTF", true, false, probeBTF},
		{"BPF LSM", "programs can deny",
			"add bpf to the lsm= list of the kernel command line", true, false, is(lsm)},
		{staleHashes, "IMA has no rule for files, whose hashes could be stale",
			"boot without IMA rules for files", false, true, checkIMA},
		{otherHashes, "the kernel computes the digest of a file when it is used",
			"boot with ima_hash=sha256", false, true, is(hash)},
		{"cgroup v2", "containers are told apart",
			"boot with systemd.unified_cgroup_hierarchy=1", true, false, probeCgroup},
		{"programs load", "trust mode sbom can be enforced",
			"report this with the output of uname -a", true, false, probeLoad},
		{"bpffs", "what is loaded outlives the agent",
			"mount -t bpf bpf /sys/fs/bpf", true, false, func() error { return onBPFFS("/sys/fs/bpf") }},
		{"signed files", "trust modes keyring and both can be enforced",
			"use trust mode sbom, or a kernel from 6.13 on", false, true, canVerify},
		{"ECDSA certificates", "the kernel's keyrings take the keys that keygen makes by default",
			"trust modes keyring and both, and the kernel's own IMA, need RSA keys here", false, false, probeECDSA},
		{"overlayfs", "files of the image are told from those written later",
			"load the module overlay", false, false, probeOverlay},
		{"layout of overlayfs", "files of the image are guarded below the overlay, too",
			"load the module overlay before the agent starts; CONFIG_DEBUG_INFO_BTF_MODULES describes it", false, false, probeLayout},
	}
	var out []Ability
	for _, p := range probes {
		a := Ability{Name: p.name, OK: true, Required: p.required, Signed: p.signed, Consequence: p.with}
		if err := p.try(); err != nil {
			message, hint, hinted := strings.Cut(err.Error(), "\nhint: ")
			// The library that loads programs takes a lack of permission for a lack of ability.
			root := os.Geteuid() == 0
			a.OK, a.Unknown, a.Consequence = false, !certain(err) || !root, p.without
			switch {
			case !root:
				a.Consequence = "try as root"
			case hinted:
				a.Consequence = hint
			case a.Unknown:
				a.Consequence = "could not be tried"
			}
			if p.name == staleHashes || p.name == otherHashes {
				if a.Unknown { // so is who has to hash, and Load refuses to guess
					a.Required = true
				} else {
					a.Consequence = "digests are computed before a container starts, and trust modes keyring and both cannot be enforced; else " + a.Consequence
				}
			}
			a.Error, _, _ = strings.Cut(message, "\n")
		}
		out = append(out, a)
	}
	return out
}

// certain tells an answer from a question that failed.
func certain(err error) bool {
	var refused *ebpf.VerifierError
	return errors.Is(err, ErrNotSupported) || errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, btf.ErrNotFound) || errors.As(err, &refused)
}

// Supports tells what keeps trust mode t from being enforced where the
// abilities are; nil: nothing does. The error is no ErrNotSupported when all
// that it names is unknown.
func Supports(abilities []Ability, t Trust) error {
	var missing []string
	unknown := true
	for _, a := range abilities {
		if !a.OK && (a.Required || a.Signed && t.Signed()) {
			missing = append(missing, a.Name+": "+a.Consequence)
			unknown = unknown && a.Unknown
		}
	}
	switch {
	case missing == nil:
		return nil
	case unknown:
		return fmt.Errorf("trust %s: could not be tried: %s", t, strings.Join(missing, "; "))
	}
	return fmt.Errorf("trust %s: %w: %s", t, ErrNotSupported, strings.Join(missing, "; "))
}

func probeBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}

func probeCgroup() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		return err
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("/sys/fs/cgroup is not cgroup2: %w", ErrNotSupported)
	}
	return nil
}

// probeLoad attaches every program, without any domain, and detaches it.
func probeLoad() error {
	loads, _ := tryVerifier()
	return loads
}

// canVerify has a kernel verify a file that a key of this process signed, and
// refuse one that it did not.
func canVerify() error {
	_, verifies := tryVerifier()
	return verifies
}

func probeLayout() error {
	spec, err := loadBless()
	if err != nil {
		return err
	}
	return setOverlay(spec)
}

func probeOverlay() error {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(b)), "overlay") {
		return fmt.Errorf("no overlay in /proc/filesystems: %w", ErrNotSupported)
	}
	return nil
}

// tryVerifier loads the verifier for the two above, once: the kernel takes a while to check it.
var tryVerifier = sync.OnceValues(func() (loads, verifies error) {
	e, err := load(Options{})
	if err != nil {
		return err, err
	}
	ahead, err := fit()
	switch {
	case err != nil:
		verifies = err
	case ahead:
		verifies = fmt.Errorf("the kernel gives no digest of a file when it is used: %w", ErrNotSupported)
	default:
		verifies = e.tryKeyring()
	}
	return e.Close(), verifies
})

// tryKeyring has a canary whose good program is signed, and not listed.
func (e *Enforcer) tryKeyring() (err error) {
	signer, cert, err := newKey(elliptic.P256())
	if errors.Is(probeECDSA(), ErrNotSupported) {
		signer, cert, err = newKey(nil)
	}
	if err != nil {
		return err
	}
	if err := e.SetKeys([]*x509.Certificate{cert}); err != nil {
		return err
	}
	defer func() { err = errors.Join(e.dropKeys(), err) }()
	sum := sha256.Sum256(tiny())
	signature, err := signer.Bless(xattr.Digest{Hash: xattr.SHA256, Sum: sum[:]})
	if err != nil {
		return err
	}
	c, err := e.newCanary(TrustKeyring, signature)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.removeCanary(c)) }()
	err = c.try()
	counters, failed := e.Counters()
	switch {
	case failed != nil:
		return failed
	case err != nil && counters["not-signed"] > 0:
		return fmt.Errorf("programs cannot read security.bpf.*: %w", ErrNotSupported)
	}
	return err
}

func probeECDSA() error {
	_, cert, err := newKey(elliptic.P256())
	if err != nil {
		return err
	}
	ring, err := newKeyring([]*x509.Certificate{cert})
	if err != nil {
		return err
	}
	return dropKeyring(ring)
}

// newKey makes a key of the curve, of RSA for nil, and its certificate.
func newKey(curve elliptic.Curve) (*xattr.Signer, *x509.Certificate, error) {
	var key crypto.Signer
	var err error
	if curve == nil {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	}
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "probe"}, SubjectKeyId: make([]byte, 20),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if _, err := rand.Read(template.SubjectKeyId); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	signer, err := xattr.NewSigner(key, cert)
	return signer, cert, err
}
