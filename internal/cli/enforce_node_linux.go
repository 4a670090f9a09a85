// SPDX-License-Identifier: Apache-2.0

package cli

// enforce run --policy, and what speaks to it: hook, reload, confirm, report, why.

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/attest"
	"github.com/sbom-bless/sbom-bless/attest/keyless"
	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/key"
	"github.com/sbom-bless/sbom-bless/node"
	"github.com/sbom-bless/sbom-bless/policy"
)

// Where a node's policy and what it remembers are, unless told otherwise.
const (
	defaultPolicy = "/etc/sbom-bless/policy.yaml"
	defaultGlass  = "/etc/sbom-bless/break-glass"
	defaultStore  = "/var/lib/sbom-bless"
)

// hookPatience is how long the OCI hook waits for the agent. Runtimes have no limit of their own.
const hookPatience = 30 * time.Second

func agentFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "policy", Usage: "policy file: learn of containers from their runtimes, and put each under what it says"},
		&cli.BoolFlag{Name: "follow-policy", Usage: "put the policy file in force whenever it changes: one that is replaced whole, as a ConfigMap's is"},
		&cli.StringFlag{Name: "metrics", Usage: "serve metrics to Prometheus at this address, HOST:PORT, such as 127.0.0.1:9811: whoever reaches it can read them"},
		storeFlag(),
		&cli.StringFlag{Name: "break-glass", Value: defaultGlass, Usage: "while this file is there, nothing is denied"},
		&cli.StringFlag{Name: "containerd", Value: "/run/containerd/containerd.sock", Usage: "socket of containerd"},
		&cli.StringFlag{Name: "nri", Value: "/var/run/nri/nri.sock", Usage: "socket of a runtime's Node Resource Interface"},
		&cli.StringFlag{Name: "storage", Value: node.DefaultStorage, Usage: "graph root of podman and CRI-O"},
	}
}

func storeFlag() cli.Flag {
	return &cli.StringFlag{Name: "store", Value: defaultStore, Usage: "directory for what outlives a boot: attestations fetched, packages that ran"}
}

func agentCommands(state cli.Flag) []*cli.Command {
	return []*cli.Command{
		{Name: "reload", Usage: "put the policy file of the running agent in force, all of it or nothing",
			Flags: []cli.Flag{state, &cli.DurationFlag{Name: "confirm", Usage: "go back to the policy before after this time, unless it is confirmed by then (enforce confirm)", DefaultText: "keep it"}},
			Action: func(c *cli.Context) error {
				if confirm := c.Duration("confirm"); confirm < 0 {
					return usagef("--confirm %s: a time above zero", confirm)
				}
				return node.AskReload(c.Context, c.String("state"), c.Duration("confirm"))
			}},
		{Name: "confirm", Usage: "keep a policy that was reloaded with --confirm", Flags: []cli.Flag{state},
			Action: func(c *cli.Context) error { return node.AskConfirm(c.Context, c.String("state")) }},
		{Name: "hook", Usage: "OCI hook (createRuntime): reads a container's state from standard input, exits with 3 if it must not start",
			Flags: []cli.Flag{state,
				&cli.StringFlag{Name: "policy", Value: defaultPolicy, Usage: "policy that tells what to do while there is no agent, and was none since boot"},
				&cli.StringFlag{Name: "break-glass", Value: defaultGlass, Usage: "while this file is there, nothing is denied"}},
			Action: enforceHook},
		{Name: "report", Usage: "which packages of the images' SBOMs ever ran",
			Flags: []cli.Flag{storeFlag(), &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"},
				&cli.BoolFlag{Name: "unused", Usage: "name the packages that never ran, too"}},
			ArgsUsage: "[IMAGE]", Action: enforceReport},
		newWhy(state),
		newRecommend(),
	}
}

// startAgent makes the agent and puts its policy in force.
func startAgent(ctx context.Context, c *cli.Context, e *enforce.Enforcer, notify func(node.Notice)) (*node.Agent, error) {
	var metrics *node.Metrics
	if c.String("metrics") != "" {
		metrics = node.NewMetrics(version())
	}
	own, err := enforce.CgroupOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	a, err := node.New(node.Options{
		Verifier: e, Policy: c.String("policy"), State: c.String("state"), Store: c.String("store"),
		BreakGlass: c.String("break-glass"), Own: own, Notify: notify, Metrics: metrics,
		Prepare: func(ctx context.Context, p *policy.Policy) (*node.Ready, error) {
			unkept := func(err error) {
				notify(node.Notice{Time: time.Now().UTC(), Operation: "container", Action: "failed", Message: "failed: " + err.Error()})
			}
			return preparePolicy(ctx, p, e, &node.Attested{Store: c.String("store"), Unkept: unkept, Metrics: metrics})
		},
	})
	if err != nil {
		return nil, err
	}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	serveMetrics(ctx, c, metrics)
	return a, nil
}

