// SPDX-License-Identifier: Apache-2.0

// Package refname takes names of images apart, as registries and runtimes spell them.
package refname

import "strings"

// Repository is a name without tag and digest: "host:5000/app" of "host:5000/app:1@sha256:…".
func Repository(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name
}
