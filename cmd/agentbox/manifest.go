package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"agentbox/internal/atomicfile"
	"agentbox/internal/findings"
	"agentbox/internal/plan"
)

// manifests is the file that agentbox manifest writes: what profiles may do, whoever runs them wherever.
type manifests struct {
	Version  int             `json:"version"`  // of this format: 1
	Profiles []plan.Manifest `json:"profiles"` // sorted by name
}

const manifestVersion = 1

// canonical is the document's only form.
func (m manifests) canonical() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(m)
	return b.Bytes(), err
}

func newManifest(a *app) *cobra.Command {
	var (
		asJSON bool
		file   string
	)
	cmd := &cobra.Command{
		Use: "manifest [PROFILE…]", Short: "Print what this repository's profiles may do, for people and to commit",
		Long: `Prints the capability manifest: every grant of each profile, where it comes from and when it expires. It holds for
everybody: your own layers, the organisation's policy and this machine play no part. Without PROFILEs: all that
.agentbox names and, when agentbox.toml is there, the built-in ones.

With --json, or into a file with -o, it is a document that stays the same, byte for byte, as long as the profiles allow
the same: commit it, and let agentbox check --manifest FILE hold changes to it.

Exit codes: 0 fine, 1 a profile can't be used, 2 usage.`,
		Example: `  agentbox manifest
  agentbox manifest claude --json
  agentbox manifest -o agentbox.manifest.json`,
		RunE: func(_ *cobra.Command, args []string) error { return a.manifest(args, asJSON, file) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document")
	cmd.Flags().StringVarP(&file, "output", "o", "", "write the document to this file")
	return cmd
}

func (a *app) manifest(names []string, asJSON bool, file string) error {
	defer uncollected()()
	root, err := here()
	if err != nil {
		return err
	}
	f := a.repoFiles(root)
	if len(names) == 0 {
		names = affected(f)
	}
	if len(names) == 0 {
		return &usageError{fmt.Errorf("this repository has neither %s nor %s: name the profiles", repoFile, repoDir), "agentbox manifest claude"}
	}
	all := crowd{}
	m, err := manifestOf(names, func(name string) (plan.Grants, error) {
		_, g, err := all.granted(name, f)
		return g, err
	})
	if err != nil {
		return err
	}
	data, err := m.canonical()
	switch {
	case err != nil:
		return fmt.Errorf("writing the manifest: %w", err)
	case file != "":
		if err := atomicfile.Write(file, data, 0o644); err != nil {
			return fmt.Errorf("writing the manifest: %w", err)
		}
		a.say("wrote the manifest of %s to %s", times(uint64(len(m.Profiles)), "profile"), escaped(file))
		return nil
	case asJSON:
		_, err = a.out.Write(data)
		return err
	}
	return writeManifests(a.out, m)
}

// manifestOf makes the document for profiles. All that cannot be used are named in the error.
func manifestOf(names []string, grants func(name string) (plan.Grants, error)) (manifests, error) {
	m := manifests{Version: manifestVersion, Profiles: []plan.Manifest{}}
	var errs []error
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		g, err := grants(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.Profiles = append(m.Profiles, plan.ManifestOf(g))
	}
	return m, errors.Join(errs...)
}

// writeManifests writes the grants for people: what may be done, the file that says so, and when it ends where that is
// not when the others do.
func writeManifests(w io.Writer, m manifests) error {
	var b bytes.Buffer
	for i, p := range m.Profiles {
		if i > 0 {
			fmt.Fprintln(&b)
		}
		ends := usualEnd(p.Grants)
		fmt.Fprintf(&b, "%s · tier %s · ends %s\n%s\n", p.Profile, p.Tier, ends, p.Hash)
		last := ""
		for _, g := range p.Grants {
			kind := g.Kind
			if kind == last {
				kind = ""
			}
			last = g.Kind
			fmt.Fprintf(&b, "  %-12s %s  (%s)", kind, escaped(g.What), escaped(g.Origin))
			if g.Expires != ends {
				fmt.Fprintf(&b, " · ends %s", g.Expires)
			}
			fmt.Fprintln(&b)
		}
	}
	_, err := io.Copy(w, &b)
	return err
}

// usualEnd is when most grants end.
func usualEnd(grants []plan.ManifestItem) (end string) {
	times := map[string]int{}
	for _, g := range grants {
		if times[g.Expires]++; times[g.Expires] > times[end] {
			end = g.Expires
		}
	}
	return end
}

// manifest compares the committed document with that of now.
func (c *checker) manifest(o checkOptions) error {
	data, err := readManifest(o.manifest)
	if err != nil {
		return &usageError{fmt.Errorf("reading the manifest: %w", err), "make it: " + renew(o)}
	}
	now, err := manifestOf(c.names, func(name string) (plan.Grants, error) {
		if u, ok := c.profile(name); ok {
			return u.grants, nil
		}
		return plan.Grants{}, errors.New("unusable")
	})
	if err != nil {
		return nil // what cannot be used has been reported, and has no manifest
	}
	add := func(d drift, hint string) {
		c.add(findings.Finding{Code: d.code(), Severity: d.severity(), File: c.inRepo(o.manifest), Line: 1, Message: d.text, Profile: d.profile, Hint: hint})
	}
	hint := "renew it: " + renew(o)
	var was manifests
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&was); err != nil || was.Version != manifestVersion || dec.More() {
		add(drift{text: "this is not a manifest of this version of agentbox"}, hint)
		return nil
	}
	for _, d := range staleness(was, now) {
		add(d, hint)
		hint = "" // said once
	}
	return nil
}

// readManifest reads a regular file of a size that a manifest can have. In a repository it could be a link to anything.
func readManifest(file string) ([]byte, error) {
	const most = 64 << 20
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", file, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// renew is the command that makes the manifest anew.
func renew(o checkOptions) string {
	words := append([]string{"agentbox", "manifest"}, o.profiles...)
	return strings.Join(append(words, "-o", quoted(o.manifest)), " ")
}

// quoted is a word for a shell.
func quoted(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-+", r)
	}) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// inRepo is a path as findings name it, or "" for one outside of the repository.
func (c *checker) inRepo(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(real, filepath.Base(abs))
	}
	rel, err := filepath.Rel(c.root, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return filepath.ToSlash(rel)
}

// drift is how a committed manifest differs in one profile, or as a whole.
type drift struct {
	profile, text string
	words         bool // of nothing but the words
}

func (d drift) code() string {
	if d.words {
		return codeReworded
	}
	return codeStale
}

func (d drift) severity() findings.Severity {
	if d.words {
		return findings.Warning
	}
	return findings.Stale
}

// staleness says how two documents differ, at most once for each profile, in the order in which findings are shown.
func staleness(was, now manifests) (out []drift) {
	before, after := byProfile(was), byProfile(now)
	if len(before) != len(was.Profiles) {
		out = append(out, drift{text: "it has a profile twice"})
	}
	for name := range before {
		if _, there := after[name]; !there {
			out = append(out, drift{profile: name, text: fmt.Sprintf("it has the profile %q, which is not checked here any more", name)})
		}
	}
	for _, p := range now.Profiles {
		old, there := before[p.Profile]
		switch {
		case !there:
			out = append(out, drift{profile: p.Profile, text: fmt.Sprintf("it lacks the profile %q", p.Profile)})
		case !sameManifest(old, p):
			out = append(out, differs(old, p))
		}
	}
	slices.SortFunc(out, func(a, b drift) int { return cmp.Or(cmp.Compare(a.profile, b.profile), cmp.Compare(a.text, b.text)) })
	return out
}

func byProfile(m manifests) map[string]plan.Manifest {
	out := map[string]plan.Manifest{}
	for _, p := range m.Profiles {
		out[p.Profile] = p
	}
	return out
}

// differs says how one profile's part differs, in one line.
func differs(was, now plan.Manifest) drift {
	more, less := beyond(now, was), beyond(was, now)
	if was.Hash == now.Hash && was.Tier == now.Tier && was.Version == now.Version && sameShape(was, now) {
		return drift{now.Profile, fmt.Sprintf("%s: %s worded otherwise by this agentbox, and the hash is the same", now.Profile, areWorded(len(more))), true}
	}
	var parts []string
	if n := max(len(more), len(less)); n > 0 {
		parts = append(parts, differ(n))
	}
	if a, b := usualEnd(was.Grants), usualEnd(now.Grants); a != b {
		parts = append(parts, fmt.Sprintf("it ends %s instead of %s", b, strings.TrimPrefix(escaped(a), "after ")))
	}
	if was.Tier != now.Tier {
		parts = append(parts, fmt.Sprintf("its tier is %s instead of %s", now.Tier, escaped(was.Tier)))
	}
	room := mostGrants
	parts = append(parts, someGrants("now also ", more, &room)...)
	parts = append(parts, someGrants("no longer ", less, &room)...)
	if len(parts) == 0 {
		parts = []string{"it may do the same, and what restricts it changed"}
	}
	return drift{profile: now.Profile, text: now.Profile + ": " + strings.Join(parts, "; ")}
}

// mostGrants is how many grants a finding shows.
const mostGrants = 5

func differ(n int) string {
	if n == 1 {
		return "1 grant differs"
	}
	return fmt.Sprintf("%d grants differ", n)
}

func areWorded(n int) string {
	if n == 1 {
		return "1 grant is"
	}
	return fmt.Sprintf("%d grants are", n)
}

// someGrants shows grants as far as there is room, and says how many are left out.
func someGrants(verb string, grants []plan.ManifestItem, room *int) []string {
	if len(grants) == 0 {
		return nil
	}
	n := min(len(grants), *room)
	*room -= n
	shown := make([]string, 0, n+1)
	for _, g := range grants[:n] {
		shown = append(shown, escaped(g.What)+" ("+escaped(g.Origin)+")")
	}
	if left := len(grants) - n; left > 0 {
		shown = append(shown, fmt.Sprintf("%d more", left))
	}
	return []string{verb + strings.Join(shown, ", ")}
}

// beyond lists the grants of one that the other has not. That all end at another time is no difference of each.
func beyond(in, out plan.Manifest) (only []plan.ManifestItem) {
	there := map[plan.ManifestItem]bool{}
	for _, g := range withoutEnd(out) {
		there[g] = true
	}
	for _, g := range withoutEnd(in) {
		if !there[g] {
			only = append(only, g)
		}
	}
	return only
}

func withoutEnd(m plan.Manifest) []plan.ManifestItem {
	usual, out := usualEnd(m.Grants), slices.Clone(m.Grants)
	for i := range out {
		if out[i].Expires == usual {
			out[i].Expires = ""
		}
	}
	return out
}

// sameShape reports manifests whose grants are as many, of the same kinds, files and ends: only words differ.
func sameShape(a, b plan.Manifest) bool {
	bare := func(m plan.Manifest) []string {
		var out []string
		for _, g := range m.Grants {
			out = append(out, g.Kind+"\n"+g.Origin+"\n"+g.Expires)
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(bare(a), bare(b))
}

func sameManifest(a, b plan.Manifest) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
