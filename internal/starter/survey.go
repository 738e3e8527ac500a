package starter

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// Bounds of a survey. A repository beyond them is not read on, and Facts.Partial says so.
const (
	maxLevels  = 8         // directories below the top
	needLevels = 3         // of those, where a lock file says what the repository is made with; deeper ones are samples
	maxEntries = 20_000    // looked at
	maxReads   = 200       // files opened
	maxContent = 256 << 10 // bytes of a file that are read
	maxFacts   = 200       // of a kind
)

// Fact is something found, and the file, relative to the top, that shows it.
type Fact struct {
	What, File string
}

// Remote is where the repository comes from.
type Remote struct {
	Host    string // "github.com"
	Repo    string // as a [[git]] rule names it, "github.com/acme/billing"; "" where none can
	Problem string // why the named set "origin" would allow nothing, or ""
}

// Facts is what a repository looks like. Lists are sorted, but for Needs, and hold nothing twice. Hosts
// are valid names; Hide holds valid patterns; File is as in the repository, whatever that holds.
type Facts struct {
	Languages    []string
	Needs        []Fact   // ecosystems by name: "npm", in the order of their table
	Registries   []Fact   // hosts, other than the public ones, that settings of package managers name
	Origin       Remote   // zero: there is none
	Remotes      []string // hosts of all remotes
	Submodules   []Fact   // hosts
	Hide         []Fact   // patterns for what looks like secrets, or what Claude Code is denied to read
	Tracked      []Fact   // those that Spare took out
	Allowed      []Fact   // hosts that Claude Code's settings allow
	Packages     []Fact   // package managers that a Dockerfile calls: "apt", "apk", "dnf"
	Devcontainer string   // the file, or ""
	Makefile     string
	Partial      bool // the repository is larger than what was looked at
}

// Survey looks at a repository. Remotes are URLs as git has them, first that of "origin", "" when there is none. What
// cannot be read is passed over.
func Survey(fsys fs.FS, remotes []string) Facts {
	s := surveyor{fsys: fsys, table: ecosystems(), needs: map[string]need{}}
	s.walk(".", 0)
	s.facts.Needs = s.needed()
	for i, url := range remotes {
		host := remoteHost(url)
		if host == "" {
			continue
		}
		if s.facts.Remotes = append(s.facts.Remotes, host); i == 0 {
			remote := plan.ParseRemote(url)
			_, problem := plan.OriginRules(remote)
			s.facts.Origin = Remote{host, gitRemote(host, remote.Path), problem}
		}
	}
	return s.tidied()
}

// gitRemote is a repository as a [[git]] rule names it, or "".
func gitRemote(host, path string) string {
	var remote profiles.Remote
	if err := remote.UnmarshalText([]byte(host + path)); err != nil {
		return ""
	}
	return string(remote)
}

// Spare takes the patterns out of Hide that would hide a file which git tracks: it would look emptied inside, and
// `git commit -a` there would commit it so.
func (f Facts) Spare(tracked func(pattern string) bool) Facts {
	hide := f.Hide
	f.Hide, f.Tracked = nil, nil
	for _, h := range hide {
		if tracked(h.What) {
			f.Tracked = append(f.Tracked, h)
		} else {
			f.Hide = append(f.Hide, h)
		}
	}
	return f
}

type surveyor struct {
	fsys        fs.FS
	table       []ecosystem
	facts       Facts
	needs       map[string]need
	seen, reads int
}

// need is the most telling file of an ecosystem so far: the one with the lower rank, then the less deep.
type need struct {
	file        string
	rank, depth int
}

func (s *surveyor) walk(dir string, depth int) {
	for _, e := range s.list(dir) {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && depth == 0 && slices.Contains([]string{"secrets", ".secrets"}, e.Name()):
			s.hide(e.Name()+"/**", name)
		case e.IsDir() && passedOver(e.Name()):
		case e.IsDir() && depth == maxLevels:
			s.facts.Partial = true
		case e.IsDir():
			s.walk(name, depth+1)
		case e.Type().IsRegular():
			s.file(name, depth)
		}
	}
}

// passedOver names directories that hold what tools made or fetched.
func passedOver(dir string) bool {
	return slices.Contains([]string{".git", ".hg", ".svn", "node_modules", "vendor", "target", "dist", "build", "venv",
		".venv", ".tox", "__pycache__", ".terraform", ".gradle", ".next", ".cache", "deps", "_build", "testdata"}, dir)
}

// list gives a directory's entries, sorted, as far as the bound goes.
func (s *surveyor) list(dir string) []fs.DirEntry {
	if s.seen >= maxEntries {
		s.facts.Partial = true
		return nil
	}
	f, err := s.fsys.Open(dir)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil
	}
	entries, err := d.ReadDir(maxEntries - s.seen)
	if err != nil && len(entries) == 0 {
		return nil
	}
	if s.seen += len(entries); s.seen >= maxEntries {
		s.facts.Partial = true
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries
}