// serveMetrics serves them until ctx is done, if that is wanted.
func serveMetrics(ctx context.Context, c *cli.Context, m *node.Metrics) {
	if address := c.String("metrics"); address != "" {
		go m.Serve(ctx, address, func(err error) { fmt.Fprintln(c.App.ErrWriter, "sbom-bless:", err) })
	}
}

// checkMetrics refuses an address that nothing can listen on, before anything is loaded.
func checkMetrics(c *cli.Context) error {
	address := c.String("metrics")
	if address == "" {
		return nil
	}
	if c.String("policy") == "" {
		return usagef("--metrics goes with --policy")
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" || net.ParseIP(host) == nil && host != "localhost" {
		return usagef("--metrics %s: an IP address and a port\nhint: --metrics 127.0.0.1:9811; --metrics 0.0.0.0:9811 is for everybody who reaches this node", address)
	}
	return nil
}

// serveAgent brings containers to the agent until ctx is done. SIGHUP reloads its policy. What it
// gives waits for the end.
func serveAgent(ctx context.Context, c *cli.Context, a *node.Agent, failed func(error)) (wait func(), err error) {
	hangup, reload := make(chan os.Signal, 1), make(chan struct{}, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				select {
				case reload <- struct{}{}:
				default: // one is on its way
				}
			}
		}
	}()
	return a.Serve(ctx, node.Config{
		Containerd: c.String("containerd"), NRI: c.String("nri"), Storage: c.String("storage"),
		Reload: reload, Follow: c.Bool("follow-policy"), Failed: failed,
	})
}

// preparePolicy loads what a policy names, and has lists come from there. The kernel must be able to do what it asks.
func preparePolicy(ctx context.Context, p *policy.Policy, e *enforce.Enforcer, lists *node.Attested) (*node.Ready, error) {
	var err error
	if lists.Trust, err = policyTrust(ctx, p); err != nil {
		return nil, err
	}
	lists.Sources = p.Attestations
	ready := &node.Ready{
		Lists: lists.List,
		Use:   func() error { return e.Guard(trustFiles(p)...) },
	}
	if !asksSigned(p) {
		return ready, nil
	}
	certs, err := policyKeys(p, key.LoadCertificate)
	if err != nil {
		return nil, err
	}
	ready.Use = func() error { return errors.Join(e.Guard(trustFiles(p)...), e.SetKeys(certs)) }
	return ready, supportsPolicy(enforce.Probe(), p)
}

// trustFiles are the files that say whom the policy trusts, which may lie anywhere.
func trustFiles(p *policy.Policy) []string {
	return localFiles(append(slices.Clone(p.Keys), p.TrustRoot))
}

// localFiles are those of the references that are paths.
func localFiles(refs []string) []string {
	return slices.DeleteFunc(slices.Clone(refs), func(ref string) bool {
		return ref == "" || strings.Contains(ref, "://") || strings.HasPrefix(ref, "pkcs11:")
	})
}

func asksSigned(p *policy.Policy) bool {
	return slices.ContainsFunc(p.Trusts(), func(t policy.Trust) bool { return enforce.Trust(t).Signed() })
}

// supportsPolicy tells which trust mode of the policy this kernel cannot enforce.
func supportsPolicy(abilities []enforce.Ability, p *policy.Policy) error {
	var errs []error
	for _, t := range p.Trusts() {
		errs = append(errs, enforce.Supports(abilities, enforce.Trust(t)))
	}
	return errors.Join(errs...)
}

