package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agentbox/internal/atomicfile"
	"agentbox/internal/layerfiles"
)

const (
	grantsDir = "repos"
	maxGrants = 256 << 10 // bytes of a grants file
	preamble  = "# What you allowed in one repository alone, on top of its profile.\n" +
		"# `agentbox grants list` shows it, `agentbox grants revoke` takes it back. You may edit it.\n"
	addedMark = "# added "
)

// Grants is the grants file of one repository: a layer above the person's own configuration.
type Grants struct {
	Path string // of the file, which need not exist
	Repo string // the repository's real path

	uid func() int // os.Getuid when nil
}

// Rule is what one grant allows. Paths are patterns, as in a profile.
type Rule struct {
	Host    string
	Ports   []uint16 // none: 443
	Methods []string // none: every method
	Paths   []string // none: every path

	Scheme     string   // "https" or "http"; "": both
	WebSocket  string   // "true": WebSockets alone; "false": none of them; "": both
	Protocol   string   // "tcp"; "": requests
	MaxRequest string   // of one body, "10MB"; "": no limit
	MaxSent    string   // in one run
	Private    []string // addresses that are not public, "10.0.0.0/8"
}

// Granted is a rule of a grants file.
type Granted struct {
	Rule
	Number int       // from 1, in the file's order; removing a rule renumbers those after it
	Line   int       // where it begins; 0 when it is written in a way that only an editor can change
	Action string    // "allow" unless somebody edited the file
	Text   string    // one line for a person
	Added  time.Time // zero when not known

	extra bool           // it has keys beyond those of Rule
	table map[string]any // as the file has it; nil for one that is being added
}

// GrantsPath is where the grants of a repository are, by its real path: "CONFIG/repos/billing-1a2b3c4d.toml".
func GrantsPath(configDir, repo string) string {
	return filepath.Join(configDir, grantsDir, slug(filepath.Base(repo))+"-"+digest(repo)[:8]+".toml")
}

// slug makes a name that is safe in a file's name and on a command line.
func slug(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return unicode.ToLower(r)
		}
		return '-'
	}, name)
	clean = strings.Trim(clean[:min(len(clean), 40)], "-")
	if clean == "" {
		return "repo"
	}
	return clean
}

// GrantsOf gives the grants file of the repository at that real path.
func GrantsOf(configDir, repo string) Grants {
	return Grants{Path: GrantsPath(configDir, repo), Repo: repo}
}

// AllGrants gives the grants files there are, by their names. Files that cannot be read are in the error; the others are
// given all the same.
func AllGrants(configDir string) ([]Grants, error) {
	names, err := fs.Glob(layerfiles.Dir(configDir, os.Getuid()), grantsDir+"/*.toml")
	if err != nil {
		return nil, err
	}
	var all []Grants
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), ".") {
			continue // a write that a crash ended
		}
		g := Grants{Path: filepath.Join(configDir, name)}
		doc, err := g.load()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			g.Repo, err = doc.repo()
		}
		if err == nil && GrantsPath(configDir, g.Repo) != g.Path {
			err = fmt.Errorf("it is about %q, which has another file", g.Repo)
		}
		if err != nil {
			errs = append(errs, g.wrap(err))
			continue
		}
		all = append(all, g)
	}
	return all, errors.Join(errs...)
}

func (g Grants) owner() int {
	if g.uid != nil {
		return g.uid()
	}
	return os.Getuid()
}

// Read gives the file as a layer, after a check that it is about this repository. fs.ErrNotExist when there is none.
func (g Grants) Read() ([]byte, error) {
	doc, err := g.open()
	return doc.data, err
}

// ListRules gives the rules in the file's order.
func (g Grants) ListRules() ([]Granted, error) {
	doc, err := g.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return doc.granted, err
}

// AddRule allows what the rule says, and tells whether that is new: a rule that is there already stays alone. The rest of
// the file stays as it is, byte for byte.
func (g Grants) AddRule(r Rule, at time.Time) (added bool, err error) {
	if len(r.Ports) == 0 {
		r.Ports = []uint16{443}
	}
	if err := r.check(); err != nil {
		return false, g.wrap(err)
	}
	err = g.change(func(doc document) ([]byte, []Granted, error) {
		for _, old := range doc.granted {
			if old.Action == "allow" && !old.extra && old.same(r) {
				return nil, nil, nil
			}
		}
		added = true
		return appendRule(doc.data, r, at), append(slices.Clone(doc.granted), Granted{Rule: r, Action: "allow"}), nil
	})
	return added && err == nil, err
}

