// SPDX-License-Identifier: Apache-2.0

package testimage

// Case is an image known for the trouble it makes.
type Case struct {
	Name, About string
	// Refused is what the error of a careful reader must speak of (a regular
	// expression); empty when the image is good and must be blessed.
	Refused string
	Make    func() *Bundle
}

// Cases lists all of them, good ones first.
func Cases() []Case { return nil }
