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
