// SPDX-License-Identifier: Apache-2.0

package xattr_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sbom-bless/sbom-bless/xattr"
)

// seen is what a reader says of an entry.
type seen struct {
	Name, Link string
	Type       byte
	Mode       int64
	UID, GID   int64
	Time       int64
	Size       int64
	Sum        string // of a regular file's content
	IMA        string // security.ima in hexadecimal, "" for none
}

// The four readers whose word counts beside ours.
var readers = map[string]func(t testing.TB, file string) ([]seen, error){
	"archive/tar": func(_ testing.TB, file string) ([]seen, error) {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return readGo(b)
	},
	"GNU tar": readGNU,
	"bsdtar":  readBSD,
	"tarfile": readPython,
}

// clean makes names comparable: tarfile drops the slash of a directory.
func clean(name string) string {
	if name = path.Clean("/" + name)[1:]; name == "" {
		return "."
	}
	return name
}

func readGo(b []byte) ([]seen, error) {
	var all []seen
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		s := seen{Name: clean(h.Name), Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: int64(h.Uid), GID: int64(h.Gid), Time: h.ModTime.Unix()}
		switch h.Typeflag {
		case 0, '7', 'S':
			s.Type = '0'
		case '1', '2':
			s.Link = h.Linkname
		}
		if s.Type == '0' {
			c := &reader{}
			_ = c.Entry(nil)
			if _, err := io.Copy(contentWriter{c}, r); err != nil {
				return all, err
			}
			s.Size, s.Sum = c.n, fmt.Sprintf("%x", c.sum.Sum(nil))
		}
		if v, err := base64.RawStdEncoding.DecodeString(h.PAXRecords["LIBARCHIVE.xattr."+xattr.IMA]); err == nil {
			s.IMA = fmt.Sprintf("%x", v)
		}
		if v, ok := h.PAXRecords["SCHILY.xattr."+xattr.IMA]; ok {
			s.IMA = fmt.Sprintf("%x", v)
		}
		all = append(all, s)
	}
}

type contentWriter struct{ *reader }

func (w contentWriter) Write(p []byte) (int, error) { return len(p), w.Content(p) }

const unknown = "?"

// readBSD has libarchive write what it read as another archive, which archive/tar
// reads: in GNU format with holes as zeros, in PAX format with attributes.
func readBSD(t testing.TB, file string) ([]seen, error) {
	out, err := tool(t, "libarchive-tools", "bsdtar", "-cf", "-", "--format=gnutar", "@"+file)
	if err != nil {
		return nil, err
	}
	all, err := readGo(out)
	if err != nil {
		return all, err
	}
	if out, err = tool(t, "libarchive-tools", "bsdtar", "-cf", "-", "--format=pax", "@"+file); err != nil {
		return all, err
	}
	withAttributes, err := readGo(out)
	for i := range all {
		if err != nil { // libarchive 3.6 writes a wrong archive if there are holes
			all[i].IMA = unknown
			continue
		}
		all[i].IMA, all[i].Time = withAttributes[i].IMA, withAttributes[i].Time // GNU format has no time before 1970
	}
	return all, nil
}

const pythonReader = `
import hashlib, json, math, sys, tarfile
kinds = {b'1': '1', b'2': '2', b'3': '3', b'4': '4', b'5': '5', b'6': '6'}
def read(file):
    out = []
    with tarfile.open(file, mode='r:', errorlevel=2) as t:
        for m in t:
            d = dict(Name=m.name, Link=m.linkname if m.islnk() or m.issym() else '', Type=ord(kinds.get(m.type, '0')),
                Mode=m.mode & 0o7777, UID=m.uid, GID=m.gid, Time=math.floor(m.mtime), Size=0, Sum='',
                IMA=m.pax_headers.get('SCHILY.xattr.security.ima', '').encode('utf-8', 'surrogateescape').hex())
            if m.isreg():
                b = t.extractfile(m).read()
                d['Size'], d['Sum'] = len(b), hashlib.sha256(b).hexdigest()
            for k in ('Name', 'Link'): # bytes, as JSON can hold them
                d[k] = d[k].encode('utf-8', 'surrogateescape').decode('latin-1')
            out.append(d)
        # without a word it stops at a header that it cannot read
        t.fileobj.seek(t.offset)
        if t.fileobj.read(512).strip(b'\0'):
            raise Exception('stops before the end')
    return out
for line in sys.stdin:
    try:
        r = dict(Seen=read(line[:-1]))
    except Exception as e:
        r = dict(Err=repr(e))
    print(json.dumps(r), flush=True)
`

