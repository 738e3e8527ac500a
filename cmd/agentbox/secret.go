package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"agentbox/internal/profiles"
	"agentbox/internal/secrets"
	"agentbox/internal/starter"
	"agentbox/internal/sys"
)

func newSecret(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "secret", Short: "Keep credentials in your keyring, for the proxy to use",
		Long: `Credentials live in the keyring of your session (Secret Service, Keychain). A profile names them; the proxy puts
them into requests to the profile's hosts; no agent ever sees one.`,
		Example: "  agentbox secret set anthropic\n  pass show anthropic | agentbox secret set anthropic\n  agentbox secret list\n  agentbox secret test anthropic\n  agentbox secret rm anthropic",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, errors.New("agentbox secret takes a verb"))
		},
	}
	cmd.AddCommand(newSecretSet(a), newSecretList(a), newSecretTest(a), newSecretRm(a))
	return cmd
}

func newSecretSet(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Store a credential, read without echo or from stdin",
		Long: `Reads a credential from the terminal without showing it, or from standard input when that is not a terminal, and
stores it in the keyring under NAME, in place of one that was there. A credential is one line; a private key (PEM) is taken
whole, from standard input or with --file.

Exit codes: 0 stored, 1 the keyring did not take it, 2 usage.`,
		Example: "  agentbox secret set anthropic\n  pass show anthropic | agentbox secret set anthropic\n  agentbox secret set my-app --file ~/Downloads/my-app.private-key.pem",
		Args:    exactly(1, "one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkName(cmd, args[0]); err != nil {
				return err
			}
			value, err := a.readSecret(args[0], file)
			if err != nil {
				return err
			}
			if err := (secrets.Keyring{}).Set(cmd.Context(), args[0], value); err != nil {
				return err
			}
			a.say("stored %q in your keyring", args[0])
			if err := secrets.Carries(value); err != nil && !isPrivateKey([]byte(value.Reveal())) {
				a.say("warning: no credential can use it, only what stays on this machine, such as the password of an upstream proxy: %s", err)
			}
			if file != "" {
				a.say("hint: the file is not needed any more: rm %s", file)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "read it from this file")
	return cmd
}

func newSecretRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a credential from the keyring",
		Long:    "Removes a credential from the keyring.\n\nExit codes: 0 removed, 1 there is none of that name or the keyring did not answer, 2 usage.",
		Example: "  agentbox secret rm anthropic",
		Args:    exactly(1, "one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkName(cmd, args[0]); err != nil {
				return err
			}
			if err := (secrets.Keyring{}).Delete(cmd.Context(), args[0]); err != nil {
				return err
			}
			a.say("removed %q from your keyring", args[0])
			return nil
		},
	}
}

func checkName(cmd *cobra.Command, name string) error {
	var n profiles.Name
	if err := n.UnmarshalText([]byte(name)); err != nil {
		offer := ""
		if near := starter.NameFrom(name); near != "" {
			offer = ": " + near
		}
		return &usageError{err, "names are of lower-case letters, digits and hyphens, and begin with a letter or a digit" + offer + "\n" + cmd.CommandPath() + " --help"}
	}
	return nil
}

// maxSecret is more than a token has, or a private key.
const maxSecret = 64 << 10

// readSecret takes one line, or a private key whole. What a terminal or a file puts behind it is not part of the secret.
func (a *app) readSecret(name, file string) (secrets.Secret, error) {
	text, err := a.secretText(name, file)
	defer clear(text)
	if err != nil {
		return secrets.Secret{}, fmt.Errorf("reading the secret: %w", err)
	}
	if len(text) > maxSecret {
		return secrets.Secret{}, &usageError{fmt.Errorf("the secret is longer than %d KiB", maxSecret>>10), "give the token alone"}
	}
	bare := bytes.TrimSpace(text)
	key := isPrivateKey(bare)
	switch {
	case len(bare) == 0:
		return secrets.Secret{}, &usageError{errors.New("the secret is empty"), "type or pipe it: pass show NAME | agentbox secret set NAME"}
	case !key && bytes.ContainsFunc(bare, unicode.IsControl) || !utf8.Valid(bare):
		return secrets.Secret{}, &usageError{errors.New("the secret is more than one line, or holds control characters"), "give the token alone; a private key begins with -----BEGIN"}
	}
	return secrets.New(string(bare)), nil
}

func isPrivateKey(text []byte) bool { return bytes.HasPrefix(text, []byte("-----BEGIN ")) }

func (a *app) secretText(name, file string) ([]byte, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		return io.ReadAll(io.LimitReader(f, maxSecret+1))
	}
	fd := int(a.in.Fd())
	if !term.IsTerminal(fd) {
		return io.ReadAll(io.LimitReader(a.in, maxSecret+1))
	}
	defer fmt.Fprintln(a.err)
	return readHidden(fd, func() { fmt.Fprintf(a.err, "%s (not shown): ", name) })
}

// readHidden reads a line that the terminal does not show, and prompts for it once that is so. However it ends, the terminal is left as it was: a signal does
// what it would do, after that. To stop meanwhile is not possible: what is typed when it goes on would be shown.
func readHidden(fd int, prompt func()) ([]byte, error) {
	before, err := unix.IoctlGetTermios(fd, sys.GetTermios)
	if err != nil {
		return nil, err
	}
	// What is left to read, of a paste of several lines, is not for a shell. Where it fails, the terminal is gone.
	restore := func() { _ = unix.IoctlSetTermios(fd, sys.SetTermiosFlush, before) }
	defer restore()
	signal.Ignore(syscall.SIGTSTP)
	defer signal.Reset(syscall.SIGTSTP)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(ends)
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Cc[unix.VSUSP] = 0 // Ctrl-Z is a character, which is refused
	if err := unix.IoctlSetTermios(fd, sys.SetTermios, &hidden); err != nil {
		return nil, err
	}
	read := make(chan struct{})
	defer close(read)
	go func() {
		select {
		case <-read:
		case sig := <-ends:
			restore()
			endBy(sig)
		}
	}()
	prompt()
	return term.ReadPassword(fd)
}

// endBy ends this process by a signal that it had taken for itself.
func endBy(sig os.Signal) {
	signal.Reset(sig)
	if n, ok := sig.(syscall.Signal); ok {
		_ = syscall.Kill(os.Getpid(), n) // a process may always signal itself
	}
}
