// SPDX-License-Identifier: Apache-2.0

package key

// Passphrases come from a file, from the environment or from the terminal, and
// never from the arguments, which every user of the machine can read.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/term"
)

// ErrNoPassphrase says that a key is encrypted, and that nothing gives its passphrase.
var ErrNoPassphrase = errors.New("is encrypted, and there is no terminal to ask for the passphrase")

const (
	envPassphrase = "SBOM_BLESS_PASSWORD"
	envCosign     = "COSIGN_PASSWORD"
)

// passphrase gives the passphrase of the key in path.
func passphrase(ctx context.Context, path, file string, ofCosign bool) ([]byte, error) {
	if file != "" {
		return readPassphrase(file)
	}
	if value, ok := os.LookupEnv(envPassphrase); ok {
		return []byte(value), nil
	}
	if value, ok := os.LookupEnv(envCosign); ok && ofCosign {
		return []byte(value), nil
	}
	tty, err := openTerminal()
	if err != nil {
		return nil, ErrNoPassphrase
	}
	defer tty.Close()
	return ask(ctx, tty, "passphrase of "+path+": ")
}

// NewPassphrase gives the passphrase that a new key in path is to be encrypted
// with, empty for none: from file, from SBOM_BLESS_PASSWORD, or from the
// terminal, asked twice. With none of the three there is no passphrase.
func NewPassphrase(ctx context.Context, path, file string) ([]byte, error) {
	if file != "" {
		return readPassphrase(file)
	}
	if value, ok := os.LookupEnv(envPassphrase); ok {
		return []byte(value), nil
	}
	tty, err := openTerminal()
	if err != nil {
		return nil, nil
	}
	defer tty.Close()
	first, err := ask(ctx, tty, "passphrase for "+path+" (empty for none): ")
	if err != nil || len(first) == 0 {
		return nil, err
	}
	second, err := ask(ctx, tty, "the same again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("passphrase: not the same twice")
	}
	return first, nil
}

// readPassphrase reads a file of one line.
func readPassphrase(file string) ([]byte, error) {
	data, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(file) || errors.Is(err, syscall.ENAMETOOLONG) {
		// It may be the passphrase itself, by mistake.
		return nil, fmt.Errorf("passphrase file (its name is not shown): %w\nhint: "+envPassphrase+" is for a passphrase itself", err)
	}
	if err != nil {
		return nil, fmt.Errorf("passphrase file %s: %w", file, err)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 || bytes.ContainsAny(data, "\r\n") {
		return nil, fmt.Errorf("passphrase file %s: one line is expected, and it is not empty", file)
	}
	return data, nil
}

// openTerminal opens the terminal that a person sits at, whatever stdin and
// stderr are.
func openTerminal() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) }

// ask reads a line from the terminal without showing it. When ctx ends (the
// person pressed Ctrl-C) the terminal shows again what is typed.
func ask(ctx context.Context, tty *os.File, question string) ([]byte, error) {
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	fmt.Fprint(tty, question)
	defer fmt.Fprintln(tty)

	type answer struct {
		line []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		read <- answer{line, err}
	}()
	select {
	case a := <-read:
		if a.err != nil {
			return nil, fmt.Errorf("passphrase: %w", a.err)
		}
		return a.line, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(fd, state))
	}
}
