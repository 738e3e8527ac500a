package main

import (
	"bufio"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"agentbox/internal/event"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/internal/schema"
	"agentbox/internal/session"
	builtin "agentbox/profiles"
)

// completer answers a shell's Tab. It has nobody to tell of an error, so it has none; what it cannot find out, it does
// not offer. Of a repository it reads names of files, and no file.
type completer func(a *app, args []string) ([]cobra.Completion, cobra.ShellCompDirective)

// completers are those of the verbs' arguments.
func completers() map[string]completer {
	return map[string]completer{
		"run":           completeFirst(profileNames),
		"why":           completeFirst(profileNames, urlStarts),
		"check":         completeEach(profileNames),
		"manifest":      completeEach(profileNames),
		"diff-plan":     completeOrFiles(completeFirst(profileNames, profileNames)),
		"trust":         completeEach(profileNames),
		"profile show":  completeFirst(profileNames),
		"image build":   completeFirst(imageNames),
		"grants add":    completeEach(hostNames),
		"grants revoke": completeEach(hostNames),
		"stop":          completeFirst(liveRuns),
		"events":        completeFirst(allRuns),
		"diff":          completeOrFiles(completeFirst(runsWithWork)),
		"apply":         completeOrFiles(completeFirst(runsWithWork)),
		"discard":       completeFirst(runsWithWork),
		"undo":          completeFirst(runsWithWork),
		"replay":        completeFirst(allRuns),
		"learn":         completeFirst(allRuns),
		"approvals":     completeFirst(liveRuns),
		"approve":       completeFirst(openQuestions),
		"deny":          completeFirst(openQuestions),
		"secret set":    completeFirst(credentialNames),
		"secret rm":     completeFirst(credentialNames),
		"secret test":   completeFirst(credentialNames),
	}
}

// flagCompleters are those of flags, whatever verb has them.
func flagCompleters() map[string]completer {
	return map[string]completer{
		"profile": completeEach(profileNames), "host": completeEach(hostNames), "session": completeEach(liveRuns), "credential": completeEach(credentialNames),
		"workspace": completeWords("direct", "review", "readonly"), "mode": completeWords("direct", "review", "readonly"),
		"tier": completeWords("low", "medium", "high", "critical"), "kind": completeWords(schema.Kinds()...), "against": completeWords(),
		"format": completeWords(formats...), "into": completeWords(intos...), "color": completeWords("auto", "always", "never"), "on-exit": completeWords(onExits()...),
		"pull": completeWords(pulls()...),
	}
}

// addCompleters hangs the completers into the tree of verbs.
func addCompleters(root *cobra.Command, a *app) {
	verbs, flags := completers(), flagCompleters()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		_, verb, _ := strings.Cut(cmd.CommandPath(), " ")
		if complete, ok := verbs[verb]; ok {
			cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return complete(a, args)
			}
		} else if cmd.ValidArgs == nil && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for name, complete := range flags {
			if cmd.LocalFlags().Lookup(name) != nil { // a flag that its verb completes itself stays
				_ = cmd.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
					return complete(a, nil)
				})
			}
		}
		for _, below := range cmd.Commands() {
			walk(below)
		}
	}
	walk(root)
}

// lister finds what could stand at one place; args are those before it.
type lister func(a *app, args []string) []cobra.Completion

