package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"agentbox/internal/subprocess"
)

const (
	// signTime bounds how long a program of the host may take: somebody may have to type a PIN into a window of their
	// desktop, or to touch a token.
	signTime     = 2 * time.Minute
	maxSignature = 64 << 10
	maxComplaint = 4 << 10
)

// Sign signs payload as git does: gpg by its standard streams, ssh-keygen and its kind by files. dir is a directory of
// this run alone, for those. The error says what the program said: it is for the person, not for the agent.
func (k Key) Sign(ctx context.Context, dir string, payload []byte) (signature []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, signTime, fmt.Errorf("it took longer than %s", signTime))
	defer cancel()
	begin, out := "-----BEGIN PGP SIGNATURE-----", &subprocess.Output{Most: maxSignature, Strict: true}
	said := &subprocess.Output{Most: maxComplaint}
	switch k.Format {
	case OpenPGP:
		err = k.run(ctx, bytes.NewReader(payload), out, said, "--status-fd=2", "-bsau", k.ID)
		signature = out.Bytes()
	case SSH:
		begin = "-----BEGIN SSH SIGNATURE-----"
		signature, err = k.signFile(ctx, dir, payload, said)
	default:
		err = errors.New("there is no key to sign with")
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", filepath.Base(k.Program), context.Cause(ctx))
	case out.Over():
		err = errors.New("its output is too long")
	case err == nil && !bytes.HasPrefix(signature, []byte(begin)):
		err = errNoSignature
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", filepath.Base(k.Program), err, complaint(string(said.Bytes())))
	}
	return signature, nil
}

// signFile has a file signed, in a directory for the time being. A key that is written out in git's configuration lies
// beside it.
func (k Key) signFile(ctx context.Context, dir string, payload []byte, said *subprocess.Output) ([]byte, error) {
	tmp, err := os.MkdirTemp(dir, "sign-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // the run's directory goes as a whole
	key, file := k.ID, filepath.Join(tmp, "payload")
	if k.Literal {
		key = filepath.Join(tmp, "key.pub")
		if err := os.WriteFile(key, []byte(k.Public+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(file, payload, 0o600); err != nil {
		return nil, err
	}
	if err := k.run(ctx, nil, io.Discard, said, "-Y", "sign", "-n", "git", "-f", key, file); err != nil {
		return nil, err
	}
	return readSmall(file + ".sig")
}

// run runs the program without a shell, without a terminal, in a session of its own.
func (k Key) run(ctx context.Context, in io.Reader, out, said io.Writer, args ...string) error {
	cmd := subprocess.Command(ctx, k.Program, args...)
	cmd.Dir, cmd.Env = "/", environ(os.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // which is a group too
	return cmd.Run()
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