func (s *surveyor) file(name string, depth int) {
	base := path.Base(name)
	for _, e := range s.table {
		if rank := e.rank(base); rank >= 0 && depth <= needLevels {
			s.need(e, need{name, rank, depth})
		}
	}
	s.secret(name, base)
	s.registries(name, base)
	switch {
	case name == ".devcontainer/devcontainer.json" || name == ".devcontainer.json":
		s.facts.Devcontainer = name
	case depth == 0 && slices.Contains([]string{"Makefile", "GNUmakefile", "makefile"}, base):
		s.facts.Makefile = name
	case name == ".gitmodules":
		s.submodules(name)
	case name == ".claude/settings.json" || name == ".claude/settings.local.json":
		s.claude(name)
	case base == "Dockerfile" || base == "Containerfile" || strings.HasSuffix(base, ".Dockerfile"):
		s.dockerfile(name)
	}
}

func (s *surveyor) need(e ecosystem, n need) {
	if e.language != "" {
		s.facts.Languages = append(s.facts.Languages, e.language)
	}
	old, known := s.needs[e.name]
	if !known || n.rank < old.rank || n.rank == old.rank && n.depth < old.depth {
		s.needs[e.name] = n
	}
}

func (s *surveyor) needed() (facts []Fact) {
	for _, e := range s.table {
		if n, ok := s.needs[e.name]; ok {
			facts = append(facts, Fact{e.name, n.file})
		}
	}
	return facts
}

// content reads a file within the bounds; "" where that cannot be done.
func (s *surveyor) content(name string) string {
	if s.reads++; s.reads > maxReads {
		s.facts.Partial = true
		return ""
	}
	f, err := s.fsys.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	// The entry was a regular file when it was listed; a FIFO in its place would hang a read.
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(f, maxContent))
	if err != nil {
		return ""
	}
	return string(data)
}

func add(facts *[]Fact, what, file string) {
	known := func(f Fact) bool { return f.What == what }
	if len(*facts) < maxFacts && !slices.ContainsFunc(*facts, known) {
		*facts = append(*facts, Fact{what, file})
	}
}

func (s *surveyor) hide(pattern, file string) {
	if hidable(pattern) == "" {
		add(&s.facts.Hide, pattern, file)
	}
}

// submodules notes the hosts that submodules come from.
func (s *surveyor) submodules(name string) {
	for line := range strings.Lines(s.content(name)) {
		key, value, _ := strings.Cut(line, "=")
		if host := remoteHost(strings.TrimSpace(value)); host != "" && strings.TrimSpace(key) == "url" {
			add(&s.facts.Submodules, host, name)
		}
	}
}

// dockerfile notes which package managers an image is made with.
func (s *surveyor) dockerfile(name string) {
	text := s.content(name)
	for word, manager := range map[string]string{"apt-get install": "apt", "apt install": "apt", "apt-get -y install": "apt", "apk add": "apk", "dnf install": "dnf", "yum install": "dnf"} {
		if strings.Contains(text, word) {
			add(&s.facts.Packages, manager, name)
		}
	}
}

// claude notes what Claude Code may not read, and what it may reach.
func (s *surveyor) claude(name string) {
	top, err := parseJSONC(name, []byte(s.content(name)))
	if err != nil {
		return
	}
	deny, _ := top.get("permissions", "deny")
	for _, rule := range texts(deny) {
		if tool, arg := toolRule(rule); tool == "Read" {
			if pattern, where := locate(arg, inRule, Ground{}); where == inside {
				s.hide(pattern, name)
			}
		}
	}
	allow, _ := top.get("permissions", "allow")
	domains, _ := top.get("sandbox", "network", "allowedDomains")
	hosts := texts(domains)
	for _, rule := range texts(allow) {
		if tool, arg := toolRule(rule); tool == "WebFetch" {
			hosts = append(hosts, strings.TrimPrefix(arg, "domain:"))
		}
	}
	for _, h := range hosts {
		if d, why := parseDomain(h); why == "" {
			add(&s.facts.Allowed, d.pattern.String(), name)
		}
	}
}

func texts(list node) (all []string) {
	for _, e := range list.elements() {
		if s, ok := e.text(); ok {
			all = append(all, s)
		}
	}
	return all
}

func (s *surveyor) tidied() Facts {
	f := s.facts
	slices.Sort(f.Languages)
	f.Languages = slices.Compact(f.Languages)
	slices.Sort(f.Remotes)
	f.Remotes = slices.Compact(f.Remotes)
	for _, list := range [][]Fact{f.Registries, f.Submodules, f.Hide, f.Allowed, f.Packages} {
		slices.SortFunc(list, func(a, b Fact) int { return strings.Compare(a.What, b.What) })
	}
	return f
}

// remoteHost gives the host of a git remote, or "" for one that no rule could name.
func remoteHost(url string) string {
	h, err := policy.ParseHost(plan.ParseRemote(url).Host)
	if err != nil {
		return ""
	}
	return h.String()
}
