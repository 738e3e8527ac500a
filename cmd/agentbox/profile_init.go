package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/profiles"
	"agentbox/internal/starter"
	"agentbox/internal/workspace"
	builtin "agentbox/profiles"
)

// initOptions are the flags of `profile init`.
type initOptions struct {
	name, extends       string
	user, force, stdout bool
}

func newProfileInit(a *app) *cobra.Command {
	o := initOptions{}
	cmd := &cobra.Command{
		Use: "init [NAME]", Short: "Write a first profile for this repository, from what it looks like",
		Long: `Looks at the repository (languages, lock files, registries, remotes, files that look like secrets, devcontainer.json,
.claude/settings.json) and writes .agentbox/NAME.toml, a commented profile that extends a built-in one. Nothing is
allowed on the word of a file alone: hosts that the repository names stand in it commented out. NAME is the name of
the repository's directory when it is left out. Nothing is run, and nothing is asked of the network.

Exit codes: 0 written, 1 it could not be written, 2 usage, or the file is there already and --force was not given.`,
		Example: "  agentbox profile init\n  agentbox profile init review --extends codex\n  agentbox profile init --stdout",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, fmt.Errorf("%s takes one name at most", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
				if err := checkName(cmd, o.name); err != nil {
					return err
				}
			}
			return a.profileInit(cmd, o)
		},
	}
	cmd.Flags().StringVar(&o.extends, "extends", "claude", "the profile to build on")
	cmd.Flags().BoolVar(&o.user, "user", false, "write it for yourself alone, below ~/.config/agentbox/profiles")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace a file that is there")
	cmd.Flags().BoolVar(&o.stdout, "stdout", false, "print it, and write nothing")
	cmd.MarkFlagsMutuallyExclusive("stdout", "user")
	cmd.MarkFlagsMutuallyExclusive("stdout", "force")
	_ = cmd.RegisterFlagCompletionFunc("extends", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeEach(profileNames)(a, nil)
	})
	return cmd
}

func (a *app) profileInit(cmd *cobra.Command, o initOptions) error {
	paths, repo, err := a.here()
	if err != nil {
		return err
	}
	l, err := a.layers(paths, repo.Root)
	if err != nil {
		return err
	}
	if o.name, err = initName(cmd, o, repo); err != nil {
		return err
	}
	base, err := profiles.Load(o.extends, l.files)
	if err != nil {
		return err
	}
	facts, err := lookAt(cmd.Context(), repo)
	if err != nil {
		return err
	}
	facts = facts.Spare(tracked(repo))
	data := starter.Profile(facts, starter.Options{
		Name: o.name, Base: o.extends, Reach: reach(base.Profile), Time: timeOf(base.Profile), Personal: o.user,
		Sets: slices.DeleteFunc(l.files.SetNames(), func(s string) bool { return s == "origin" }),
	})
	if _, err := starter.Check(data, o.name, o.user, l.files); err != nil {
		return err
	}
	if o.stdout {
		_, err := a.out.Write(data)
		return err
	}
	top, rel := repo.Root, ".agentbox/"+o.name+".toml"
	if o.user {
		top, rel = paths.Config, "profiles/"+o.name+".toml"
		if err := os.MkdirAll(top, 0o700); err != nil {
			return fmt.Errorf("making your configuration's directory: %w", err)
		}
	}
	if err := starter.Write(top, rel, data, o.force); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &usageError{err, "--force replaces it; --stdout shows what would be written"}
		}
		return err
	}
	a.sayInit(o, facts, filepath.Join(top, rel), rel)
	return nil
}

// initName is the name given, or one made of the directory's. It is never one of the built-in ones: a file of that name
// would change what `agentbox run claude` does.
func initName(cmd *cobra.Command, o initOptions, repo workspace.Repo) (string, error) {
	taken := profiles.Files{BuiltIn: builtin.Files()}.Names()
	name := o.name
	if name == "" {
		if name = starter.NameFrom(filepath.Base(repo.Root)); name == "" {
			name = "work"
		}
		if slices.Contains(append(taken, o.extends), name) {
			name = starter.NameFrom(name + "-here")
		}
	}
	switch {
	case name == o.extends:
		return "", usage(cmd, fmt.Errorf("profile %q cannot extend itself", name))
	case slices.Contains(taken, name):
		return "", usage(cmd, fmt.Errorf("%q is a built-in profile: give yours a name of its own", name))
	}
	return name, nil
}

// reach names the agent for a description, as the built-in profile at the root does: "NAME with …".
func reach(p profiles.Profile) string {
	if len(p.Chain) == 0 {
		return ""
	}
	root, err := profiles.Load(p.Chain[0], profiles.Files{BuiltIn: builtin.Files()})
	if err != nil { // the root is one of the person's own, or of the repository's
		return ""
	}
	name, _, found := strings.Cut(root.Profile.Description, " with ")
	if !found || root.Profile.Agent.Install == "" {
		return ""
	}
	return name
}

// timeOf is the time limit that the base has here, by its own file or by an agentbox.toml, and the file that sets it.
func timeOf(p profiles.Profile) starter.Fact {
	at, said := p.Origins.Outline()["budget.time"]
	if !said || p.Budget.Time == 0 {
		return starter.Fact{}
	}
	return starter.Fact{What: p.Budget.Time.String(), File: at.File}
}

// lookAt surveys the repository. Its files are opened below its top, wherever links lead.
func lookAt(ctx context.Context, repo workspace.Repo) (starter.Facts, error) {
	root, err := os.OpenRoot(repo.Root)
	if err != nil {
		return starter.Facts{}, fmt.Errorf("looking at the repository: %w", err)
	}
	defer func() { _ = root.Close() }()
	return starter.Survey(root.FS(), remotes(ctx, repo)), nil
}

// remotes gives the addresses of the repository's remotes, origin's first ("" without one). Git reads that
// one file, from a directory that is nobody's repository, so that nothing in it is obeyed.
func remotes(ctx context.Context, repo workspace.Repo) []string {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	git := exec.CommandContext(ctx, "git", "config", "--file", filepath.Join(repo.Common, "config"), "--no-includes", "--get-regexp", `^remote\..*\.url$`)
	git.Dir = "/"
	git.Env = []string{"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C"}
	out, err := git.Output()
	if err != nil {
		return nil
	}
	all := []string{""}
	for line := range strings.Lines(string(out)) {
		key, url, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "remote.origin.url" {
			all[0] = url
		} else {
			all = append(all, url)
		}
	}
	return all
}

// tracked tells the patterns that match a file which git tracks.
func tracked(repo workspace.Repo) func(pattern string) bool {
	return func(pattern string) bool {
		s, err := workspace.Look(repo, []string{pattern})
		return err == nil && slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "tracked by git") })
	}
}

// sayInit tells what was found, and what to do next.
func (a *app) sayInit(o initOptions, facts starter.Facts, file, rel string) {
	for _, line := range facts.Lines() {
		a.say("%s", line)
	}
	a.say("wrote %s", file)
	a.say("next:")
	steps := [][2]string{
		{"agentbox run " + o.name + " --dry-run", "what it comes to"},
		{"agentbox trust", "accept it on this machine"},
		{"git add " + rel, "share it with the team"},
	}
	if o.user {
		steps = steps[:1]
	}
	for _, s := range steps {
		a.say("  %-36s %s", s[0], s[1])
	}
}
