// SPDX-License-Identifier: Apache-2.0

package cli

// enforce: the node side. The one place where a file list becomes trust.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/diagnose"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/node"
	"github.com/sbom-bless/sbom-bless/policy"
)

const enforceUsage = `Loads eBPF programs into the kernel that let a container execute only the files its
image lists, unmodified. docs/enforce.md has the details and the limits.

   sbom-bless enforce check                                      what this kernel can do
   sbom-bless enforce run --policy /etc/sbom-bless/policy.yaml   watch what containers run, print events
   sbom-bless enforce exec --files app.sha256 -- /opt/app/run    try it on one process tree`

func newEnforce() *cli.Command {
	pins := &cli.StringFlag{Name: "pins", Value: enforce.DefaultPins, Usage: "directory on a bpffs that keeps the programs in force"}
	state := &cli.StringFlag{Name: "state", Value: enforce.DefaultState, Usage: "directory on a tmpfs for names and file lists"}
	output := &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"}
	trust := &cli.StringFlag{Name: "trust", Value: string(enforce.TrustSBOM), Usage: "what makes a file good: sbom (it is listed), keyring (the kernel verifies its signature), both"}
	rules := func() []cli.Flag {
		return append([]cli.Flag{trust,
			&cli.StringFlag{Name: "files", Usage: "file list, trusted as it is: lines \"sha256  path\" as sha256sum prints them"},
			&cli.StringFlag{Name: "image", Usage: "image with its digest, NAME@sha256:…: take the list from its attestation"},
			&cli.StringSliceFlag{Name: "key", Usage: "trusted key of the attestation: public key or certificate file, KMS or pkcs11: URI; repeatable"},
			&cli.StringFlag{Name: "attestations", Aliases: []string{"image-attestation"}, Usage: "look for the attestation in this directory first, and not beside the image; without --image, take that of the one image it has"},
			&cli.BoolFlag{Name: "insecure", Usage: "talk to registries by plain http, or by https without a valid certificate"},
			&cli.StringFlag{Name: "name", Usage: "name of the container in events"},
			&cli.BoolFlag{Name: "audit", Usage: "report what would be denied, deny nothing"},
			&cli.BoolFlag{Name: "jit", Usage: "allow executable memory that was written to: just-in-time compilers, executable stacks"},
			&cli.BoolFlag{Name: "soft", Usage: "accept listed files of the writable layer while nobody writes to them"},
			&cli.BoolFlag{Name: "interpreters", Usage: "also judge opening of *.py, *.sh, *.js and so on (overlay only)"},
			&cli.BoolFlag{Name: "guard-all", Usage: "guard every file of the image against change, not code alone"},
			&cli.BoolFlag{Name: "devices", Usage: "allow block devices to be opened for writing"},
			&cli.StringFlag{Name: "max-size", Value: "1G", Usage: "deny larger files: bytes, or 512K, 64M, 2G; unlimited denies none for its size"},
			&cli.StringSliceFlag{Name: "join", Usage: "image with its digest, NAME@sha256:…, whose attested list counts too; repeatable"},
			&cli.StringSliceFlag{Name: "mount", Usage: "directory, as the container sees it, on another filesystem that listed files may run from; repeatable"},
		}, identityFlags()...)
	}
	command := &cli.Command{
		Name:        "enforce",
		Usage:       "let the kernel execute only what an image lists",
		ArgsUsage:   "COMMAND",
		Description: enforceUsage,
		Action:      oneOf("sbom-bless enforce", cli.ShowSubcommandHelp),
		Subcommands: []*cli.Command{
			{Name: "check", Usage: "what this kernel can do, one line per ability; exit code 3 when it cannot enforce",
				Flags:  []cli.Flag{output, trust, &cli.StringFlag{Name: "policy", Usage: "also check this policy file, and whether this kernel can enforce it"}},
				Action: enforceCheck},
			{Name: "run", Usage: "load the verifier, or adopt the one in force, and print its events as JSON lines",
				Flags: append([]cli.Flag{pins, state,
					&cli.DurationFlag{Name: "canary", Value: time.Minute, Usage: "how often to prove that the verifier is in force"},
					&cli.StringSliceFlag{Name: "key", Usage: "certificate whose signatures count in trust modes keyring and both; repeatable"},
					&cli.BoolFlag{Name: "denials", Usage: "print only what was, or would have been, denied"},
					&cli.BoolFlag{Name: "wait-when-unfit", Usage: "if this node cannot enforce, say why and do nothing until a signal comes, where otherwise it is an error"}}, agentFlags()...),
				Action: enforceRun},
			{Name: "exec", Usage: "run a command under a file list", ArgsUsage: "[--image IMAGE --key KEY | --image-attestation DIR --key KEY | --files LIST | --root DIR] -- COMMAND [ARGUMENT...]",
				Flags: append([]cli.Flag{pins, state,
					&cli.StringFlag{Name: "root", Usage: "root filesystem for the command; without a list, every file in it now is listed"}}, rules()...),
				Action: enforceExec},
			{Name: "add", Usage: "put a running container under a file list", ArgsUsage: "--pid PID [--image IMAGE --key KEY | --image-attestation DIR --key KEY | --files LIST]",
				Flags:  append([]cli.Flag{pins, state, &cli.IntFlag{Name: "pid", DefaultText: "none", Usage: "a process of the container"}}, rules()...),
				Action: enforceAdd},
			{Name: "status", Usage: "what is loaded: containers, counters", Flags: []cli.Flag{pins, state, output}, Action: enforceStatus},
			{Name: "unload", Usage: "take the verifier away: nothing is denied from then on", Flags: []cli.Flag{pins, state}, Action: enforceUnload},
		},
	}
	command.Subcommands = append(command.Subcommands, agentCommands(state)...)
	return command
}

