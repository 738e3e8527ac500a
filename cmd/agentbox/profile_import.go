package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"agentbox/internal/profiles"
	"agentbox/internal/session"
	"agentbox/internal/starter"
)

// importOptions are the flags of `profile import`.
type importOptions struct {
	file, name, output, extends string
	force                       bool
}

func newProfileImport(a *app) *cobra.Command {
	o := importOptions{}
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Make a profile of another tool's settings",
		Long: `Reads Claude Code's settings.json, the settings of srt (~/.srt-settings.json) or a devcontainer.json, and prints the
profile that comes closest. On stderr stands, line by line, what was not carried over and why, and what became
narrower or wider. Where something cannot be said exactly, it is said more narrowly. Of variables
only values that cannot be secrets are copied: numbers of up to six digits; true, false, on, off, yes and no; development,
test, staging and production; the log levels from trace to error; C, C.UTF-8, en_US.UTF-8 and UTC. None is printed in
messages. A summary of it all stands at the end.

Exit codes: 0 everything was carried over, 1 something was not, 2 usage, or the file is not one of these.`,
		Example: "  agentbox profile import .claude/settings.json\n  agentbox profile import ~/.srt-settings.json --name sandboxed -o .agentbox/sandboxed.toml",
		Args:    exactly(1, "one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.file = args[0]
			if o.name == "" {
				return a.profileImport(cmd, o)
			}
			if err := checkName(cmd, o.name); err != nil {
				return err
			}
			if o.name == o.extends {
				return usage(cmd, fmt.Errorf("profile %q cannot extend itself", o.name))
			}
			return a.profileImport(cmd, o)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []cobra.Completion{"json"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	cmd.Flags().StringVar(&o.name, "name", "", "the profile's name")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "write it there")
	cmd.Flags().StringVar(&o.extends, "extends", "claude", "the profile to build on")
	cmd.Flags().BoolVar(&o.force, "force", false, "with -o: replace a file that is there")
	_ = cmd.RegisterFlagCompletionFunc("extends", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeEach(profileNames)(a, nil)
	})
	return cmd
}

func (a *app) profileImport(cmd *cobra.Command, o importOptions) error {
	paths, err := a.paths()
	if err != nil {
		return err
	}
	ground := a.importGround(paths)
	l, err := a.layers(paths, ground.Repo)
	if err != nil {
		return err
	}
	base, err := profiles.Load(o.extends, l.files)
	if err != nil {
		return err
	}
	data, err := readSettings(o.file)
	if err != nil {
		return usage(cmd, err)
	}
	made, err := starter.Import(data, o.file, starter.ImportOptions{Ground: ground, Name: o.name, Base: o.extends, Merged: &base.Profile})
	if err != nil {
		return usage(cmd, err)
	}
	checked, err := starter.Check(made.Profile, importName(o), false, l.files)
	if err != nil {
		return fmt.Errorf("what was made of %q is not a profile: %w", o.file, err)
	}
	if err := a.writeImport(o, made.Profile); err != nil {
		return err
	}
	for _, n := range made.Notes {
		fmt.Fprintln(a.err, escapedLines(fmt.Sprint(n)))
	}
	for _, w := range checked.Warnings {
		fmt.Fprintln(a.err, escapedLines(w.Error()))
	}
	a.sumImport(o, made)
	if !made.Whole() {
		return exitCode(exitFinding)
	}
	return nil
}

// sumImport says in one place, after the notes, what was written and what it came to.
func (a *app) sumImport(o importOptions, made starter.Imported) {
	if o.output != "" {
		a.say("wrote %s", o.output)
	}
	text := "read " + string(made.Format)
	for _, k := range []struct {
		kind       starter.Kind
		one, other string
	}{
		{starter.Dropped, "was not carried over", "were not carried over"},
		{starter.Wider, "became wider", "became wider"}, {starter.Narrower, "became narrower", "became narrower"},
	} {
		switch n := made.Count(k.kind); n {
		case 0:
		case 1:
			text += "; " + starter.Things(n) + " " + k.one
		default:
			text += "; " + starter.Things(n) + " " + k.other
		}
	}
	a.say("%s", text)
}

// importName is what the profile is checked as: its own name, or one that nothing has.
func importName(o importOptions) string {
	if o.name != "" {
		return o.name
	}
	return "imported-settings"
}

// importGround is where the settings hold: the repository around the person, if there is one, and their home.
func (a *app) importGround(paths session.Paths) (g starter.Ground) {
	if p, err := a.person(); err == nil {
		g.Home = p.Home
	}
	if repo, err := a.repository(paths); err == nil {
		g.Repo = repo.Root
	}
	return g
}

// maxImport is more than any settings file has; the reader refuses less.
const maxImport = 4 << 20

// readSettings reads a regular file, without waiting for one that is something else.
func readSettings(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, bare(err))
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("reading %q: it is not a regular file", path), err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxImport))
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	return data, nil
}

// bare leaves out the path that the message names already.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (a *app) writeImport(o importOptions, data []byte) error {
	if o.output == "" {
		_, err := a.out.Write(data)
		return err
	}
	abs, err := filepath.Abs(o.output)
	if err != nil {
		return fmt.Errorf("writing %q: %w", o.output, err)
	}
	err = starter.Write(filepath.Dir(abs), filepath.Base(abs), data, o.force)
	if errors.Is(err, fs.ErrExist) {
		return &usageError{err, "--force replaces it"}
	}
	return err
}
