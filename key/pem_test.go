// SPDX-License-Identifier: Apache-2.0

package key

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Keys as openssl writes them, each in a file KEY made by the commands.
func TestLoadKeysOfOpenSSL(t *testing.T) {
	const ec = "openssl ecparam -name prime256v1 -genkey -noout"
	for _, test := range []struct{ name, script string }{
		{"PKCS#8, P-256", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY"},
		{"PKCS#8, P-384", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out KEY"},
		{"PKCS#8, RSA", "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out KEY"},
		{"SEC 1", ec + " -out KEY"},
		{"SEC 1 behind its parameters", "openssl ecparam -name secp384r1 -genkey -out KEY"},
		{"PKCS#1", "openssl genrsa -traditional -out KEY 3072"},
		{"encrypted, as by default", ec + " | openssl pkcs8 -topk8 -passout pass:secret -out KEY"},
		{"encrypted, AES-128, HMAC-SHA-1", ec + " | openssl pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA1 -passout pass:secret -out KEY"},
		{"encrypted, AES-192, HMAC-SHA-384", ec + " | openssl pkcs8 -topk8 -v2 aes-192-cbc -v2prf hmacWithSHA384 -passout pass:secret -out KEY"},
		{"encrypted, AES-256, HMAC-SHA-512", ec + " | openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA512 -iter 100000 -passout pass:secret -out KEY"},
		{"encrypted, 3DES", ec + " | openssl pkcs8 -topk8 -v2 des3 -passout pass:secret -out KEY"},
		{"encrypted, scrypt", "openssl genrsa 2048 | openssl pkcs8 -topk8 -scrypt -passout pass:secret -out KEY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			key, pub := filepath.Join(dir, "a.key"), filepath.Join(dir, "a.pub")
			tool(t, "sh", "-ec", "umask 077; "+strings.ReplaceAll(test.script, "KEY", key))
			tool(t, "openssl", "pkey", "-in", key, "-passin", "pass:secret", "-pubout", "-out", pub)
			t.Setenv(envPassphrase, "secret")
			k, err := Load(t.Context(), key, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if k.Cert != nil {
				t.Error("a certificate out of nowhere")
			}
			proves(t, k, pub)

			if strings.HasPrefix(test.name, "encrypted") {
				t.Setenv(envPassphrase, "Secret")
				if _, err := Load(t.Context(), key, Options{}); !errors.Is(err, errPassphrase) {
					t.Errorf("wrong passphrase: %v", err)
				}
			}
		})
	}
}

// The library that cosign reads and writes keys with is the judge of its format.
func TestLoadKeysOfCosign(t *testing.T) {
	for _, test := range []struct{ name, pemType, passphrase, ours, cosigns string }{
		{"today's name", "ENCRYPTED SIGSTORE PRIVATE KEY", "secret", "secret", "other"},
		{"the old name", "ENCRYPTED COSIGN PRIVATE KEY", "secret", "", "secret"},
		{"no passphrase", "ENCRYPTED SIGSTORE PRIVATE KEY", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := generate(t, "ecdsa-p256")
			der, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(k.Signer, cryptoutils.StaticPasswordFunc([]byte(test.passphrase)))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "cosign.key")
			write(t, path, 0o600, cryptoutils.PEMEncode(cryptoutils.PEMType(test.pemType), der))
			if test.ours != "" {
				t.Setenv(envPassphrase, test.ours)
			}
			t.Setenv(envCosign, test.cosigns)
			loaded, err := Load(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if loaded.ID() != k.ID() {
				t.Errorf("loaded %s, not %s", loaded.ID(), k.ID())
			}
			t.Setenv(envPassphrase, "guess")
			if _, err := Load(t.Context(), path, Options{}); !errors.Is(err, errPassphrase) {
				t.Errorf("wrong passphrase: %v", err)
			}
		})
	}
}

// And it reads the encrypted keys that keygen makes.
func TestCosignReadsOurEncryptedKeys(t *testing.T) {
	for _, typ := range Types()[:3] {
		k, prefix := keyFiles(t, typ, "secret")
		private, err := cryptoutils.UnmarshalPEMToPrivateKey(read(t, prefix+".key"), cryptoutils.StaticPasswordFunc([]byte("secret")))
		if err != nil {
			t.Fatal(err)
		}
		if !k.Signer.(interface{ Equal(crypto.PrivateKey) bool }).Equal(private) {
			t.Errorf("%s: another key", typ)
		}
	}
}

// What COSIGN_PASSWORD is for is cosign's format alone.
func TestCosignPasswordIsNotForOtherKeys(t *testing.T) {
	_, prefix := keyFiles(t, "ecdsa-p256", "secret")
	out := noTerminal(t, childEnv+"=load", "KEY="+prefix+".key", envCosign+"=secret")
	if !strings.Contains(out, "is encrypted") {
		t.Error(out)
	}
}

// Whatever passphrase is wrong is said to be, also when the padding looks right
// by chance, as it does about once in 256 times.
func TestWrongPassphraseHoweverItDecrypts(t *testing.T) {
	der := []byte(tool(t, "sh", "-ec", "openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -iter 1 -outform DER -passout pass:right"))
	e, err := parseEncrypted(der)
	if err != nil {
		t.Fatal(err)
	}
	lucky := 0
	for i := range 2000 {
		guess := []byte{byte(i), byte(i >> 8)}
		if _, err := e.decrypt(guess); err == nil {
			lucky++
		}
		_, err := parseEncryptedPKCS8(der, func(bool) ([]byte, error) { return guess, nil })
		if !errors.Is(err, errPassphrase) {
			t.Fatalf("%q: %v", guess, err)
		}
	}
	if lucky == 0 {
		t.Error("no padding was right by chance: the test does not test what it is for")
	}
}

// A file must not make us compute for an hour, or take all memory.
func TestEncryptedKeyThatAsksForTooMuch(t *testing.T) {
	marshal := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, test := range []struct {
		kdf    asn1.ObjectIdentifier
		params any
		want   string
	}{
		{oidPBKDF2, pbkdf2Params{Salt: []byte{1}, Iterations: maxIterations + 1}, "10000001 iterations are not between"},
		{oidPBKDF2, pbkdf2Params{Salt: []byte{1}, Iterations: -1}, "-1 iterations are not between"},
		{oidPBKDF2, pbkdf2Params{Salt: []byte{1}, Iterations: 1, KeyLength: 16}, "a key of 16 bytes for a cipher that takes 32"},
		{oidScrypt, scryptParams{Salt: []byte{1}, N: 1 << 19, R: 8, P: 1}, "N=524288 r=8 p=1 need more than 256 MiB"},
		{oidScrypt, scryptParams{Salt: []byte{1}, N: 2, R: 1 << 40, P: 1}, "need more than"},
		{oidScrypt, scryptParams{Salt: []byte{1}, N: 1 << 10, R: 8, P: 1 << 30}, "need more than"},
		{oidScrypt, scryptParams{Salt: []byte{1}, N: 0, R: 0, P: 0}, "make no sense"},
		{oidScrypt, scryptParams{Salt: []byte{1}, N: 2, R: 1, P: 1, KeyLength: 64}, "a key of 64 bytes for a cipher that takes 32"},
		{oidHMACSHA256, 1, "key derivation 1.2.840.113549.2.9 is unknown"},
	} {
		info := encryptedPrivateKeyInfo{Data: make([]byte, 16)}
		info.Algorithm.Algorithm = oidPBES2
		info.Algorithm.Parameters.KDF = pkix.AlgorithmIdentifier{Algorithm: test.kdf, Parameters: asn1.RawValue{FullBytes: marshal(test.params)}}
		info.Algorithm.Parameters.Encryption = pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: marshal(make([]byte, 16))}}
		if _, err := parseEncrypted(marshal(info)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v does not say %q", test.params, err, test.want)
		}
	}
}

