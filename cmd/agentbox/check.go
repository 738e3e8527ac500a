package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/findings"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
)

type checkOptions struct {
	profiles []string
	against  string
	manifest string
	format   string
	strict   bool
}

// formats are those that check writes.
var formats = []string{"text", "json", "sarif", "github"}

func newCheck(a *app) *cobra.Command {
	o := checkOptions{}
	cmd := &cobra.Command{
		Use: "check [PROFILE…]", Short: "Check this repository's profiles, and that a change allows nothing more",
		Long: `Checks agentbox.toml, every file in .agentbox, and every profile that they change: all that .agentbox names and, when
agentbox.toml is there, the built-in ones as it tightens them; or the PROFILEs alone. Your own layers and this machine
play no part, so that the answer is the same everywhere. Nothing is run, no network is used, and neither Podman nor a
keyring is needed; without --against, not even git.

--against REF compares each profile with what it was at a commit, branch or tag, and fails when anything is wider:
a profile that is new, with the one it extends; a deleted profile, the other way round.
--manifest FILE fails when FILE is not what agentbox manifest gives now, with one finding for each profile that differs.
Where only words differ, as after an upgrade of agentbox, it warns.
A profile of .agentbox that is looser than agentbox.toml, over which it lies, is a warning.

Findings go to standard output in the --format text, json, sarif (SARIF 2.1.0, for code scanning) or github
(annotations; the default when GITHUB_ACTIONS is "true"), the summary to standard error. JSON is one object: version,
agentbox, profiles, counts (errors, warnings, widenings, stale) and findings, each with code, severity, message and, where
known, hint, file, line, col, profile and snippet. A finding without a profile is about several, or about a file.

Exit codes: 0 nothing found, or warnings alone; 1 an error, a widening or a stale manifest, with --strict a warning
too; 2 usage, REF or FILE can't be read, or the directory is in no repository and has no layer files.`,
		Example: `  agentbox check
  agentbox check --against origin/main
  agentbox check --manifest agentbox.manifest.json
  agentbox check --format sarif >agentbox.sarif
  agentbox check billing --strict`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.profiles = args
			if o.format == "" {
				o.format = a.defaultFormat()
			}
			if !slices.Contains(formats, o.format) {
				return usage(cmd, fmt.Errorf("--format takes %s, not %q", oneOf(formats), o.format))
			}
			return a.check(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.against, "against", "", "fail when a profile is wider than at this commit, branch or tag")
	f.StringVar(&o.manifest, "manifest", "", "fail when this file is not the manifest of now")
	f.StringVar(&o.format, "format", "", "text, json, sarif or github")
	f.BoolVar(&o.strict, "strict", false, "fail on warnings too")
	return cmd
}

func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (a *app) defaultFormat() string {
	if a.getenv("GITHUB_ACTIONS") == "true" {
		return "github"
	}
	return "text"
}

// checker collects what is found in one repository.
type checker struct {
	root  string
	now   profiles.Files
	named bool // profiles were named: only they are checked
	names []string
	found []findings.Finding
	uses  map[string]*use
	crowd crowd
}

// use is a profile that can be used, and what it may do.
type use struct {
	profile profiles.Profile
	grants  plan.Grants
}

func (a *app) check(ctx context.Context, o checkOptions) error {
	defer uncollected()()
	root, err := here()
	if err != nil {
		return err
	}
	c := &checker{root: root, now: a.repoFiles(root), named: len(o.profiles) > 0, uses: map[string]*use{}}
	var then profiles.Files
	if o.against != "" {
		if then, err = a.refFiles(ctx, root, o.against); err != nil {
			return &usageError{errors.New(err.Error()), shallow(root, hintOf(err))} // a ref is of the command line: 2, whatever is wrong with it
		}
	}
	if err := c.choose(o, then); err != nil {
		return err
	}
	if !c.named {
		c.files()
	}
	if len(c.found) == 0 && c.nowhere() {
		return &usageError{fmt.Errorf("nothing to check: %s is in no git repository, and neither %s nor %s is there or in a directory above it",
			printable(c.root), repoFile, repoDir), "change to the repository first"}
	}
	for _, name := range c.names {
		c.profile(name)
	}
	if o.against != "" {
		c.against(o.against, then)
	}
	if o.manifest != "" {
		if err := c.manifest(o); err != nil {
			return err
		}
	}
	return a.tell(c, o)
}

// nowhere reports a directory that nobody meant: no repository, and no layer in it.
func (c *checker) nowhere() bool {
	return !slices.ContainsFunc([]string{".git", repoFile, repoDir}, func(name string) bool { return exists(filepath.Join(c.root, name)) })
}

// shallow adds to a hint what ails most clones of CI.
func shallow(root, hint string) string {
	if !exists(filepath.Join(root, ".git", "shallow")) {
		return hint
	}
	return "this clone has only a part of the history: fetch the rest (in actions/checkout: fetch-depth: 0)\n" + hint
}

// tell writes what was found, sums up and gives the exit code.
func (a *app) tell(c *checker, o checkOptions) error {
	r := findings.Report{Version: version, Rules: rules(), Profiles: c.names, Findings: merged(c.found)}
	var err error
	switch o.format {
	case "json":
		err = findings.JSON(a.out, r)
	case "sarif":
		err = findings.SARIF(a.out, r)
	case "github":
		err = findings.GitHub(a.out, r.Findings)
	default:
		err = findings.Text(a.out, r.Findings)
	}
	if err != nil {
		return fmt.Errorf("writing what was found: %w", err)
	}
	a.say("%s", c.summary(r.Findings))
	if findings.Count(r.Findings, findings.Widening) > 0 {
		a.say("hint: agentbox diff-plan %s: PROFILE --repo-only shows every difference", printable(o.against))
	}
	if findings.Failed(r.Findings, o.strict) {
		return exitCode(exitFinding)
	}
	return nil
}

func (c *checker) summary(fs []findings.Finding) string {
	if len(c.names) == 0 && len(fs) == 0 {
		return fmt.Sprintf("nothing to check: %s has neither %s nor %s", printable(c.root), repoFile, repoDir)
	}
	text := "checked " + times(uint64(len(c.names)), "profile")
	var parts []string
	for _, s := range []struct {
		severity findings.Severity
		what     string
	}{{findings.Error, "error"}, {findings.Widening, "widening"}, {findings.Stale, "stale entry of the manifest"}, {findings.Warning, "warning"}} {
		if n := findings.Count(fs, s.severity); n > 0 {
			parts = append(parts, counted(n, s.what))
		}
	}
	if len(parts) == 0 {
		return text + ": nothing found"
	}
	return text + ": " + strings.Join(parts, ", ")
}

func counted(n int, what string) string {
	if n > 1 && what == "stale entry of the manifest" {
		return fmt.Sprintf("%d stale entries of the manifest", n)
	}
	return times(uint64(n), what)
}

// choose decides which profiles are checked: the named ones, or those that the layers of now and then affect.
func (c *checker) choose(o checkOptions, then profiles.Files) error {
	if !c.named {
		c.names = affected(c.now)
		return nil
	}
	known := c.now.Names()
	for _, name := range o.profiles {
		if !slices.Contains(known, name) && (o.against == "" || !slices.Contains(then.Names(), name)) {
			_, err := profiles.Load(name, c.now)
			return err
		}
	}
	c.names = slices.Compact(slices.Sorted(slices.Values(o.profiles)))
	return nil
}

func (c *checker) add(f findings.Finding) { c.found = append(c.found, f) }

// profile checks one profile, once: its files, its floors, and what of it this version carries out. It reports whether
// the profile can be used.
func (c *checker) profile(name string) (use, bool) {
	u, seen := c.uses[name]
	if !seen {
		u = c.look(name)
		c.uses[name] = u
	}
	if u == nil {
		return use{}, false
	}
	return *u, true
}

func (c *checker) look(name string) *use {
	loaded, g, err := c.crowd.granted(name, c.now)
	c.problems(name, loaded.Warnings)
	if err != nil {
		c.failure(name, err)
		return nil
	}
	for _, gap := range g.Unsupported() {
		f := findings.Finding{Code: codeNotCarriedOut, Severity: findings.Warning, Profile: name,
			Message: gap.What + " is not carried out by this version: agentbox run refuses the profile", Hint: gap.Instead}
		at := gap.Origin
		if strings.HasPrefix(at, "tier ") {
			f.Message += " (" + at + ")"
			at = g.Origins["tier"]
		}
		c.add(c.placed(f, at))
	}
	c.looser(loaded.Profile, g)
	return &use{loaded.Profile, g}
}

// failure reports why a profile cannot be used.
func (c *checker) failure(name string, err error) {
	var (
		problems profiles.Problems
		refusals *plan.Refusals
	)
	switch {
	case errors.As(err, &problems):
		c.problems(name, problems)
	case errors.As(err, &refusals):
		for _, r := range refusals.List {
			c.add(c.placed(findings.Finding{Code: codeFloor, Severity: findings.Error, Profile: name, Message: r.Text, Hint: r.Instead}, r.Origin))
		}
	default:
		rest, _ := strings.CutPrefix(err.Error(), "reading ")
		if file, _, ok := strings.Cut(rest, ": "); ok && isLayer(file) {
			c.unreadable(file, err)
			return
		}
		c.add(c.placed(findings.Finding{Code: codeUnusable, Severity: findings.Error, Profile: name, Message: err.Error(), Hint: hintOf(err)}, ""))
	}
}

func (c *checker) problems(name string, ps profiles.Problems) {
	for _, p := range ps {
		f := findings.Finding{Code: p.Code, Severity: findings.Error, Message: p.Text, Hint: p.Hint, Profile: name,
			File: p.File, Line: p.Line, Col: p.Col, Snippet: p.Snippet}
		if p.Warning {
			f.Severity = findings.Warning
		}
		if !isLayer(p.File) {
			f.Snippet, f.Col = "", 0
			f = c.placed(f, fmt.Sprintf("%s:%d", p.File, p.Line))
		}
		c.add(f)
	}
}

// placed gives a finding its place in the repository. What is written elsewhere (a built-in profile, a default, a line
// that is there no more) is named in the message, and the profile's own file is the place.
func (c *checker) placed(f findings.Finding, origin string) findings.Finding {
	was := strings.TrimPrefix(origin, "was ")
	line := 0
	file, _, _ := strings.Cut(was, " at ")
	file, line = splitOrigin(file)
	if isLayer(file) && was == origin {
		f.File, f.Line = file, line
		if set := ofSet.FindString(origin); set != "" {
			f.Message += " (" + strings.TrimPrefix(set, ", ") + ")"
		}
		return f
	}
	f.File, f.Line = layerFile(c.now, f.Profile), 0
	if isLayer(file) {
		f.File = file
	}
	if origin != "" && origin != "default" && !strings.Contains(f.Message, origin) {
		f.Message += " (" + origin + ")"
	}
	return f
}

// layerFile is the file of the repository that is to blame for a profile as a whole, or "".
func layerFile(f profiles.Files, name string) string {
	for _, file := range []string{repoDir + "/" + name + ".toml", repoFile} {
		if _, err := fs.Stat(f.Repo, file); err == nil {
			return file
		}
	}
	return ""
}

// merged puts what several profiles share in one finding each.
func merged(fs []findings.Finding) []findings.Finding {
	shared := map[findings.Finding][]string{}
	for _, f := range findings.Sort(fs) {
		name := f.Profile
		f.Profile = ""
		shared[f] = append(shared[f], name)
	}
	out := make([]findings.Finding, 0, len(shared))
	for f, names := range shared {
		switch {
		case len(names) == 1:
			f.Profile = names[0]
			if ofProfiles(f) && names[0] != "" && f.File != repoDir+"/"+names[0]+".toml" {
				f.Message += " (for " + names[0] + ")"
			}
		case ofProfiles(f):
			f.Message += " (for " + few(names) + ")"
		case f.Severity == findings.Widening:
			f.Message += ": " + times(uint64(len(names)), "profile") + ", " + strings.Join(names, ", ")
		}
		out = append(out, f)
	}
	return findings.Sort(out)
}

// ofProfiles reports the warnings that are about profiles rather than about a file.
func ofProfiles(f findings.Finding) bool {
	return f.Code == codeNotCarriedOut || f.Code == codeLooser
}

// few names the first of several profiles: "claude, codex and 4 more".
func few(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown-1], ", "), len(names)-shown+1)
}

