// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/diagnose"
	"github.com/sbom-bless/sbom-bless/node"
)

func newWhy(state cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "why", Usage: "explain the last denials, each in a paragraph: what happened, what the list says, what would allow it",
		ArgsUsage: "[PATH]",
		Flags: []cli.Flag{state,
			&cli.StringFlag{Name: "container", Usage: "only those of the container of this name"},
			&cli.StringFlag{Name: "pod", Usage: "only those of this pod, NAMESPACE/NAME"},
			&cli.IntFlag{Name: "last", Value: 5, Usage: "how many, the last one first"},
			&cli.StringFlag{Name: "events", Usage: "file with the events of an agent, or - for standard input, in the place of the memory of the running agent"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "text", Usage: "text or json"},
		},
		Action: enforceWhy,
	}
}

func enforceWhy(c *cli.Context) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	q := diagnose.Query{Container: c.String("container"), Path: c.Args().First()}
	if pod := c.String("pod"); pod != "" {
		var ok bool
		if q.Namespace, q.Pod, ok = strings.Cut(pod, "/"); !ok || q.Namespace == "" || q.Pod == "" {
			return usagef("--pod %s: write NAMESPACE/NAME", pod)
		}
	}
	limit := c.Int("last")
	switch {
	case c.NArg() > 1:
		return usagef("why takes one PATH, or none")
	case q.Path != "" && !path.IsAbs(q.Path):
		return usagef("why %s: write the path as the container has it, from the root", q.Path)
	case limit <= 0:
		return usagef("--last %d: a number above zero", limit)
	}
	var list []diagnose.Explanation
	if file := c.String("events"); file != "" {
		var recent diagnose.Recent
		if err := readEvents(c, file, recent.Add); err != nil {
			return fmt.Errorf("--events: %w", err)
		}
		for _, d := range recent.Last(q, limit) {
			list = append(list, diagnose.Explain(d, nil))
		}
	} else if list, err = node.AskWhy(c.Context, c.String("state"), node.Why{Query: q, Limit: limit}); errors.Is(err, node.ErrNoAgent) {
		return fmt.Errorf("%w\nhint: journalctl -u sbom-bless -o cat | sbom-bless enforce why --events -", err)
	} else if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(c.App.Writer).Encode(append([]diagnose.Explanation{}, list...)) // [] for none
	}
	if len(list) == 0 {
		fmt.Fprintln(c.App.ErrWriter, "nothing was denied that is known here")
	}
	for i, e := range list {
		if i > 0 {
			fmt.Fprintln(c.App.Writer)
		}
		fmt.Fprintln(c.App.Writer, e.Text())
	}
	return nil
}
