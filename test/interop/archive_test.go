// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"path/filepath"
	"testing"
)

func TestADockerArchiveIsBlessedAndLoadedByPodman(t *testing.T) {
	im := must[image](t)(ecdsa())
	dir := workdir(t)
	saved, blessed := filepath.Join(dir, "saved.tar"), filepath.Join(dir, "blessed.tar")
	run(t, "skopeo", "copy", "-q", "oci:"+im.source+":"+tag, "docker-archive:"+saved+":test.example/debian:ci")
	must[string](t)(im.bless("docker-archive:"+saved, "docker-archive:"+blessed+":test.example/debian:blessed"))
	args := append(store(t), "--cgroup-manager", "cgroupfs", "--events-backend", "none")
	run(t, "podman", append(args[:len(args):len(args)], "load", "--quiet", "--input", blessed)...)
	checkAttributes(t, run(t, "podman", append(args, "image", "mount", "test.example/debian:blessed")...))
}

func TestAnOCIArchiveIsReadBySkopeo(t *testing.T) {
	im := must[image](t)(ecdsa())
	dir := workdir(t)
	archive, back := filepath.Join(dir, "blessed.tar"), filepath.Join(dir, "back")
	must[string](t)(im.bless("oci:"+im.source+":"+tag, "oci-archive:"+archive+":"+tag))
	run(t, "skopeo", "copy", "-q", "oci-archive:"+archive+":"+tag, "oci:"+back+":"+tag)
	if got, want := digest(t, back), digest(t, im.layout); got != want {
		t.Errorf("skopeo reads %s from the archive; the layout has %s", got, want)
	}
}

func TestTheArchiversListTheSameEntriesInABlessedLayer(t *testing.T) {
	im := must[image](t)(ecdsa())
	layer := filepath.Join(im.layout, "blobs", "sha256", layers(t, im.layout)[0].Digest.Hex)
	gnu := run(t, "tar", "-tf", layer)
	if libarchive := run(t, "bsdtar", "-tf", layer); libarchive != gnu {
		t.Error("tar and bsdtar list different entries")
	}
	source := filepath.Join(im.source, "blobs", "sha256", layers(t, im.source)[0].Digest.Hex)
	if before := run(t, "tar", "-tf", source); before != gnu {
		t.Error("the blessed layer has other entries than its source")
	}
}
