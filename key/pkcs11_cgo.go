// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package key

// Keys on PKCS#11 tokens: smart cards, HSMs, TPMs. The token's driver is a
// shared library, so that this needs cgo.

import (
	"errors"
	"fmt"
	"os"

	"github.com/ThalesGroup/crypto11"
)

func loadPKCS11(ref string) (*Key, error) {
	t, err := parsePKCS11(ref)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(t.module); err != nil {
		return nil, fmt.Errorf("module-path: %w", err)
	}
	session, err := crypto11.Configure(&crypto11.Config{
		Path: t.module, SlotNumber: t.slot, TokenSerial: t.serial, TokenLabel: t.token, Pin: t.pin,
	})
	if err != nil {
		return nil, err
	}
	k, err := t.find(session)
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	k.close = session.Close
	return k, nil
}

// find gives the one key pair that t means, and the certificate beside it.
func (t *tokenKey) find(session *crypto11.Context) (*Key, error) {
	var id, label []byte // nil: any
	if t.id != "" {
		id = []byte(t.id)
	}
	if t.object != "" {
		label = []byte(t.object)
	}
	pairs, err := session.FindKeyPairs(id, label)
	if err != nil {
		return nil, err
	}
	switch len(pairs) {
	case 0:
		return nil, errors.New("no such key pair on the token\nhint: pkcs11-tool --module MODULE --login --list-objects")
	case 1:
	default:
		return nil, fmt.Errorf("%d key pairs on the token match\nhint: name both id and object", len(pairs))
	}
	public := pairs[0].Public()
	if err := checkPublic(public); err != nil {
		return nil, err
	}
	k := remote(pairs[0], public, 0)
	k.Cert, err = session.FindCertificate(id, label, nil)
	return k, err
}
