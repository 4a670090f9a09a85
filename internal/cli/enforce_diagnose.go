// SPDX-License-Identifier: Apache-2.0

package cli

// enforce recommend, and why from events: what a node reported, on whatever machine.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/diagnose"
)

// signerOfPolicies is the certificate that a policy names unless told otherwise.
const signerOfPolicies = "/etc/sbom-bless/bless.crt"

func newRecommend() *cli.Command {
	return &cli.Command{
		Name: "recommend", Usage: "the least policy under which what audit saw would pass, from an agent's events on standard input or in files",
		ArgsUsage: "[FILE...]",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "signer", Usage: "what the policy has in \"keys\"; repeatable", DefaultText: signerOfPolicies},
			&cli.BoolFlag{Name: "pin", Usage: "name the manifests that were seen: no others count then"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"},
		},
		Action: enforceRecommend,
	}
}

func enforceRecommend(c *cli.Context) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	files := c.Args().Slice()
	if len(files) == 0 {
		files = []string{"-"}
	}
	var learner diagnose.Learner
	for _, name := range files {
		if err := readEvents(c, name, learner.Add); err != nil {
			return err
		}
	}
	keys := c.StringSlice("signer")
	if len(keys) == 0 {
		keys = []string{signerOfPolicies}
	}
	workloads := learner.Workloads()
	text := diagnose.Policy(workloads, keys, c.Bool("pin"))
	if asJSON {
		return json.NewEncoder(c.App.Writer).Encode(map[string]any{"workloads": workloads, "policy": text})
	}
	for _, w := range workloads {
		fmt.Fprintln(c.App.ErrWriter, w.Summary())
	}
	if len(workloads) == 0 {
		fmt.Fprintln(c.App.ErrWriter, "no event is about a container")
	}
	_, err = io.WriteString(c.App.Writer, text)
	return err
}

// readEvents hands over the records of a file, or of standard input, and says how many lines are none.
func readEvents(c *cli.Context, name string, take func(diagnose.Record)) error {
	from := c.App.Reader
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	skipped, err := records(diagnose.Read(from), take)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if skipped > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%s of %s no events\n", are(skipped), name)
	}
	return nil
}

func records(all iter.Seq2[diagnose.Record, error], take func(diagnose.Record)) (skipped int, err error) {
	for r, err := range all {
		switch {
		case errors.Is(err, diagnose.ErrNoRecord):
			skipped++
		case err != nil:
			return skipped, err
		default:
			take(r)
		}
	}
	return skipped, nil
}

func are(lines int) string {
	if lines == 1 {
		return "1 line is"
	}
	return fmt.Sprintf("%d lines are", lines)
}