func FuzzParsePrivate(f *testing.F) {
	secret := func(bool) ([]byte, error) { return []byte("secret"), nil }
	for _, typ := range Types()[:3] {
		k, err := newSigner(typ)
		if err != nil {
			f.Fatal(err)
		}
		block, err := marshalPrivate(k, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pem.EncodeToMemory(block))
	}
	const p256 = "openssl ecparam -name prime256v1 -genkey "
	f.Add([]byte(tool(f, "sh", "-ec", p256)))
	f.Add([]byte(tool(f, "sh", "-ec", p256+"-noout | openssl pkcs8 -topk8 -iter 1 -passout pass:secret")))
	f.Add([]byte(tool(f, "openssl", "genrsa", "-traditional", "2048")))
	f.Fuzz(func(t *testing.T, data []byte) {
		signer, err := parsePrivate(data, secret)
		if err != nil {
			return
		}
		if signer == nil {
			t.Fatal("neither a key nor an error")
		}
		if checkPublic(signer.Public()) != nil {
			return
		}
		block, err := marshalPrivate(signer, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parsePrivate(pem.EncodeToMemory(block), secret)
		if err != nil {
			t.Fatal(err)
		}
		if !signer.(interface{ Equal(crypto.PrivateKey) bool }).Equal(again) {
			t.Error("changed by writing and reading")
		}
	})
}

func FuzzParseEncrypted(f *testing.F) {
	for _, args := range []string{"-v2 aes-128-cbc -v2prf hmacWithSHA1 -iter 1", "-v2 des3 -iter 1", "-scrypt -scrypt_N 2 -scrypt_r 1 -scrypt_p 1"} {
		f.Add([]byte(tool(f, "sh", "-ec", "openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -outform DER -passout pass:secret "+args)))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		e, err := parseEncrypted(der)
		if err != nil || e.work > 1<<16 { // a second of work is no fault, and would end the fuzzing
			return
		}
		plain, err := e.decrypt([]byte("secret"))
		if err == nil && len(plain) >= len(e.data) {
			t.Error("no padding was taken off")
		}
	})
}
