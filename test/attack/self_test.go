// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import "golang.org/x/sys/unix"

// selfAttacks take the verifier away. More of them are in agent_test.go.
var selfAttacks = []*attack{
	{name: "host root turns ftrace off", op: "write", reason: "self", anyDomain: true, ours: true,
		host: func(*container) error { return open("/proc/sys/kernel/ftrace_enabled", unix.O_WRONLY) }},
}