func enforceOptions(c *cli.Context) enforce.Options {
	return enforce.Options{Pins: c.String("pins"), State: c.String("state")}
}

// openVerifier opens the one in force.
func openVerifier(c *cli.Context) (*enforce.Enforcer, error) {
	e, err := enforce.Open(enforceOptions(c))
	if errors.Is(err, enforce.ErrNotLoaded) {
		err = fmt.Errorf("%w\nhint: `sbom-bless enforce run` loads it; --pins says where it is, if not there", err)
	}
	return e, err
}

// checked is what check says, in JSON.
type checked struct {
	Abilities []enforce.Ability `json:"abilities"`
	// Trust has for each mode what keeps it from being enforced, "" if nothing.
	Trust map[enforce.Trust]string `json:"trust"`
}

var modes = []enforce.Trust{enforce.TrustSBOM, enforce.TrustKeyring, enforce.TrustBoth}

func trustModes(abilities []enforce.Ability) map[enforce.Trust]string {
	trust := map[enforce.Trust]string{}
	for _, mode := range modes {
		trust[mode] = ""
		if err := enforce.Supports(abilities, mode); err != nil {
			trust[mode] = err.Error()
		}
	}
	return trust
}

func enforceCheck(c *cli.Context) error {
	asked, err := enforce.ParseTrust(c.String("trust"))
	if err != nil {
		return usagef("%v", err)
	}
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	var p *policy.Policy
	if file := c.String("policy"); file != "" {
		if p, err = readPolicy(c.Context, file); err != nil {
			return err
		}
	}
	said := checked{Abilities: enforce.Probe()}
	said.Trust = trustModes(said.Abilities)
	if asJSON {
		if err := json.NewEncoder(c.App.Writer).Encode(said); err != nil {
			return err
		}
	} else {
		writeAbilities(c.App.Writer, said)
	}
	if p != nil {
		err := supportsPolicy(said.Abilities, p)
		if errors.Is(err, enforce.ErrNotSupported) {
			return fmt.Errorf("%w: %s: %w", errWrong, c.String("policy"), err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "%s is right, and this kernel can enforce it\n", c.String("policy"))
		return nil
	}
	err = enforce.Supports(said.Abilities, asked)
	if errors.Is(err, enforce.ErrNotSupported) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	return err
}

func writeAbilities(w io.Writer, said checked) {
	answer := func(ok, unknown bool) string {
		switch {
		case ok:
			return "yes"
		case unknown:
			return "?"
		}
		return "no"
	}
	for _, a := range said.Abilities {
		fmt.Fprintf(w, "%-4s %-24s %s\n", answer(a.OK, a.Unknown), a.Name, a.Consequence)
		if a.Error != "" {
			fmt.Fprintf(w, "%-4s %-24s (%s)\n", "", "", a.Error)
		}
	}
	for _, mode := range modes {
		err := enforce.Supports(said.Abilities, mode)
		fmt.Fprintf(w, "%-4s trust %s\n", answer(err == nil, !errors.Is(err, enforce.ErrNotSupported)), mode)
	}
}

// enforceRun is runVerifier, and what becomes of a node that cannot enforce.
func enforceRun(c *cli.Context) error {
	err := runVerifier(c)
	if !c.Bool("wait-when-unfit") || !errors.Is(err, enforce.ErrNotSupported) {
		return err
	}
	// Who would start it again, as a kubelet does, changes nothing: a boot does.
	fmt.Fprintln(c.App.ErrWriter, "sbom-bless:", err)
	why, hint, _ := strings.Cut(err.Error(), "\nhint: ")
	if hint != "" {
		why += "; hint: " + hint
	}
	newEventStream(c.App.Writer, false).notice(node.Notice{
		Time: time.Now().UTC(), Operation: "verifier", Action: "unfit",
		Message: "unfit: this node cannot enforce, and this agent watches no container: " + why,
	})
	serveMetrics(c.Context, c, node.NewMetrics(version()))
	<-c.Context.Done()
	return nil
}

// runVerifier holds no power of its own: what it loads stays in force when it
// ends, by whatever signal.
func runVerifier(c *cli.Context) error {
	if c.Bool("follow-policy") && c.String("policy") == "" {
		return usagef("--follow-policy goes with --policy")
	}
	if err := checkMetrics(c); err != nil {
		return err
	}
	if every := c.Duration("canary"); every <= 0 {
		return usagef("--canary %s: a time above zero", every)
	}
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && c.Duration("canary") > time.Duration(usec)*time.Microsecond/2 {
		return usagef("--canary %s: systemd waits %s for each (WatchdogSec= of the unit)\nhint: at most half of that", c.Duration("canary"), time.Duration(usec)*time.Microsecond)
	}
	if c.String("policy") != "" {
		lock, err := node.Lock(c.String("state"))
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	o := enforceOptions(c)
	if c.String("policy") != "" {
		o.Guard = []string{c.String("policy"), filepath.Dir(c.String("policy")), filepath.Dir(c.String("break-glass")), c.String("store")}
	}
	o.Guard = append(o.Guard, localFiles(c.StringSlice("key"))...)
	kept, err := takeFromSystemd()
	if err != nil {
		return err
	}
	o.Kept = kept
	e, err := enforce.Load(o)
	if err = errors.Join(err, kept.Close()); err != nil {
		return err
	}
	defer e.Close()
	err = keepInForce(c, e)
	if released, failed := e.Released(); failed == nil && released { // what failed by that is no failure
		fmt.Fprintln(c.App.ErrWriter, "the verifier was unloaded")
		return dropFromSystemd()
	}
	return err
}

// keepInForce looks after a verifier that is loaded, and reports what it denies, until a signal
// comes or somebody unloads it.
func keepInForce(c *cli.Context, e *enforce.Enforcer) (err error) {
	if err := leaveWithSystemd(e); err != nil {
		return err
	}
	if keys := c.StringSlice("key"); len(keys) > 0 {
		certs, err := readCertificates(keys)
		if err != nil {
			return err
		}
		if err := e.SetKeys(certs); err != nil {
			return err
		}
	}
	if err := e.Canary(); err != nil {
		return err
	}
	what := "loaded"
	if e.Adopted {
		what = "adopted"
	}
	fmt.Fprintf(c.App.ErrWriter, "verifier %s at %s\n", what, c.String("pins"))
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	out := newEventStream(c.App.Writer, c.Bool("denials"))
	if c.String("policy") != "" {
		out.agent, err = startAgent(ctx, c, e, out.notice)
		if err != nil {
			return err
		}
		wait, err := serveAgent(ctx, c, out.agent, func(err error) { fmt.Fprintln(c.App.ErrWriter, "sbom-bless:", err) })
		if err != nil {
			return err
		}
		defer wait()
		defer cancel()
	}
	if e.Restored {
		out.notice(restored(c.String("pins")))
	}
	failed := make(chan error, 1)
	go func() { failed <- e.Events(time.Time{}, out.event) }()
	if err := notifySystemd("READY=1"); err != nil {
		return err
	}
	tick := time.NewTicker(c.Duration("canary"))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(c.App.ErrWriter, "the verifier stays in force; `sbom-bless enforce unload` takes it away")
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
			err := lookAfter(e, out, c.String("pins"))
			released, failed := e.Released()
			if err = errors.Join(err, failed); err != nil || released {
				return err
			}
		}
	}
}

