package main

import (
	"bytes"
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
	stale := func(message string) {
		c.add(findings.Finding{Code: codeStale, Severity: findings.Stale, File: c.inRepo(o.manifest), Line: 1, Message: message, Hint: "renew it: " + renew(o)})
	}
	var was manifests
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&was); err != nil || was.Version != manifestVersion || dec.More() {
		stale("this is not a manifest of this version of agentbox")
		return nil
	}
	for _, line := range staleness(was, now) {
		stale(line)
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

// staleness says how two documents differ, a line for each grant.
func staleness(was, now manifests) (lines []string) {
	before, after := byProfile(was), byProfile(now)
	for _, p := range was.Profiles {
		if _, there := after[p.Profile]; !there {
			lines = append(lines, fmt.Sprintf("it has the profile %q, which is not checked here any more", p.Profile))
		}
	}
	for _, p := range now.Profiles {
		old, there := before[p.Profile]
		if !there {
			lines = append(lines, fmt.Sprintf("it lacks the profile %q", p.Profile))
			continue
		}
		changes := grantChanges(old, p)
		if len(changes) == 0 && !sameManifest(old, p) {
			changes = []string{fmt.Sprintf("%s may do the same, and what restricts it changed", p.Profile)}
		}
		lines = append(lines, changes...)
	}
	if len(lines) == 0 && len(was.Profiles) != len(now.Profiles) {
		lines = append(lines, "it has a profile twice")
	}
	return lines
}

func byProfile(m manifests) map[string]plan.Manifest {
	out := map[string]plan.Manifest{}
	for _, p := range m.Profiles {
		out[p.Profile] = p
	}
	return out
}

// grantChanges says which grants one has and the other has not.
func grantChanges(was, now plan.Manifest) (lines []string) {
	tell := func(verb string, in, out plan.Manifest) {
		for _, g := range in.Grants {
			if !slices.Contains(out.Grants, g) {
				lines = append(lines, fmt.Sprintf("%s %s: %s: %s", now.Profile, verb, g.Kind, escaped(describe(g))))
			}
		}
	}
	tell("has, and the manifest has not", now, was)
	tell("has no more", was, now)
	return lines
}

func describe(g plan.ManifestItem) string {
	return fmt.Sprintf("%s (%s, ends %s)", g.What, g.Origin, g.Expires)
}

func sameManifest(a, b plan.Manifest) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