// Draft is what the file has, nil when there is none, and what it would have with more rules; those that are there
// already stay alone. Nothing is written.
func (g Grants) Draft(rules []Rule, at time.Time) (before, after []byte, err error) {
	doc, err := g.open()
	if errors.Is(err, fs.ErrNotExist) {
		doc, err = g.fresh()
	} else {
		before = doc.data
	}
	if err != nil {
		return nil, nil, g.wrap(err)
	}
	after, _, err = g.with(doc, rules, at)
	return before, after, g.wrap(err)
}

// AddRules writes what Draft gave, when the file is still as it was then.
func (g Grants) AddRules(before []byte, rules []Rule, at time.Time) error {
	return g.change(func(doc document) ([]byte, []Granted, error) {
		if before != nil && !bytes.Equal(doc.data, before) || before == nil && len(doc.granted) > 0 {
			return nil, nil, problem("try again", "it has changed in the meantime")
		}
		return g.with(doc, rules, at)
	})
}

// with is a file with more rules, and all of them.
func (g Grants) with(doc document, rules []Rule, at time.Time) (data []byte, want []Granted, err error) {
	data, want = doc.data, slices.Clone(doc.granted)
	for _, r := range rules {
		if len(r.Ports) == 0 {
			r.Ports = []uint16{443}
		}
		if err := r.check(); err != nil {
			return nil, nil, err
		}
		if !slices.ContainsFunc(want, func(old Granted) bool { return old.Action == "allow" && !old.extra && old.same(r) }) {
			data, want = appendRule(data, r, at), append(want, Granted{Rule: r, Action: "allow"})
		}
	}
	return data, want, nil
}

// fresh is the file that is made when there is none.
func (g Grants) fresh() (document, error) {
	return parse([]byte(preamble + "version = 1\nrepo = " + quote(g.Repo) + "\n"))
}

