// SPDX-License-Identifier: Apache-2.0

package key

// Where the bytes of a key come from: a file, an environment variable, stdin.
// They never go into a message, wherever somebody wrote them by mistake.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

const (
	envScheme = "env://" // as cosign has it: env://NAME is the content of the variable NAME
	stdinRef  = "-"
)

const hintKeyItself = "\nhint: env://NAME takes the key from the environment variable NAME, - from stdin"

// keyInText matches private keys in a text: PEM, also when its lines were joined
// or quoted, and cut short; base64 of PEM; base64 of DER, by how PKCS#8, encrypted
// PKCS#8, SEC 1 and PKCS#1 begin.
var keyInText = regexp.MustCompile(`(?s)-----BEGIN[A-Z0-9 ]*PRIVATE KEY.*?(?:-----END[A-Z0-9 ]*PRIVATE KEY-----|\z)` +
	`|(?:LS0tLS1CRUdJTi|\bM(?:IG[A-Za-z0-9+/]AgE|II[A-Z][A-Za-z0-9+/]{2}IBA|I[A-Za-z0-9+/]{4,8}GCSqGSIb3DQEFDT|H[A-Za-z0-9+/]CAQE))` +
	`[A-Za-z0-9+/=]{40,}(?:\n[A-Za-z0-9+/=]{16,})*`)

// Hide is text without the private keys in it. Everything that goes to a log
// passes through it: a key that was given where its name belongs is a mistake
// that must not publish it.
func Hide(text string) string { return keyInText.ReplaceAllString(text, "(a private key, not shown)") }

// isKeyItself tells that ref is a key, where the name of one belongs.
func isKeyItself(ref string) bool { return keyInText.MatchString(ref) }

// isFile tells that ref, which names no KMS and no token, is a path.
func isFile(ref string) bool { return ref != stdinRef && !strings.HasPrefix(ref, envScheme) }

// shown is ref as messages have it: without a key and without a PIN.
func shown(ref string) string { return Hide(withoutPIN(ref)) }

// readRef reads the key or certificate that ref names.
func readRef(ref string) ([]byte, error) {
	name, ok := strings.CutPrefix(ref, envScheme)
	if !ok {
		return readFile(ref)
	}
	value, ok := os.LookupEnv(name)
	if !ok || value == "" {
		return nil, errors.New("the environment has no such variable, or an empty one")
	}
	return []byte(value), nil
}

// readPrivate reads a private key; a file of one is a file that nobody else may read.
func readPrivate(ref string, stdin io.Reader) ([]byte, error) {
	switch {
	case isKeyItself(ref):
		return nil, errors.New("is a key itself, where the name of one belongs" + hintKeyItself)
	case ref == stdinRef && stdin != nil:
		return readAll(stdin)
	case strings.HasPrefix(ref, envScheme):
		return readRef(ref)
	}
	f, err := open(ref)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := readAll(f)
	if err != nil {
		return nil, err
	}
	// Of a file that is no private key there is something else to say.
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		err = checkMode(ref, info)
	}
	return data, err
}

func readFile(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// open opens a file. Its errors, and those of readAll, leave it to the caller to
// name the path.
func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if scheme, _, ok := strings.Cut(path, "://"); ok && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no file of that name, and %s:// is not one of %s %s", scheme, envScheme, strings.Join(kmsSchemes(), " "))
	}
	return f, pathless(err)
}

func pathless(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

const maxFile = 1 << 20 // bytes of a key or certificate file

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, pathless(err)
	}
	if len(data) > maxFile {
		return nil, errors.New("too large to be a key or a certificate")
	}
	return data, nil
}