// python is one tarfile for all tests: starting it takes most of the time.
var python = sync.OnceValues(func() (func(file string) ([]seen, error), error) {
	c := exec.Command("python3", "-c", pythonReader)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%w: install the Debian package python3", err)
	}
	answers := json.NewDecoder(out)
	var mu sync.Mutex
	return func(file string) ([]seen, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Fprintln(in, file); err != nil {
			return nil, err
		}
		var answer struct {
			Seen []seen
			Err  string
		}
		if err := answers.Decode(&answer); err != nil {
			return nil, err
		}
		if answer.Err != "" {
			return nil, errors.New(answer.Err)
		}
		for i := range answer.Seen {
			s := &answer.Seen[i]
			s.Name, s.Link = clean(latin1(s.Name)), latin1(s.Link)
		}
		return answer.Seen, nil
	}, nil
})

func readPython(t testing.TB, file string) ([]seen, error) {
	read, err := python()
	if err != nil {
		t.Fatal(err)
	}
	return read(file)
}

// latin1 takes each rune for a byte.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// gnuLine is a line of tar -tvv: mode, owner, size or device, date, time, name.
var gnuLine = regexp.MustCompile(`^([-hlcbdpC])([-rwxsStT]{9})[.+* ] *(\d+)/(\d+) +(\S+) (\S+ \S+) +(.*)$`)

// readGNU reads a listing for what an entry is, and has each file's content piped
// through sha256sum. Of an attribute the listing has the length.
func readGNU(t testing.TB, file string) ([]seen, error) {
	list, err := tool(t, "tar", "tar", "-tvvf", file, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--full-time", "--quoting-style=escape", "--absolute-names")
	if err != nil {
		return nil, err
	}
	contents, err := tool(t, "tar", "tar", "-xf", file, "--to-command=sha256sum", "--absolute-names")
	if err != nil {
		return nil, err
	}
	sums := strings.Fields(strings.ReplaceAll(string(contents), "  -\n", "\n"))
	types := map[byte]byte{'-': '0', 'C': '0', 'h': '1', 'l': '2', 'c': '3', 'b': '4', 'd': '5', 'p': '6'}
	var all []seen
	for _, line := range strings.Split(strings.TrimSuffix(string(list), "\n"), "\n") {
		if n, ok := strings.CutSuffix(line, " "+xattr.IMA); ok && strings.HasPrefix(line, "  x:") {
			all[len(all)-1].IMA = strings.TrimSpace(strings.TrimPrefix(n, "  x:"))
			continue
		}
		if line == "" || strings.HasPrefix(line, "  x:") {
			continue
		}
		m := gnuLine.FindStringSubmatch(line)
		if m == nil {
			return all, fmt.Errorf("listing: %q", line)
		}
		s := seen{Type: types[m[1][0]], Mode: gnuMode(m[2])}
		s.UID, _ = strconv.ParseInt(m[3], 10, 64)
		s.GID, _ = strconv.ParseInt(m[4], 10, 64)
		when, err := time.Parse("2006-01-02 15:04:05.999999999", m[6])
		if err != nil {
			return all, err
		}
		s.Time = when.Unix()
		name := m[7]
		switch s.Type {
		case '0':
			s.Size, _ = strconv.ParseInt(m[5], 10, 64)
			if len(sums) == 0 {
				return all, fmt.Errorf("%s: no content", name)
			}
			s.Sum, sums = sums[0], sums[1:]
		case '1':
			name, s.Link, _ = strings.Cut(name, " link to ")
		case '2':
			name, s.Link, _ = strings.Cut(name, " -> ")
		}
		s.Name, s.Link = clean(unescape(name)), unescape(s.Link)
		all = append(all, s)
	}
	if len(sums) > 0 {
		return all, errors.New("more contents than files")
	}
	return all, nil
}

func gnuMode(s string) (mode int64) {
	for i, c := range s {
		bit := int64(0o400) >> i
		if c != '-' && c != 'S' && c != 'T' {
			mode |= bit
		}
		if strings.ContainsRune("sStT", c) {
			mode |= 0o4000 >> (i / 3)
		}
	}
	return mode
}

// unescape undoes tar's quoting style.
func unescape(s string) string {
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		return err.Error()
	}
	return s
}