// completeFirst completes the first arguments, one lister each, and leaves what follows to the shell.
func completeFirst(listers ...lister) completer {
	return func(a *app, args []string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(listers) {
			return nil, cobra.ShellCompDirectiveDefault
		}
		found := listers[len(args)](a, args)
		if slices.ContainsFunc(found, func(c string) bool { return strings.HasSuffix(c, "/") }) {
			return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeEach completes every argument alike.
func completeEach(list lister) completer {
	return func(a *app, args []string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return list(a, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeOrFiles lets a file stand where noNames fits.
func completeOrFiles(complete completer) completer {
	return func(a *app, args []string) ([]cobra.Completion, cobra.ShellCompDirective) {
		found, _ := complete(a, args)
		return found, cobra.ShellCompDirectiveDefault
	}
}

func completeWords(all ...string) completer {
	return func(*app, []string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// profileNames lists the profiles of all layers.
func profileNames(a *app, _ []string) []cobra.Completion {
	names := map[string]bool{}
	for _, own := range a.ownPlaces() {
		for _, name := range profilesIn(own.files, own.dir) {
			names[name] = true
		}
	}
	if root := nearestRepo(); root != "" {
		for _, name := range tomlNames(readNames(filepath.Join(root, ".agentbox"))) {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// sketch is what completion needs of a profile or a named set.
type sketch struct {
	Extends string
	Network struct {
		Use  []string
		Rule []struct{ Host string }
	}
	Rule       []struct{ Host string } // of a named set
	Credential []struct {
		Name   string
		Source struct{ Keyring string }
	}
}

// shelf is a directory of profiles or of sets that is not a repository's.
type shelf struct {
	files fs.FS
	dir   string
}

// ownPlaces are where the built-in profiles are, and the person's.
func (a *app) ownPlaces() []shelf {
	places := []shelf{{builtin.Files(), "."}}
	if paths, err := a.paths(); err == nil {
		places = append(places, shelf{os.DirFS(paths.Config), "profiles"})
	}
	return places
}

// sketches reads the files of name, or of all profiles when name is "", from the places that are not a repository's.
func (a *app) sketches(name string) []sketch {
	var out []sketch
	for _, p := range a.ownPlaces() {
		for _, n := range profilesIn(p.files, p.dir) {
			if name == "" || n == name {
				out = append(out, readSketch(p.files, path.Join(p.dir, n+".toml"))...)
			}
		}
	}
	return out
}

// sketchSize is more than any profile that a person writes.
const sketchSize = 256 << 10

func readSketch(files fs.FS, name string) []sketch {
	info, err := fs.Stat(files, name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > sketchSize {
		return nil
	}
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return nil
	}
	var s sketch
	if _, err := toml.Decode(string(data), &s); err != nil {
		return nil
	}
	return []sketch{s}
}

func profilesIn(files fs.FS, dir string) []string {
	entries, _ := fs.ReadDir(files, dir) // what cannot be read has no names
	return tomlNames(entries)
}

// tomlNames are the names of profiles among directory entries: regular files, so that a link or a FIFO is not offered.
func tomlNames(entries []fs.DirEntry) []string {
	var names []string
	for _, e := range entries {
		name, isTOML := strings.CutSuffix(e.Name(), ".toml")
		if isTOML && e.Type().IsRegular() && isName(name) {
			names = append(names, name)
		}
	}
	return names
}

func isName(s string) bool { return new(profiles.Name).UnmarshalText([]byte(s)) == nil }

// maxNamesRead bounds what is read of a directory that somebody else made.
const maxNamesRead = 2000

// readNames reads a directory that a repository has; neither a link nor a FIFO in its place is followed or waited for.
func readNames(dir string) []fs.DirEntry {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	entries, _ := f.ReadDir(maxNamesRead)
	return entries
}

// nearestRepo is the nearest directory upward that has a .git, or "".
func nearestRepo() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

// credentialNames lists the keyring accounts that profiles name.
func credentialNames(a *app, _ []string) []cobra.Completion {
	names := map[string]bool{}
	for _, s := range a.sketches("") {
		for _, c := range s.Credential {
			if isName(c.Source.Keyring) {
				names[c.Source.Keyring] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// urlStarts lists the start of a URL for each host of the profile that args name.
func urlStarts(a *app, args []string) []cobra.Completion {
	var out []string
	for _, host := range hostNames(a, args) {
		out = append(out, "https://"+host+"/")
	}
	return out
}

// hostNames lists the hosts that rules name (of the profile args[0]; of all, when only the repository has it), and those
// that the latest run here was refused.
func hostNames(a *app, args []string) []cobra.Completion {
	profile := ""
	if len(args) > 0 && len(a.sketches(args[0])) > 0 {
		profile = args[0]
	}
	found := a.refusedHosts()
	for _, h := range a.ruleHosts(profile, maxChain) {
		found[h] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// maxChain is how far extends leads.
const maxChain = 16

func (a *app) ruleHosts(profile string, depth int) []string {
	var out []string
	for _, s := range a.sketches(profile) {
		for _, r := range s.Network.Rule {
			out = append(out, plainHost(r.Host)...)
		}
		for _, set := range s.Network.Use {
			out = append(out, a.setHosts(set)...)
		}
		if s.Extends != "" && profile != "" && depth > 0 {
			out = append(out, a.ruleHosts(s.Extends, depth-1)...)
		}
	}
	return out
}

func (a *app) setHosts(set string) []string {
	if !isName(set) {
		return nil
	}
	var out []string
	for _, p := range a.ownPlaces() {
		for _, s := range readSketch(p.files, path.Join(path.Dir(p.dir), "sets", set+".toml")) {
			for _, r := range s.Rule {
				out = append(out, plainHost(r.Host)...)
			}
		}
	}
	return out
}

// plainHost is a host without a wildcard, or noNames.
func plainHost(s string) []string {
	host, err := policy.ParseHost(s)
	if err != nil {
		return nil
	}
	return []string{host.String()}
}

// liveRuns and allRuns list ids, the latest first.
func liveRuns(a *app, _ []string) []cobra.Completion {
	return a.runs(func(i session.Info) bool { return i.Live })
}

func allRuns(a *app, _ []string) []cobra.Completion {
	return a.runs(func(session.Info) bool { return true })
}

// runsWithWork are those whose changes are kept.
func runsWithWork(a *app, _ []string) []cobra.Completion { return a.runs(hasWork) }

func (a *app) runs(want func(session.Info) bool) []cobra.Completion {
	var out []cobra.Completion
	for _, i := range a.sessions() {
		if want(i) {
			out = append(out, cobra.CompletionWithDesc(i.ID, i.Profile))
		}
	}
	slices.Reverse(out)
	return out
}

func (a *app) sessions() []session.Info {
	paths, err := a.paths()
	if err != nil {
		return nil
	}
	all, _ := session.List(paths) // those that can be read
	return all
}

// tailSize is how much of a log is looked at.
const tailSize = 256 << 10

// refusedHosts are those that the latest run in this repository asked for in vain.
func (a *app) refusedHosts() map[string]bool {
	found := map[string]bool{}
	all, root := a.sessions(), nearestRepo()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Repo == root {
			for _, h := range refusedIn(filepath.Join(all[i].Dir, session.EventsFile)) {
				found[h] = true
			}
			break
		}
	}
	return found
}

func refusedIn(log string) []string {
	f, err := os.Open(log)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > tailSize {
		_, _ = f.Seek(-tailSize, io.SeekEnd) // else: from the start
	}
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e event.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Decision == "deny" { // the first line may be half a one
			out = append(out, plainHost(e.Host)...)
		}
	}
	return out
}
