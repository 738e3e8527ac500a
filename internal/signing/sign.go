package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// signTime bounds how long a program of the host may take: somebody may have to type a PIN into a window of their
	// desktop, or to touch a token.
	signTime     = 2 * time.Minute
	killTime     = 5 * time.Second // for what it leaves behind with its output open
	maxSignature = 64 << 10
	maxComplaint = 4 << 10
)

// Sign signs payload. dir is a directory of this run alone, for what a program wants as a file. The error says what the
// program said: it is for the person, not for the agent.
func (k Key) Sign(ctx context.Context, dir string, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signTime, fmt.Errorf("it took longer than %s", signTime))
	defer cancel()
	switch k.Format {
	case OpenPGP:
		return k.run(ctx, payload, "-----BEGIN PGP SIGNATURE-----", "--status-fd=2", "-bsau", k.ID)
	case SSH:
		file, done, err := k.sshKey(dir)
		if err != nil {
			return nil, err
		}
		defer done()
		return k.run(ctx, payload, "-----BEGIN SSH SIGNATURE-----", "-Y", "sign", "-n", "git", "-f", file)
	}
	return nil, errors.New("there is no key to sign with")
}

// sshKey gives the file that names the key. A key that is written out in git's configuration gets one for the time being.
func (k Key) sshKey(dir string) (file string, done func(), err error) {
	if !k.Literal {
		return k.ID, func() {}, nil
	}
	tmp, err := os.MkdirTemp(dir, "sign-")
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = os.RemoveAll(tmp) } // the run's directory goes as a whole
	file = filepath.Join(tmp, "key.pub")
	if err := os.WriteFile(file, []byte(k.Public+"\n"), 0o600); err != nil {
		done()
		return "", nil, err
	}
	return file, done, nil
}

// run runs the program without a shell, without a terminal, in a session of its own that ends with ctx as a whole.
func (k Key) run(ctx context.Context, payload []byte, begin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, k.Program, args...)
	out, said := &bounded{most: maxSignature}, &bounded{most: maxComplaint, drop: true}
	cmd.Dir, cmd.Env = "/", environ(os.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(payload), out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killTime
	err := cmd.Run()
	switch signature := out.String(); {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", filepath.Base(k.Program), context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("%s: %w%s", filepath.Base(k.Program), err, complaint(said.String()))
	case !strings.HasPrefix(signature, begin):
		return nil, fmt.Errorf("%s: %w%s", filepath.Base(k.Program), errNoSignature, complaint(said.String()))
	default:
		return []byte(signature), nil
	}
}

// environ is the person's own. The terminal is the agent's while a run lasts, so that no program may ask for a passphrase
// there; a window of the desktop may.
func environ(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "GPG_TTY" || name == "SSH_ASKPASS_REQUIRE"
	})
}

// complaint is the last of what a program said to people.
func complaint(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "[GNUPG:]") || strings.TrimSpace(l) == "" })
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(shorten(lines[len(lines)-1]), "\ufffd")
}

// bounded keeps the beginning of what is written. What is more is an error, or dropped.
type bounded struct {
	buf  bytes.Buffer
	most int
	drop bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.most - b.buf.Len()
	if len(p) > room && !b.drop {
		return 0, errors.New("its output is too long")
	}
	b.buf.Write(p[:min(room, len(p))])
	return len(p), nil
}

func (b *bounded) String() string { return b.buf.String() }