// tool runs a program that we did not write.
func tool(t testing.TB, debianPackage string, command ...string) ([]byte, error) {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Fatalf("%v: install the Debian package %s", err, debianPackage)
	}
	var stdout, stderr bytes.Buffer
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8")
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", command[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// readOurs is what the Scanner says.
func readOurs(b []byte) ([]seen, error) {
	r, err := scan(b, 0, nil)
	if err != nil {
		return nil, err
	}
	var all []seen
	for i, e := range r.entries {
		f := r.files[i]
		s := seen{Name: clean(e.Name), Link: f.Link, Type: e.Type, Mode: e.Mode & 0o7777, UID: e.UID, GID: e.GID, Time: e.ModTime.Unix(), Sum: f.Sum}
		if e.Type == '0' {
			s.Size = e.Size
		}
		if v, ok := e.Xattrs[xattr.IMA]; ok {
			s.IMA = fmt.Sprintf("%x", v)
		}
		all = append(all, s)
	}
	return all, nil
}

// disagree compares what a reader says with what we say.
func disagree(name string, theirs, ours []seen) error {
	if len(theirs) != len(ours) {
		return fmt.Errorf("%d entries, we see %d", len(theirs), len(ours))
	}
	for i, a := range theirs {
		b := ours[i]
		if name == "GNU tar" {
			if n := len(b.IMA) / 2; n == 0 {
				b.IMA = ""
			} else {
				b.IMA = strconv.Itoa(n)
			}
		}
		if a.IMA == unknown {
			b.IMA = unknown
		}
		if a != b {
			return fmt.Errorf("entry %d: %+v, we see %+v", i, a, b)
		}
	}
	return nil
}

// Every reader must read every archive of the corpus as we do, before and after
// we edit it.
func TestFourReadersAgreeWithUs(t *testing.T) {
	for name, source := range corpus(t) {
		if len(source) == 0 {
			continue // GNU tar and tarfile do not take it for an archive
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := scan(source, 0, nil); err != nil {
				t.Logf("refused: %v", err)
				return
			}
			blessed, err := set(t, source, attributes())
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "archive.tar")
			for state, b := range map[string][]byte{"source": source, "blessed": blessed} {
				ours, err := readOurs(b)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				for reader, read := range readers {
					theirs, err := read(t, file)
					if err == nil {
						err = disagree(reader, theirs, ours)
					}
					if err != nil {
						t.Errorf("%s, %s: %v", reader, state, err)
					}
				}
			}
		})
	}
}

// TestLinkTargetsInAnExtensionAlone: Go wrote the target of a link that is not ASCII into the PAX record alone, and
// layers that Docker built in those years have it there. Readers made of Go and others find it; libarchive finds no
// target, so such archives are no part of the corpus.
func TestLinkTargetsInAnExtensionAlone(t *testing.T) {
	for name, archive := range map[string][]byte{
		"PAX": join(header("b", '0', 0), extended("linkpath=b"), header("a", '2', 0), end),
		"GNU": join(header("b", '0', 0), long('K', "b\x00"), header("a", '2', 0, gnu), end),
	} {
		ours, err := readOurs(archive)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		file := filepath.Join(t.TempDir(), "archive.tar")
		if err := os.WriteFile(file, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		for reader, read := range readers {
			theirs, err := read(t, file)
			if err == nil {
				err = disagree(reader, theirs, ours)
			}
			if (err == nil) == (reader == "bsdtar") {
				t.Errorf("%s, %s: %v", name, reader, err)
			}
		}
	}
}