// misread are names at the top of a repository that look like agentbox.toml.
var misread = []string{repoFile, "." + repoFile, "agentbox.tml", "agentbox.yaml", "agentbox.yml", "agentbox.json"}

// files looks for files that nobody reads although somebody may think so, by name and kind alone.
func (c *checker) files() {
	top, err := entries(c.root)
	if err != nil {
		c.unreadable(".", err)
	}
	for _, name := range top {
		if name != repoFile && slices.Contains(misread, strings.ToLower(name)) {
			c.odd(findings.Error, name, "nobody reads this file: what binds every profile stands in "+repoFile, "rename it to "+repoFile)
		}
	}
	below, err := fs.ReadDir(c.now.Repo, repoDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.unreadable(repoDir, err)
	}
	for _, e := range below {
		c.oddProfile(e)
	}
}

// entries lists a directory that may have very many.
func entries(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return f.Readdirnames(-1)
}

func (c *checker) odd(severity findings.Severity, file, message, hint string) {
	c.add(findings.Finding{Code: codeFileName, Severity: severity, File: file, Message: message, Hint: hint})
}

// unreadable reports a file or directory that is there and cannot be read. Paths in it are made the repository's.
func (c *checker) unreadable(file string, err error) {
	text := strings.TrimPrefix(err.Error(), "reading "+file+": ")
	text = strings.TrimPrefix(text, fmt.Sprintf("reading %q: ", filepath.Join(c.root, file)))
	hint := strings.ReplaceAll(hintOf(err), c.root+"/", "")
	c.add(findings.Finding{Code: codeUnreadable, Severity: findings.Error, File: file, Message: "this cannot be read: " + text, Hint: hint})
}

func (c *checker) oddProfile(e fs.DirEntry) {
	name, file := e.Name(), repoDir+"/"+e.Name()
	stem, isTOML := strings.CutSuffix(name, ".toml")
	var word profiles.Name
	switch {
	case e.IsDir():
		c.odd(findings.Warning, file, "nobody reads this directory: profiles are files NAME.toml", "move it out of "+repoDir)
	case name == repoFile:
		c.odd(findings.Warning, file, `this is the profile "agentbox", and binds no other`, "what binds every profile stands in "+repoFile+" at the top of the repository")
	case isTOML && word.UnmarshalText([]byte(stem)) != nil:
		c.odd(findings.Error, file, fmt.Sprintf("nobody reads this file: no profile can be called %q", stem), "rename it: small letters, digits and hyphens, then .toml")
	case !isTOML && slices.Contains([]string{".toml", ".tml", ".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))):
		c.odd(findings.Error, file, "nobody reads this file: profiles are files NAME.toml", "rename it, or move it out of "+repoDir)
	}
}
