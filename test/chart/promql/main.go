// SPDX-License-Identifier: Apache-2.0

// Command promql parses expressions of Prometheus with Prometheus' own parser, and says what they
// ask for. It reads a JSON list of expressions, and writes one of answers. It is a module of its own: what
// Prometheus requires is none of the agent's.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

type answer struct {
	Error    string     `json:"error,omitempty"`
	Selected []selector `json:"selected,omitempty"`
	// Grouped are the labels that results are grouped by.
	Grouped []string `json:"grouped,omitempty"`
}

type selector struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

func main() {
	var expressions []string
	if err := json.NewDecoder(os.Stdin).Decode(&expressions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answers := make([]answer, len(expressions))
	for i, expression := range expressions {
		answers[i] = ask(expression)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(expression string) (a answer) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return answer{Error: err.Error()}
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			s := selector{Name: n.Name}
			for _, m := range n.LabelMatchers {
				if m.Name != "__name__" {
					s.Labels = append(s.Labels, m.Name)
				}
			}
			a.Selected = append(a.Selected, s)
		case *parser.AggregateExpr:
			a.Grouped = append(a.Grouped, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				a.Grouped = append(a.Grouped, n.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
	return a
}
