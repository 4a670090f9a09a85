// SPDX-License-Identifier: Apache-2.0

package key

// Which key on which token a pkcs11: URI (RFC 7512) means.

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	pkcs11uri "github.com/stefanberger/go-pkcs11uri"
)

const envPIN = "SBOM_BLESS_PKCS11_PIN"

// tokenKey is what a URI says. Exactly one of slot, serial and token is set,
// and at least one of id and object.
type tokenKey struct {
	module        string // path of the shared library
	slot          *int
	serial, token string
	id, object    string
	pin           string
}

const hintPKCS11 = "\nhint: pkcs11:token=NAME;object=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so"

func parsePKCS11(ref string) (*tokenKey, error) {
	uri := pkcs11uri.New()
	if err := uri.Parse(ref); err != nil {
		return nil, fmt.Errorf("%w"+hintPKCS11, err)
	}
	path := func(name string) string { v, _ := uri.GetPathAttribute(name, false); return v }
	t := &tokenKey{id: path("id"), object: path("object")}
	t.module, _ = uri.GetQueryAttribute("module-path", false)
	if t.module == "" {
		return nil, errors.New("no module-path, the shared library that speaks to the token" + hintPKCS11)
	}
	if t.id == "" && t.object == "" {
		return nil, errors.New("neither id nor object: which key is meant?" + hintPKCS11)
	}
	// Of several ways to name the token the narrowest counts.
	switch slot := path("slot-id"); {
	case slot != "":
		n, err := strconv.Atoi(slot)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("slot-id %q: not a slot number", slot)
		}
		t.slot = &n
	case path("serial") != "":
		t.serial = path("serial")
	case path("token") != "":
		t.token = path("token")
	default:
		return nil, errors.New("no token, serial or slot-id: which token is meant?" + hintPKCS11)
	}
	var err error
	t.pin, err = tokenPIN(uri)
	return t, err
}

// tokenPIN takes the PIN from the URI, or else from SBOM_BLESS_PKCS11_PIN.
func tokenPIN(uri *pkcs11uri.Pkcs11URI) (string, error) {
	if source, ok := uri.GetQueryAttribute("pin-source", false); ok {
		file := source
		if u, err := url.Parse(source); err == nil && u.Scheme == "file" {
			file = u.Path
		} else if strings.HasPrefix(source, "|") || err == nil && u.Scheme != "" {
			return "", errors.New("pin-source is neither a path nor a file: URI")
		}
		pin, err := readPassphrase(file)
		if err != nil {
			return "", fmt.Errorf("pin-source: %w", err)
		}
		return string(pin), nil
	}
	if pin, ok := uri.GetQueryAttribute("pin-value", false); ok {
		return pin, nil
	}
	if pin, ok := os.LookupEnv(envPIN); ok {
		return pin, nil
	}
	return "", errors.New("no PIN\nhint: " + envPIN + " gives it, or pin-source=FILE in the URI")
}

var pinValue = regexp.MustCompile(`pin-value=[^&]*`)

// withoutPIN is ref as messages may show it.
func withoutPIN(ref string) string { return pinValue.ReplaceAllString(ref, "pin-value=...") }
