// SPDX-License-Identifier: Apache-2.0

package jsonedit

import (
	"strings"
	"testing"
)

func TestApplyKeepsWhatItDoesNotOwn(t *testing.T) {
	raw := []byte("{ \"b\" : 1.0e2,\n  \"unknown\": {\"z\":[ ], \"a\":{}},\n \"layers\": [ {\"x\":1}, {\"y\":2} ] }\n")
	for _, tc := range []struct {
		name string
		edit Edit
		want string
	}{
		{"a value is exchanged", Set("new", "b"),
			"{ \"b\" : \"new\",\n  \"unknown\": {\"z\":[ ], \"a\":{}},\n \"layers\": [ {\"x\":1}, {\"y\":2} ] }\n"},
		{"an element of an array is exchanged", Set(3, "layers", "1"),
			"{ \"b\" : 1.0e2,\n  \"unknown\": {\"z\":[ ], \"a\":{}},\n \"layers\": [ {\"x\":1}, 3 ] }\n"},
		{"a member of an element is exchanged", Set(3, "layers", "0", "x"),
			"{ \"b\" : 1.0e2,\n  \"unknown\": {\"z\":[ ], \"a\":{}},\n \"layers\": [ {\"x\":3}, {\"y\":2} ] }\n"},
		{"a member is added behind the others", Set(3, "unknown", "k"),
			"{ \"b\" : 1.0e2,\n  \"unknown\": {\"z\":[ ], \"a\":{},\"k\":3},\n \"layers\": [ {\"x\":1}, {\"y\":2} ] }\n"},
		{"a member is added to an empty object", Set(3, "unknown", "a", "k"),
			"{ \"b\" : 1.0e2,\n  \"unknown\": {\"z\":[ ], \"a\":{\"k\":3}},\n \"layers\": [ {\"x\":1}, {\"y\":2} ] }\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Apply(raw, tc.edit)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	for name, test := range map[string]struct{ raw, want string }{
		"a key that stands twice":                        {`{"layers":[],"layers":[1]}`, `key "layers" stands twice`},
		"a key that stands twice, escaped":               {`{"layers":[],"l\u0061yers":[1]}`, `key "layers" stands twice`},
		"a key that stands twice, but for case":          {`{"layers":[],"Layers":[1]}`, `key "Layers" stands twice`},
		"a key that stands twice, but for what Go folds": {"{\"layers\":[],\"layer\u017f\":[1]}", `stands twice`},
		"data behind the value":                          {`{"layers":[]}{}`, "at byte 14: data after the JSON value"},
		"a truncated value":                              {`{"layers":[`, "at byte 11: EOF"},
		"no value":                                       {``, "at byte 0: EOF"},
		"an array where an object belongs":               {`[]`, `parsing "layers"`},
		"a value where an object belongs":                {`1`, `"layers" is not in an object or array`},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Apply([]byte(test.raw), Set(1, "layers")); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want %q", got, err, test.want)
			}
		})
	}
}
