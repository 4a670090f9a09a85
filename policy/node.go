// SPDX-License-Identifier: Apache-2.0

package policy

// Reading YAML nodes, strictly: what is not understood is an error that says
// where it stands and what could stand there.

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field reads the value of one field.
type field func(*yaml.Node) error

func at(n *yaml.Node, message, hint string) error {
	return &Error{Line: max(n.Line, 1), Message: message, Hint: hint}
}

func wrongType(n *yaml.Node, want string) error {
	got := map[yaml.Kind]string{yaml.MappingNode: "names and values", yaml.SequenceNode: "a list", yaml.AliasNode: "an alias"}[n.Kind]
	if got == "" {
		got = fmt.Sprintf("%q", n.Value)
	}
	return at(n, got+" where something else belongs", "write "+want)
}

// mapping reads a mapping with these fields, those named in last after the
// others.
func mapping(n *yaml.Node, fields map[string]field, last ...string) error {
	if n.Kind != yaml.MappingNode {
		return wrongType(n, "names and values, one on a line, as in \"mode: audit\"")
	}
	seen := map[string]int{}
	var later []*yaml.Node
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		read, ok := fields[name.Value]
		if !ok || name.Kind != yaml.ScalarNode {
			return at(name, fmt.Sprintf("unknown field %q", name.Value), suggest(name.Value, fields))
		}
		if line, ok := seen[name.Value]; ok {
			return at(name, fmt.Sprintf("%s stands twice, first in line %d", name.Value, line), "keep one")
		}
		seen[name.Value] = name.Line
		if slices.Contains(last, name.Value) {
			later = append(later, name, value)
			continue
		}
		if err := named(name, read(value)); err != nil {
			return err
		}
	}
	for i := 0; i < len(later); i += 2 {
		if err := named(later[i], fields[later[i].Value](later[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// named puts the field's name before what is wrong with its value.
func named(name *yaml.Node, err error) error {
	var e *Error
	if errors.As(err, &e) && !strings.HasPrefix(e.Message, "unknown field ") {
		e.Message = name.Value + ": " + e.Message
	}
	return err
}

// suggest gives the field that was probably meant, or all of them.
func suggest(name string, fields map[string]field) string {
	best, cost := "", 3
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if d := distance(strings.ToLower(strings.ReplaceAll(name, "_", "-")), f); d < cost {
			best, cost = f, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "the fields here are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// each reads every element of a list.
func each(read field) field {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.SequenceNode {
			return wrongType(n, "a list, each element after a hyphen")
		}
		for _, e := range n.Content {
			if err := read(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// replace reads a list of texts, which takes the place of the one that was
// there.
func replace(to *[]string, check func(*yaml.Node, string) error) field {
	return func(n *yaml.Node) error {
		*to = nil
		return each(func(n *yaml.Node) error {
			if err := appendText(n, to); err != nil {
				return err
			}
			return check(n, (*to)[len(*to)-1])
		})(n)
	}
}

func appendText(n *yaml.Node, to *[]string) error {
	var s string
	err := text(&s)(n)
	*to = append(*to, s)
	return err
}

// text takes strings alone: `issuer: yes` would be a bool to one reader of YAML
// and a string to the next.
func text(to *string) field {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			return wrongType(n, "text, in quotes if it looks like something else")
		}
		if n.Value == "" {
			return at(n, "empty", "leave the field out, or give it a value")
		}
		*to = n.Value
		return nil
	}
}

func boolean(to *bool) field {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" || n.Tag != "!!bool" {
			return wrongType(n, "true or false")
		}
		*to = n.Value == "true"
		return nil
	}
}

func choice[T ~string](to *T, of ...T) field {
	return func(n *yaml.Node) error {
		if n.Kind == yaml.ScalarNode && slices.Contains(of, T(n.Value)) {
			*to = T(n.Value)
			return nil
		}
		var names []string
		for _, o := range of {
			names = append(names, string(o))
		}
		return wrongType(n, strings.Join(names[:len(names)-1], ", ")+" or "+names[len(names)-1])
	}
}

// size reads what ParseSize knows.
func size(to *uint64) field {
	return func(n *yaml.Node) error {
		v, ok := ParseSize(n.Value)
		if n.Kind != yaml.ScalarNode || !ok {
			return wrongType(n, SizeForm)
		}
		*to = v
		return nil
	}
}

// SizeForm says what ParseSize reads.
const SizeForm = "a number of bytes, as in 1048576, 512K, 64M or 2G, or unlimited"

// ParseSize reads a limit in bytes, as in 64M. That of "unlimited" is 0, which has no other name.
func ParseSize(s string) (uint64, bool) {
	if s == "unlimited" {
		return 0, true
	}
	number, unit := s, uint64(1)
	if i := strings.IndexByte("KMGT", last(number)); i >= 0 {
		number, unit = number[:len(number)-1], 1<<(10*(i+1))
	}
	v, err := strconv.ParseUint(number, 10, 64)
	if err != nil || v == 0 || v > 1<<62/unit {
		return 0, false
	}
	return v * unit, true
}

func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}