// RemoveRule takes back a rule by its number, or all of a host, and gives what it took: none is an error. The rest of the
// file stays as it is, byte for byte.
func (g Grants) RemoveRule(which string) (removed []Granted, err error) {
	err = g.change(func(doc document) ([]byte, []Granted, error) {
		var keep []Granted
		for _, rule := range doc.granted {
			if strconv.Itoa(rule.Number) == which || strings.EqualFold(rule.Host, strings.TrimSuffix(which, ".")) {
				removed = append(removed, rule)
			} else {
				keep = append(keep, rule)
			}
		}
		if len(removed) == 0 {
			return nil, nil, problem("`agentbox grants list` shows numbers and hosts", "there is no rule %q", which)
		}
		var spans []span
		for _, rule := range removed {
			if rule.Line == 0 {
				return nil, nil, problem("remove it with an editor", "rule %d is not written as a [[network.rule]] of its own", rule.Number)
			}
			spans = append(spans, doc.spans[rule.Number-1])
		}
		return cut(doc.data, spans), keep, nil
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// change edits the file under its lock. The edit gives the new content (nil: it stays) and the rules that it must then
// have; what the file says besides must not change.
func (g Grants) change(edit func(document) ([]byte, []Granted, error)) error {
	dir := filepath.Dir(g.Path)
	if err := privateDir(dir, g.owner(), false); err != nil {
		return err
	}
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	doc, err := g.open()
	if errors.Is(err, fs.ErrNotExist) {
		doc, err = g.fresh()
	}
	if err != nil {
		return g.wrap(err)
	}
	data, want, err := edit(doc)
	if err != nil || data == nil {
		return g.wrap(err)
	}
	if len(data) > maxGrants {
		return g.wrap(problem("revoke what is no longer needed", "it would have more than %d bytes", maxGrants))
	}
	if err := verify(doc, data, want); err != nil {
		return g.wrap(problem("edit the file yourself", "it cannot be changed by a program: %w", err))
	}
	return atomicfile.Write(g.Path, data, 0o600)
}

// verify reads an edited file back: it has the wanted rules, and otherwise says what it said.
func verify(before document, data []byte, want []Granted) error {
	after, err := parse(data)
	if err != nil {
		return err
	}
	same := func(a, b Granted) bool {
		return a.Action == b.Action && a.same(b.Rule) && (b.table == nil || reflect.DeepEqual(a.table, b.table))
	}
	if !slices.EqualFunc(after.granted, want, same) {
		return errors.New("its rules came out otherwise")
	}
	if !reflect.DeepEqual(after.besides(), before.besides()) {
		return errors.New("more than its rules would change")
	}
	return nil
}

// open loads the file and checks that it is about this repository.
func (g Grants) open() (document, error) {
	doc, err := g.load()
	if err != nil {
		return document{}, err
	}
	repo, err := doc.repo()
	if err == nil && repo != g.Repo {
		err = problem("move the file away, or correct its repo", "it is about %q, not %q", repo, g.Repo)
	}
	if err != nil {
		return document{}, g.wrap(err)
	}
	return doc, nil
}

func (g Grants) load() (document, error) {
	dir, base := filepath.Split(g.Path)
	data, err := layerfiles.ReadPrivate(filepath.Clean(dir), base, g.owner(), maxGrants)
	if err != nil {
		return document{}, err
	}
	doc, err := parse(data)
	return doc, g.wrap(err)
}

// wrap names the file in an error that does not, and keeps its hint.
func (g Grants) wrap(err error) error {
	if err == nil || strings.Contains(err.Error(), strconv.Quote(g.Path)) {
		return err
	}
	hint := "correct the file with an editor"
	if p, ok := errors.AsType[*Problem](err); ok {
		hint = p.Hint
	}
	return problem(hint, "grants file %q: %w", g.Path, err)
}

// check refuses what TOML could not hold or no request could be.
func (r Rule) check() error {
	bad := func(s string) bool { return s == "" || !utf8.ValidString(s) || len(s) > 4096 }
	switch {
	case bad(r.Host):
		return fmt.Errorf("%q is no host", r.Host)
	case slices.Contains(r.Ports, 0):
		return errors.New("0 is no port")
	case slices.ContainsFunc(r.Methods, bad):
		return fmt.Errorf("%q are not all methods", r.Methods)
	case slices.ContainsFunc(r.Paths, bad):
		return fmt.Errorf("%q are not all paths", r.Paths)
	case slices.ContainsFunc(r.Private, bad):
		return fmt.Errorf("%q are not all addresses", r.Private)
	case r.WebSocket != "" && r.WebSocket != "true" && r.WebSocket != "false":
		return fmt.Errorf("websocket is true or false, not %q", r.WebSocket)
	}
	for _, word := range []string{r.Scheme, r.Protocol, r.MaxRequest, r.MaxSent} {
		if word != "" && bad(word) {
			return fmt.Errorf("%q is no value", word)
		}
	}
	return nil
}

// same says whether two rules allow the same, in whatever order they say it.
func (r Rule) same(o Rule) bool {
	return r.Host == o.Host && sameSet(r.Ports, o.Ports) && sameSet(r.Methods, o.Methods) && sameSet(r.Paths, o.Paths) &&
		r.Scheme == o.Scheme && r.WebSocket == o.WebSocket && r.Protocol == o.Protocol && r.MaxRequest == o.MaxRequest && r.MaxSent == o.MaxSent && sameSet(r.Private, o.Private)
}

func sameSet[T interface{ ~string | ~uint16 }](a, b []T) bool {
	normal := func(s []T) []T { return slices.Compact(slices.Sorted(slices.Values(s))) }
	return slices.Equal(normal(a), normal(b))
}

// text is the rule on one line.
func (g Granted) text() string {
	words := []string{g.Action, "every method", "of", g.Host}
	switch {
	case g.Protocol != "":
		words[1] = "plain " + g.Protocol
	case len(g.Methods) > 0:
		words[1] = strings.Join(g.Methods, ", ")
	}
	var ports []string
	for _, p := range g.Ports {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	words = append(words, "port "+strings.Join(ports, ", "))
	switch {
	case len(g.Paths) > 0:
		words = append(words, "at "+strings.Join(g.Paths, ", "))
	case g.Protocol == "":
		words = append(words, "at every path")
	}
	words = append(words, g.more()...)
	if g.extra {
		words = append(words, "(the file says more)")
	}
	return strings.Map(printable, strings.Join(words, " "))
}

// more is what few rules say.
func (r Rule) more() (words []string) {
	add := func(said bool, word string) {
		if said {
			words = append(words, word)
		}
	}
	add(r.Scheme != "", "by "+r.Scheme)
	add(r.WebSocket == "true", "WebSockets only")
	add(r.WebSocket == "false", "no WebSockets")
	add(r.MaxRequest != "", "at most "+r.MaxRequest+" a request")
	add(r.MaxSent != "", "at most "+r.MaxSent+" in one run")
	add(len(r.Private) > 0, "also in your own network: "+strings.Join(r.Private, ", "))
	return words
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}
