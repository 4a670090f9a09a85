// SPDX-License-Identifier: Apache-2.0

//go:build linux

package attack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	atExecveCheck = 0x10000 // AT_EXECVE_CHECK, include/uapi/linux/fcntl.h of 6.14
	noPath        = "empty-path"
)

// execveat calls it on an open file, without a path.
func execveat(fd int, flags int) error {
	empty := []byte{0}
	argv := []*byte{&empty[0], nil}
	env := []*byte{nil}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), pointer(empty),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), uintptr(unix.AT_EMPTY_PATH|flags), 0)
	return errnoError(errno)
}

// emptyPath is a process that becomes the program open as descriptor 3.
func emptyPath() int {
	fmt.Println(execveat(3, 0)) // returns only errors
	return 1
}

// stage starts this program, to do a part of an attack.
func stage(name string, files ...*os.File) *exec.Cmd {
	cmd := exec.Command("/bin/program")
	cmd.Env = []string{"STAGE=" + name}
	cmd.ExtraFiles = files
	return cmd
}

// marker is a directory that what must not run makes where nobody waits for it.
const marker = "/marker"

// marking is a static executable that makes the directory marker in the root
// that it sees, then exits with status evil.
func marking() []byte {
	b := tiny(evil)
	text := []byte{
		0x48, 0x8d, 0x3d, 25, 0, 0, 0, // lea rdi, [rip + 25]: the name behind the code
		0xbe, 0xed, 1, 0, 0, // mov esi, 0755
		0xb8, 83, 0, 0, 0, // mov eax, mkdir
		0x0f, 0x05, // syscall
		0xbf, evil, 0, 0, 0, // mov edi, evil
		0xb8, 60, 0, 0, 0, // mov eax, exit
		0x90,       // nop
		0x0f, 0x05, // syscall
	}
	const headers = 64 + 56
	b = append(b[:headers:headers], text...)
	b = append(append(b, marker...), 0)
	for _, at := range []int{64 + 32, 64 + 40} { // p_filesz, p_memsz
		b[at], b[at+1] = byte(len(b)), byte(len(b)>>8)
	}
	return b
}

// marked tells whether marking ran in the root filesystem root; nil if so. A
// helper of the kernel runs some time later; the verifier denies it silently
// for whoever caused it, so that is EPERM.
func marked(root string) error {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		err := os.Remove(root + marker)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("it did not run: %w", syscall.EPERM)
}

// crash ends a process by a signal that dumps core.
func crash() int {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
		return 1
	}
	// What the Go runtime does with signals is in the way: the default, then.
	signal := [4]uint64{} // struct sigaction: SIG_DFL
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGABRT), uintptr(unsafe.Pointer(&signal)), 0, 8, 0, 0); errno != 0 {
		return 1
	}
	if err := unix.Kill(os.Getpid(), unix.SIGABRT); err != nil {
		return 1
	}
	time.Sleep(time.Minute)
	return 1
}