// lookAfter proves that the verifier is in force, and puts its pins back where they went.
func lookAfter(e *enforce.Enforcer, out *eventStream, pins string) error {
	back, err := e.Restore()
	if back {
		out.notice(restored(pins))
		err = errors.Join(err, leaveWithSystemd(e))
	}
	return errors.Join(err, e.Canary(), e.Sweep(), notifySystemd("WATCHDOG=1"))
}

// restored says that the pins were out of sight.
func restored(pins string) node.Notice {
	return node.Notice{
		Time: time.Now().UTC(), Operation: "pins", Action: "restored", Reason: "self", Path: pins,
		Message: "restored: pins: " + pins + " was out of sight; the verifier stayed in force, and its pins are back",
	}
}

// eventStream writes what the verifier and the agent report, a line each.
type eventStream struct {
	mu      sync.Mutex
	out     *json.Encoder
	denials bool
	agent   *node.Agent // nil without a policy
}

// newEventStream has a reader that goes be an error. The signal that it is otherwise would
// end the process, which systemd takes for a clean end.
func newEventStream(w io.Writer, denials bool) *eventStream {
	signal.Ignore(syscall.SIGPIPE)
	return &eventStream{out: json.NewEncoder(w), denials: denials}
}

func (s *eventStream) event(e enforce.Event) error {
	if e.Image == enforce.CanarySet {
		return nil
	}
	r := diagnose.Record{Event: e}
	wanted := true
	if s.agent != nil {
		r, wanted = s.agent.Event(e)
	}
	if !wanted && e.Reason != "self" || s.denials && e.Action == "allowed" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Encode(r)
}

