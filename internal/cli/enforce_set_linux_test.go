// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/enforce"
	"github.com/sbom-bless/sbom-bless/policy"
)

// TestANodeFindsTheListWhereverItIs blesses an image once with the attestations embedded
// and once beside it, and has the node look for the list of the manifest that a runtime would have resolved.
func TestANodeFindsTheListWhereverItIs(t *testing.T) {
	workshop(t, "typical")
	mustRun(t, "keygen", "--out", "other")
	mustRun(t, "bless", "oci:source", "-t", "oci:embedded", "--key", "bless.key", "--sbom", "none", "--embed")
	mustRun(t, "bless", "oci:source", "-t", "oci:beside", "--key", "bless.key", "--sbom", "none", "--attestation-out", "attestations")
	// The content store of containerd: blobs by digest, and no index.
	if err := os.CopyFS("content/blobs", os.DirFS("embedded/blobs")); err != nil {
		t.Fatal(err)
	}
	within, beside := describeTop(t, "embedded").Digest.String(), describeTop(t, "beside").Digest.String()
	for name, c := range map[string]struct {
		args []string
		err  string
	}{
		"content store":                   {[]string{"--image", "app@" + within, "--attestations", "content", "--key", "bless.crt"}, ""},
		"layout with the image":           {[]string{"--image", "app@" + within, "--attestations", "embedded", "--key", "bless.crt"}, ""},
		"directory of attestations":       {[]string{"--image", "app@" + beside, "--attestations", "attestations", "--key", "bless.crt"}, ""},
		"content store, another key":      {[]string{"--image", "app@" + within, "--attestations", "content", "--key", "other.crt"}, "no blessing signed by the given key"},
		"content store, another manifest": {[]string{"--image", "app@" + beside, "--attestations", "content", "--key", "bless.crt"}, "no attestation"},
		"another image's directory":       {[]string{"--image", "app@" + within, "--attestations", "attestations", "--key", "bless.crt"}, "no attestation"},
		"the one image of a directory":    {[]string{"--attestations", "attestations", "--key", "bless.crt"}, ""},
		"content store, no image":         {[]string{"--attestations", "content", "--key", "bless.crt"}, "need --image"},
	} {
		t.Run(name, func(t *testing.T) {
			var set enforce.Set
			app := &cli.App{
				Flags: append([]cli.Flag{&cli.StringSliceFlag{Name: "key"}, &cli.StringFlag{Name: "image"}, &cli.StringFlag{Name: "attestations"}}, identityFlags()...),
				Action: func(c *cli.Context) (err error) {
					set, err = attestedSet(c, "--image", c.String("image"))
					return err
				},
				ExitErrHandler: func(*cli.Context, error) {},
			}
			err := app.Run(append([]string{"node"}, c.args...))
			switch {
			case c.err == "" && (err != nil || len(set.Files) != 5):
				t.Errorf("%d files, %v", len(set.Files), err)
			case c.err == "" && !strings.HasSuffix(set.Name, within) && !strings.HasSuffix(set.Name, beside):
				t.Errorf("name %s", set.Name)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %s", err, c.err)
			}
		})
	}
}

// --join adds the list of a blessed image to any other, or there is none at all.
func TestJoinFlag(t *testing.T) {
	workshop(t, "typical")
	mustRun(t, "keygen", "--out", "other")
	mustRun(t, "bless", "oci:source", "-t", "oci:blessed", "--key", "bless.key", "--sbom", "none", "--attestation-out", "attestations")
	if err := os.WriteFile("list", []byte(strings.Repeat("0", 64)+"  /own\t\t7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	joined := "tool@" + describeTop(t, "blessed").Digest.String()
	for name, c := range map[string]struct {
		args []string
		err  string
	}{
		"a list and an image":    {[]string{"--files", "list", "--join", joined, "--attestations", "attestations", "--key", "bless.crt"}, ""},
		"another key":            {[]string{"--files", "list", "--join", joined, "--attestations", "attestations", "--key", "other.crt"}, "--join: tool@"},
		"no key":                 {[]string{"--files", "list", "--join", joined, "--attestations", "attestations"}, "whose attestation counts"},
		"no digest":              {[]string{"--files", "list", "--join", "tool:1", "--key", "bless.crt"}, "--join tool:1: the digest"},
		"another image":          {[]string{"--files", "list", "--join", "tool@sha256:" + strings.Repeat("0", 64), "--attestations", "attestations", "--key", "bless.crt"}, "no attestation"},
		"no list to add to":      {[]string{"--trust", "keyring", "--image", joined, "--join", joined, "--key", "bless.crt"}, "--trust keyring has none"},
		"two lists that are own": {[]string{"--files", "list", "--attestations", "attestations", "--key", "bless.crt"}, "choose --image-attestation or --files"},
	} {
		t.Run(name, func(t *testing.T) {
			var set enforce.Set
			app := &cli.App{
				Flags: append([]cli.Flag{&cli.StringSliceFlag{Name: "key"}, &cli.StringSliceFlag{Name: "join"}, &cli.StringFlag{Name: "trust"},
					&cli.StringFlag{Name: "image"}, &cli.StringFlag{Name: "files"}, &cli.StringFlag{Name: "attestations"}}, identityFlags()...),
				Action: func(c *cli.Context) (err error) {
					set, err = enforceSet(c, "")
					return err
				},
				ExitErrHandler: func(*cli.Context, error) {},
			}
			err := app.Run(append([]string{"node"}, c.args...))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || len(set.Files) != 1+5 || !set.Sizes || set.Files[0].Image != "" || set.Files[1].Image != joined {
				t.Errorf("%+v, %v", set, err)
			}
		})
	}
}

// The default of --max-size is that of policies. 0 is refused: it reads like a limit.
func TestMaxSizeFlag(t *testing.T) {
	for _, c := range []struct {
		args []string
		want uint64
		err  string
	}{
		{nil, policy.DefaultMaxSize, ""},
		{[]string{"--max-size", "unlimited"}, 0, ""},
		{[]string{"--max-size", "64M"}, 64 << 20, ""},
		{[]string{"--max-size", "0"}, 0, "--max-size 0: write a number of bytes"},
		{[]string{"--max-size", "-1"}, 0, "or unlimited"},
	} {
		var exec *cli.Command
		for _, sub := range newEnforce().Subcommands {
			if sub.Name == "exec" {
				exec = sub
			}
		}
		var rules enforce.Rules
		exec.Action = func(c *cli.Context) (err error) {
			rules, err = enforceRules(c)
			return err
		}
		app := &cli.App{Commands: []*cli.Command{exec}, ExitErrHandler: func(*cli.Context, error) {}}
		err := app.Run(append([]string{"node", "exec"}, c.args...))
		if rules.MaxSize != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %d, %v", c.args, rules.MaxSize, err)
		}
	}
}

// An agent whose events nobody reads any more ends with an error, so that it is started anew.
func TestAReaderThatGoesIsAnError(t *testing.T) {
	if os.Getenv("SBOM_BLESS_STREAM") != "" {
		if err := newEventStream(os.Stdout, false).event(enforce.Event{}); !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAReaderThatGoesIsAnError$")
	cmd.Env = append(os.Environ(), "SBOM_BLESS_STREAM=1")
	cmd.Stdout = w
	out := new(strings.Builder)
	cmd.Stderr = out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	w.Close()
}
