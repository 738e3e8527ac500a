package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"agentbox/internal/profiles"
	"agentbox/internal/secrets"
	"agentbox/internal/starter"
)

func newSecret(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "secret", Short: "Keep credentials in your keyring, for the proxy to use",
		Long: `Credentials live in the keyring of your session (Secret Service, Keychain). A profile names them; the proxy puts
them into requests to the profile's hosts; no agent ever sees one.`,
		Example: "  agentbox secret set anthropic\n  pass show anthropic | agentbox secret set anthropic\n  agentbox secret rm anthropic",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, errors.New("agentbox secret takes a verb"))
		},
	}
	cmd.AddCommand(newSecretSet(a), newSecretRm(a))
	return cmd
}

func newSecretSet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "set NAME", Short: "Store a credential, read without echo or from stdin",
		Long: `Reads a credential from the terminal without showing it, or from standard input when that is not a terminal, and
stores it in the keyring under NAME, in place of one that was there.

Exit codes: 0 stored, 1 the keyring did not take it, 2 usage.`,
		Example: "  agentbox secret set anthropic\n  pass show anthropic | agentbox secret set anthropic",
		Args:    exactly(1, "one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkName(cmd, args[0]); err != nil {
				return err
			}
			value, err := a.readSecret(args[0])
			if err != nil {
				return err
			}
			if err := (secrets.Keyring{}).Set(cmd.Context(), args[0], value); err != nil {
				return err
			}
			a.say("stored %q in your keyring", args[0])
			return nil
		},
	}
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

// readSecret takes one line. What a terminal or a file puts behind it is not part of the secret.
func (a *app) readSecret(name string) (secrets.Secret, error) {
	var line string
	if fd := int(a.in.Fd()); term.IsTerminal(fd) {
		fmt.Fprintf(a.err, "%s (not shown): ", name)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(a.err)
		if err != nil {
			return secrets.Secret{}, fmt.Errorf("reading the secret: %w", err)
		}
		line = string(b)
	} else {
		text, err := bufio.NewReader(io.LimitReader(a.in, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return secrets.Secret{}, fmt.Errorf("reading the secret: %w", err)
		}
		line = text
	}
	line = strings.TrimSpace(line)
	if line == "" {
		return secrets.Secret{}, &usageError{errors.New("the secret is empty"), "type or pipe it: pass show NAME | agentbox secret set NAME"}
	}
	return secrets.New(line), nil
}