// notice writes what the agent has to say. Who reads events learns of a closed
// pipe from those of the verifier.
func (s *eventStream) notice(n node.Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Encode(n)
}

func enforceRules(c *cli.Context) (enforce.Rules, error) {
	maxSize, ok := policy.ParseSize(c.String("max-size"))
	if !ok {
		return enforce.Rules{}, usagef("--max-size %s: write %s", c.String("max-size"), policy.SizeForm)
	}
	return enforce.Rules{
		Trust: enforce.Trust(c.String("trust")), Enforce: !c.Bool("audit"), JIT: c.Bool("jit"), Soft: c.Bool("soft"),
		Interpreters: c.Bool("interpreters"), Mounts: c.StringSlice("mount"),
		GuardAll: c.Bool("guard-all"), Devices: c.Bool("devices"), MaxSize: maxSize,
	}, nil
}

// enforceExec becomes the command: the cgroup it joins is the domain's, and
// the label comes at the execve.
func enforceExec(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef("exec takes a command\nhint: sbom-bless enforce exec --files list.sha256 -- /bin/sh")
	}
	root := c.String("root")
	rules, err := enforceRules(c)
	if err != nil {
		return err
	}
	set, err := enforceSet(c, root)
	if err != nil {
		return err
	}
	if root == "" {
		root = "/"
	}
	e, err := enforce.Open(enforceOptions(c))
	if errors.Is(err, enforce.ErrNotLoaded) {
		e, err = enforce.Load(enforceOptions(c))
	}
	if err != nil {
		return err
	}
	if err := nodeKeys(c, e); err != nil {
		return err
	}
	name := c.String("name")
	if name == "" {
		name = fmt.Sprintf("exec-%d", os.Getpid())
	}
	cgroup, err := enforce.NewCgroup(name)
	if err != nil {
		return err
	}
	d := enforce.Domain{Name: name, Cgroup: cgroup, Root: root, Rules: rules}
	if !onOverlay(root) {
		d.Soft = true // digests alone: nothing tells image files from others
	}
	if _, err := e.Add(d, set); err != nil {
		return err
	}
	if err := e.Close(); err != nil {
		return err
	}
	if err := enforce.JoinCgroup(cgroup); err != nil {
		return err
	}
	if root != "/" {
		if err := errors.Join(syscall.Chroot(root), os.Chdir("/")); err != nil {
			return fmt.Errorf("%s: %w", root, err)
		}
	}
	program, err := exec.LookPath(c.Args().First())
	if err != nil {
		return err
	}
	if err := syscall.Exec(program, c.Args().Slice(), os.Environ()); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

