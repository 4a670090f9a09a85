// SPDX-License-Identifier: Apache-2.0

package cli

// What a node reported, read from its events.

import (
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/diagnose"
)

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
