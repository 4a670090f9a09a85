// SPDX-License-Identifier: Apache-2.0

package cli

// keygen: a key pair, and the certificate that kernels load.

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sbom-bless/sbom-bless/key"
)

const keygenUsage = `Writes four files, and never overwrites one:

   PREFIX.key   private key, PKCS#8 in PEM, mode 0600, for bless --key
   PREFIX.pub   public key in PEM, for verify --key
   PREFIX.crt   self-signed certificate in PEM, for verify --key; bless finds it beside the key
   PREFIX.der   the certificate in DER, which kernels load

   $ sbom-bless keygen --out release
   0a3c9d51 release.crt

That line alone goes to stdout: the key id, as it stands in every signature, and
the certificate.

The private key is encrypted with the passphrase in SBOM_BLESS_PASSWORD or in
--passphrase-file, else with one that is asked for on the terminal. It is not
encrypted if that is empty, or if there is no terminal.

The certificate is valid for ten years from now, or from SOURCE_DATE_EPOCH.`

func newKeygen() *cli.Command {
	types := key.Types()
	return &cli.Command{
		Name:        "keygen",
		Usage:       "make a key pair and its certificate",
		ArgsUsage:   " ",
		Description: keygenUsage,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "type", Value: types[0], Usage: strings.Join(types, ", ")},
			&cli.StringFlag{Name: "out", Value: "bless", Usage: "what the names of the files begin with (PREFIX)"},
			&cli.StringFlag{Name: "name", Usage: "common name in the certificate (default: sbom-bless KEYID)"},
			&cli.StringFlag{Name: "passphrase-file", Usage: "file with the passphrase to encrypt the private key with"},
		},
		Action: func(c *cli.Context) error { return runKeygen(c.Context, c) },
	}
}

func runKeygen(ctx context.Context, c *cli.Context) error {
	if c.NArg() != 0 {
		return usagef("keygen takes no arguments, and there is %q\nhint: --out %s names the files", c.Args().First(), c.Args().First())
	}
	if typ := c.String("type"); !slices.Contains(key.Types(), typ) {
		return usagef("--type %s: choose one of %s", typ, strings.Join(key.Types(), ", "))
	}
	prefix := c.String("out")
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return usagef("--out %q: a path that the names of the files begin with", prefix)
	}
	from, err := keygenTime()
	if err != nil {
		return err
	}
	if err := key.CheckFiles(prefix); err != nil {
		return err
	}
	passphrase, err := key.NewPassphrase(ctx, prefix+".key", c.String("passphrase-file"))
	if err != nil {
		return err
	}
	k, err := key.Generate(c.String("type"), c.String("name"), from)
	if err != nil {
		return err
	}
	if err := k.WriteFiles(prefix, passphrase); err != nil {
		return fmt.Errorf("--out: %w", err)
	}

	protection := "not encrypted"
	if len(passphrase) > 0 {
		protection = "encrypted"
	}
	fmt.Fprintf(c.App.ErrWriter, `made %[2]s key %[1]s
  %[3]s.key  private key, %[4]s: keep it secret
  %[3]s.pub  public key
  %[3]s.crt  certificate, valid until %[5]s
  %[3]s.der  certificate for the kernel
hint: sbom-bless bless SOURCE -t DEST --key %[3]s.key
hint: sbom-bless verify DEST --key %[3]s.crt
hint: keyctl padd asymmetric '' KEYRING < %[3]s.der
`, k.ID(), c.String("type"), prefix, protection, k.Cert.NotAfter.Format(time.DateOnly))
	_, err = fmt.Fprintf(c.App.Writer, "%s %s.crt\n", k.ID(), prefix)
	return err
}

// keygenTime is when the certificate begins to be valid.
func keygenTime() (time.Time, error) {
	text, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH=%s: not a number of seconds since 1970", text)
	}
	from := time.Unix(seconds, 0)
	if from.AddDate(10, 0, 0).Before(time.Now()) {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH=%s: the certificate would have expired by now", text)
	}
	return from, nil
}