func enforceAdd(c *cli.Context) error {
	pid := c.Int("pid")
	if pid == 0 || c.NArg() > 0 {
		return usagef("add takes --pid and a list\nhint: sbom-bless enforce add --pid 4711 --image registry.example/app@sha256:… --key bless.crt")
	}
	rules, err := enforceRules(c)
	if err != nil {
		return err
	}
	set, err := enforceSet(c, "")
	if err != nil {
		return err
	}
	e, err := openVerifier(c)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := nodeKeys(c, e); err != nil {
		return err
	}
	cgroup, err := enforce.CgroupOf(pid)
	if err != nil {
		return err
	}
	name := c.String("name")
	if name == "" {
		name = filepath.Base(cgroup)
	}
	_, err = e.Add(enforce.Domain{Name: name, Cgroup: cgroup, Root: fmt.Sprintf("/proc/%d/root", pid), Rules: rules}, set)
	return err
}

// standing is what `enforce status` says, in JSON.
type standing struct {
	Pins       string                   `json:"pins"`
	Ahead      bool                     `json:"hashedAhead"` // by the agent, before a container starts
	Canary     *enforce.Proof           `json:"canary"`
	Keys       []string                 `json:"keys"`
	Trust      map[enforce.Trust]string `json:"trust"` // as in checked
	Containers []standingContainer      `json:"containers"`
	Counters   map[string]uint64        `json:"counters"`
}

type standingContainer struct {
	enforce.Domain
	*node.Confinement // nil while it runs nothing
}

func enforceStatus(c *cli.Context) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	e, err := openVerifier(c)
	if err != nil {
		return err
	}
	defer e.Close()
	s := standing{Pins: c.String("pins"), Trust: trustModes(enforce.Probe())}
	if s.Ahead, err = e.HashedAhead(); err != nil {
		return err
	}
	if s.Counters, err = e.Counters(); err != nil {
		return err
	}
	domains, err := e.Domains()
	if err != nil {
		return err
	}
	for _, d := range domains {
		s.Containers = append(s.Containers, standingContainer{d, node.ConfinementOf(d.Cgroup)})
	}
	if s.Canary, err = e.LastProof(); err != nil {
		return err
	}
	keys, err := e.Keys()
	if err != nil {
		return err
	}
	for _, cert := range keys {
		s.Keys = append(s.Keys, fmt.Sprintf("%x", cert.SubjectKeyId[max(0, len(cert.SubjectKeyId)-4):]))
	}
	if asJSON {
		return json.NewEncoder(c.App.Writer).Encode(s)
	}
	writeStatus(c.App.Writer, &s)
	return nil
}

func writeStatus(w io.Writer, s *standing) {
	fmt.Fprintf(w, "verifier  %s\n", s.Pins)
	switch {
	case s.Canary == nil:
		fmt.Fprintln(w, "canary    none yet")
	case s.Canary.Error != "":
		fmt.Fprintf(w, "canary    %s: %s\n", s.Canary.Time.Format(time.RFC3339), s.Canary.Error)
	default:
		fmt.Fprintf(w, "canary    %s: in force\n", s.Canary.Time.Format(time.RFC3339))
	}
	digests := "by the kernel, when a file is used"
	if s.Ahead {
		digests = "by the agent, before a container starts"
	}
	fmt.Fprintf(w, "digests   %s\n", digests)
	for _, mode := range modes {
		why := s.Trust[mode]
		if why == "" {
			why = "yes"
		}
		fmt.Fprintf(w, "trust     %-8s %s\n", mode, why)
	}
	fmt.Fprintf(w, "keys      %s\n", strings.Join(s.Keys, " "))
	for _, d := range s.Containers {
		mode := "audit"
		switch {
		case d.Closed:
			mode = "closed"
		case d.Exempt:
			mode = "exempt"
		case d.Enforce:
			mode = "enforce"
		}
		trust := d.Trust
		if trust == "" {
			trust = enforce.TrustSBOM
		}
		seccomp := "" // it runs nothing
		if d.Confinement != nil {
			seccomp = "  seccomp " + d.Seccomp
		}
		fmt.Fprintf(w, "%-8s  %-7s %s  %s  %s%s\n", mode, trust, d.Name, d.Image, d.Cgroup, seccomp)
	}
	for _, name := range enforce.CounterNames() {
		if n := s.Counters[name]; n > 0 {
			fmt.Fprintf(w, "%-16s %d\n", name, n)
		}
	}
}

func enforceUnload(c *cli.Context) error {
	e, err := openVerifier(c)
	if err != nil {
		return err
	}
	return errors.Join(e.Unload(), node.Forget(c.String("state")), e.Close())
}
