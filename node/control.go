// SPDX-License-Identifier: Apache-2.0

//go:build linux

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sbom-bless/sbom-bless/diagnose"
)

// request is what another process of the host's root asks the agent: one of them.
type request struct {
	// Hook is the state that a runtime gave an OCI hook.
	Hook *specs.State `json:"hook,omitempty"`
	// Reload puts the policy file in force.
	Reload *Reload `json:"reload,omitempty"`
	// Confirm keeps the policy on trial.
	Confirm bool `json:"confirm,omitempty"`
	// Why explains denials.
	Why *Why `json:"why,omitempty"`
}

// Why says which.
type Why struct {
	diagnose.Query
	Limit int `json:"limit"`
}

// Reload says how.
type Reload struct {
	// Confirm is the time in which the policy must be confirmed; 0 means that it need not be.
	Confirm time.Duration `json:"confirm,omitempty"`
}

type answer struct {
	Error string `json:"error,omitempty"`
	// Refused: the error is the policy's word, not a failure.
	Refused bool `json:"refused,omitempty"`
	// Explained are the answer to Why.
	Explained []diagnose.Explanation `json:"explained,omitempty"`
}

// Lock makes the state directory this agent's, until what it gives is closed or the process ends.
func Lock(state string) (io.Closer, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(lockPath(state), os.O_CREATE|os.O_RDONLY, 0o600) // for writing, it is the agent's alone
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("an agent runs already\nhint: `systemctl status sbom-bless` shows it; one that runs by hand ends by SIGTERM")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// Forget removes what an agent leaves in its state directory, and the directory if nothing else
// is in it.
func Forget(state string) error {
	errs := []error{os.RemoveAll(filepath.Join(state, "containers"))}
	for _, name := range []string{PolicyInForce(state), trialPath(state), SocketPath(state), lockPath(state)} {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	_ = os.Remove(state)
	return errors.Join(errs...)
}

func lockPath(state string) string { return filepath.Join(state, "agent.lock") }

// SocketPath is where an agent listens.
func SocketPath(state string) string { return filepath.Join(state, "agent.sock") }

// Server answers requests over a socket that only root can use.
type Server struct {
	Agent *Agent
	// Containerd may be nil.
	Containerd *Containerd
	State      string
}

// Listen makes the socket. Who asks from then on is answered by Serve.
func (s *Server) Listen() (net.Listener, error) {
	path := SocketPath(s.State)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// Serve answers until ctx is done.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.Addr(), err)
		}
		go s.talk(ctx, conn.(*net.UnixConn))
	}
}

// talk answers one request.
func (s *Server) talk(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if err := fromRoot(conn); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // a deadline on an open socket cannot fail
	var req request
	if err := json.NewDecoder(conn).Decode(&req); err != nil {
		return
	}
	a, err := s.do(ctx, &req)
	if err != nil {
		var refused *Refused
		a = answer{Error: err.Error(), Refused: errors.As(err, &refused)}
	}
	_ = json.NewEncoder(conn).Encode(a) // who asked is gone, then
}

func (s *Server) do(ctx context.Context, req *request) (a answer, err error) {
	switch {
	case req.Hook != nil:
		begun := time.Now()
		defer func() { s.Agent.o.Metrics.waited(askedByHook, begun) }()
		c, err := fromHook(ctx, req.Hook, s.Containerd)
		if err != nil {
			err = fmt.Errorf("container %s: %w", req.Hook.ID, err)
			s.Agent.problem(req.Hook.ID, err)
			return a, err
		}
		if err := s.Agent.Admit(ctx, c, Starting); err != nil {
			s.Agent.problem(c.Name, err) // the hook's word may go nowhere
			return a, err
		}
		return a, nil
	case req.Reload != nil:
		return a, s.Agent.Reload(ctx, req.Reload.Confirm)
	case req.Confirm:
		return a, s.Agent.Confirm()
	case req.Why != nil:
		a.Explained, err = s.Agent.Why(req.Why.Query, req.Why.Limit)
		return a, err
	}
	return a, errors.New("a request of another version")
}

// fromRoot tells whether the other side is the host's root.
func fromRoot(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if int(cred.Uid) != os.Geteuid() {
		return errors.New("not root")
	}
	return nil
}

// ErrNoAgent says that no agent answers.
var ErrNoAgent = errors.New("no agent answers")

// ErrRefused says that the policy forbids a container to start.
var ErrRefused = errors.New("refused by the policy")

// ask sends a request to the agent of the state directory.
func ask(ctx context.Context, state string, req request) (a answer, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", SocketPath(state))
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return a, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return a, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	switch {
	case a.Refused:
		return a, fmt.Errorf("%w: %s", ErrRefused, a.Error)
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

// AskHook has the agent decide about a container that is being created.
func AskHook(ctx context.Context, state string, container *specs.State) error {
	_, err := ask(ctx, state, request{Hook: container})
	return err
}

// AskReload has the agent put its policy file in force.
func AskReload(ctx context.Context, state string, confirm time.Duration) error {
	_, err := ask(ctx, state, request{Reload: &Reload{confirm}})
	return err
}

// AskConfirm has the agent keep the policy on trial.
func AskConfirm(ctx context.Context, state string) error {
	_, err := ask(ctx, state, request{Confirm: true})
	return err
}

// AskWhy has the agent explain denials.
func AskWhy(ctx context.Context, state string, which Why) ([]diagnose.Explanation, error) {
	a, err := ask(ctx, state, request{Why: &which})
	return a.Explained, err
}