// policyTrust is trust in whom the policy names.
func policyTrust(ctx context.Context, p *policy.Policy) (attest.Trust, error) {
	keys, err := policyKeys(p, func(ref string) (crypto.PublicKey, error) { return key.LoadPublic(ctx, ref) })
	if err != nil {
		return attest.Trust{}, err
	}
	trust := attest.Trust{Keys: keys, Delegated: key.DelegatedBy(keys)}
	var verifiers []*keyless.Verifier
	if len(p.Identities) > 0 {
		root, err := keyless.Root(p.TrustRoot)
		if err != nil {
			return trust, err
		}
		for _, i := range p.Identities {
			v, err := keyless.NewVerifier(root, keyless.Identity{
				Issuer: i.Issuer, IssuerRegexp: i.IssuerRegexp, Subject: i.Subject, SubjectRegexp: i.SubjectRegexp,
			})
			if err != nil {
				return trust, err
			}
			verifiers = append(verifiers, v)
		}
		trust.Keyless = func(bundle []byte, subject v1.Hash) error {
			var errs []error
			for _, v := range verifiers {
				err := v.Verify(bundle, subject)
				if err == nil {
					return nil
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}
	}
	return trust, nil
}

// policyKeys loads the keys that a policy names. Errors name the line.
func policyKeys[Key any](p *policy.Policy, load func(ref string) (Key, error)) ([]Key, error) {
	var keys []Key
	for i, ref := range p.Keys {
		k, err := load(ref)
		if errors.Is(err, fs.ErrNotExist) && !strings.Contains(err.Error(), "\nhint: ") {
			err = fmt.Errorf("%w\nhint: \"keys\" names files of this node: put the certificate there that keygen made, or take the line out", err)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", p.KeyLines[i], err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// readPolicy parses a policy file and loads its keys.
func readPolicy(ctx context.Context, file string) (*policy.Policy, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--policy: %w", err)
	}
	p, err := policy.Parse(file, b)
	if err != nil {
		return nil, err
	}
	if _, err := policyTrust(ctx, p); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if asksSigned(p) {
		if _, err := policyKeys(p, key.LoadCertificate); err != nil {
			return nil, fmt.Errorf("%s: trust in signed files takes certificates: %w", file, err)
		}
	}
	return p, nil
}

// enforceHook lets the agent decide. Without one the policy in force does, or, before
// the first agent of this boot, the one in its file.
func enforceHook(c *cli.Context) error {
	var state specs.State
	if err := json.NewDecoder(io.LimitReader(c.App.Reader, 1<<20)).Decode(&state); err != nil {
		return fmt.Errorf("container's state on standard input: %w", err)
	}
	ctx, cancel := context.WithTimeout(c.Context, hookPatience)
	defer cancel()
	err := node.AskHook(ctx, c.String("state"), &state)
	if errors.Is(err, node.ErrRefused) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if err == nil {
		return nil
	}
	if _, glass := os.Lstat(c.String("break-glass")); glass == nil {
		fmt.Fprintf(c.App.ErrWriter, "sbom-bless: container %s starts unwatched, for there is %s: %v\n", state.ID, c.String("break-glass"), err)
		return nil
	}
	deny, unread := withoutAgent(node.PolicyInForce(c.String("state")), c.String("policy"))
	if unread != nil {
		return errors.Join(err, unread)
	}
	if deny {
		return fmt.Errorf("%w: container %s may not start without an agent: %w", errWrong, state.ID, err)
	}
	fmt.Fprintf(c.App.ErrWriter, "sbom-bless: container %s starts unwatched: %v\n", state.ID, err)
	return nil
}

// withoutAgent reads from the first of the policies that is there whether containers must not start.
func withoutAgent(files ...string) (bool, error) {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		p, err := policy.Parse(file, b)
		if err != nil {
			return false, err
		}
		return p.WithoutAgent == policy.AnswerDeny, nil
	}
	return false, nil
}

func enforceReport(c *cli.Context) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	if c.NArg() > 1 {
		return usagef("report takes one IMAGE, or none")
	}
	tally, err := node.OpenTally(c.String("store"))
	if err != nil {
		return err
	}
	images := tally.Images()
	if image := c.Args().First(); image != "" {
		images = slices.DeleteFunc(images, func(i *node.ImageTally) bool { return i.Image != image })
		if len(images) == 0 {
			return fmt.Errorf("no container of %s ran here\nhint: `sbom-bless enforce report` lists those that did", image)
		}
	}
	if len(images) == 0 {
		fmt.Fprintln(c.App.ErrWriter, "no container ran here under an agent that keeps "+c.String("store"))
	}
	if asJSON {
		return json.NewEncoder(c.App.Writer).Encode(append([]*node.ImageTally{}, images...)) // [] for none
	}
	for _, i := range images {
		used := i.Used()
		fmt.Fprintf(c.App.Writer, "%s\n%d of %s ran since %s\n", i.Image, len(used), plural(len(i.Named()), "package"), i.First.Format(time.RFC3339))
		for _, name := range used {
			p := i.Packages[name]
			fmt.Fprintf(c.App.Writer, "  ran    %-40s %d of %s, last %s\n", name, len(p.Ran), plural(p.Files, "file"), p.Last.Format(time.RFC3339))
		}
		if c.Bool("unused") {
			for _, name := range i.Named() {
				if !slices.Contains(used, name) {
					fmt.Fprintf(c.App.Writer, "  never  %s\n", name)
				}
			}
		}
	}
	return nil
}
