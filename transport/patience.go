// SPDX-License-Identifier: Apache-2.0

package transport

import "time"

// patience is how long, and how often, a registry is asked.
type patience struct {
	tries int           // of one operation
	pause time.Duration // before the second try; doubles, with jitter
	idle  time.Duration // without a byte moving
	total time.Duration // of one operation, beside the time its bytes need at slowest
}

// slowest is the rate below which a transfer is given up, in bytes a second.
const slowest = 32 << 10

var defaultPatience = patience{tries: 6, pause: 500 * time.Millisecond, idle: time.Minute, total: 10 * time.Minute}
