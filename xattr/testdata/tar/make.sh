#!/bin/sh
# Makes the archives of this folder with GNU tar, bsdtar, Python's tarfile and
# archive/tar. Run as root, in this folder, on a filesystem with security
# attributes and holes. Owners and times are fixed; README says what is what.
set -eu
out=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
umask 022
long=$(printf 'directory/%.0s' 1 2 3 4 5 6 7 8 9 10 11 12)name

mkdir -p plain/bin plain/etc
printf '#!/bin/sh\nexit 0\n' >plain/bin/script
chmod 4755 plain/bin/script
head -c 1000 /dev/zero | tr '\0' 'x' >plain/etc/data
: >plain/etc/empty
ln plain/etc/data plain/etc/hard
ln -s data plain/etc/soft
mkfifo plain/etc/fifo
mkdir -p long/$(dirname "$long")
echo long >long/$long
ln -s "$long" long/link

python3 - <<'PY'
import os
os.mkdir('sparse')
def sparse(name, spans, size):
    with open('sparse/' + name, 'wb') as f:
        for off, data in spans:
            f.seek(off); f.write(data)
        f.truncate(size)
sparse('few', [(4096, b'a' * 4096), (65536, b'b' * 100)], 65636)
sparse('hole', [], 1 << 20)
sparse('tail', [(0, b'c' * 4096)], 100000)
sparse('many', [(i * 8192, bytes([65 + i]) * 4096) for i in range(5)], 5 * 8192)
os.mkdir('many')
sparse('../many/many', [(i * 8192, bytes([65 + i]) * 4096) for i in range(26)], 26 * 8192)
os.mkdir('odd')
for name in (b'with space', b'quo"te', b'caf\xc3\xa9', b'latin\xe9', b'bell\x07', b'new\nline'):
    open(b'odd/' + name, 'wb').write(name)
PY
mkdir -p "sparselong/$(dirname "$long")"
cp --sparse=always sparse/few "sparselong/$long"

mkdir attrs
echo noted >attrs/noted
setfattr -n user.note -v 'a=b' attrs/noted
cp plain/bin/script attrs/capable
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 attrs/capable
echo signed >attrs/signed
setfattr -n security.ima -v 0x0404$(sha256sum attrs/signed | cut -c1-64) attrs/signed

find . -exec touch -h -d @1700000000 {} +
gnu() { # NAME DIR OPTION...
	name=$1 dir=$2
	shift 2
	tar --create --file="$out/$name" --directory="$dir" --blocking-factor=1 --sort=name --owner=root:0 --group=root:0 "$@" .
}
steady='--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'
gnu gnu-v7.tar plain --format=v7 --exclude=fifo
for f in oldgnu gnu ustar; do gnu gnu-$f.tar plain --format=$f; done
gnu gnu-posix.tar plain --format=posix "$steady" --mtime='@1700000000.25'
gnu gnu-long.tar long --format=gnu
gnu posix-long.tar long --format=posix "$steady"
gnu gnu-negative.tar plain --format=gnu --mtime=@-1 --owner=big:3000000 --group=big:3000000
gnu posix-negative.tar plain --format=posix "$steady" --mtime=@-2 --owner=big:3000000 --group=big:3000000
gnu gnu-odd.tar odd --format=gnu
gnu posix-odd.tar odd --format=posix "$steady" --exclude="$(printf 'latin\351')"
gnu gnu-sparse.tar sparse --format=gnu --sparse
gnu gnu-sparse-many.tar many --format=gnu --sparse
gnu gnu-sparse-long.tar sparselong --format=gnu --sparse
for v in 0.0 0.1 1.0; do gnu posix-sparse-$v.tar sparse --format=posix "$steady,exthdr.name=PaxHeaders/%f" --sparse --sparse-version=$v; done
gnu posix-sparse-long.tar sparselong --format=posix "$steady,exthdr.name=PaxHeaders/%f" --sparse
gnu posix-attrs.tar attrs --format=posix "$steady" --xattrs --xattrs-include='*'
gnu posix-attrs-only.tar attrs --format=posix "$steady,delete=mtime" --xattrs --xattrs-include='security.*'
tar --create --file="$out/gnu-twice.tar" --directory=plain --blocking-factor=1 --hard-dereference --owner=root:0 --group=root:0 etc/data etc/empty etc/data

bsd() { # NAME DIR OPTION...
	name=$1 dir=$2
	shift 2
	LC_ALL=C.UTF-8 bsdtar -c -f "$out/$name" -C "$dir" -b 1 --uid 0 --gid 0 --uname root --gname root "$@" .
}
bsd bsd-v7tar.tar plain --format v7tar --exclude fifo
for f in gnutar ustar pax; do bsd bsd-$f.tar plain --format $f; done
bsd bsd-gnutar-long.tar long --format gnutar
bsd bsd-pax-long.tar long --format pax
bsd bsd-pax-odd.tar odd --format pax || true # warns of a name that is not UTF-8
bsd bsd-pax-sparse.tar sparse --format pax --read-sparse
bsd bsd-pax-attrs.tar attrs --format pax --xattrs

python3 - "$out" <<'PY'
import sys, tarfile, os
for name, fmt in (('ustar', tarfile.USTAR_FORMAT), ('gnu', tarfile.GNU_FORMAT), ('pax', tarfile.PAX_FORMAT)):
    with tarfile.open(f'{sys.argv[1]}/python-{name}.tar', 'w', format=fmt, bufsize=512) as t:
        def root(i):
            i.uid = i.gid = 0 if name == 'ustar' else 3000000
            i.uname = i.gname = 'root'
            return i
        t.add('plain', '.', filter=root)
        if name != 'ustar':
            t.add('long', 'long', filter=root)
            t.add('odd', 'odd', filter=root)
PY

git init -q git
cp -r plain/etc git/
rm git/etc/fifo
git -C git add .
GIT_AUTHOR_DATE=@1700000000+0000 GIT_COMMITTER_DATE=@1700000000+0000 git -C git -c user.name=a -c user.email=a@example.org commit -q -m a
git -C git archive --format=tar HEAD >"$out/git-archive.tar"

cd "$out"
go run make.go
for f in *.tar; do # the tools round up to records
	python3 - "$f" <<'PY'
import sys
b = open(sys.argv[1], 'rb').read()
s = b.rstrip(b'\0')
n = (len(s) + 511) // 512 * 512 + 1024
if not sys.argv[1].startswith('hand-') and len(b) > n:
    open(sys.argv[1], 'wb').write(b[:n])
PY
done
