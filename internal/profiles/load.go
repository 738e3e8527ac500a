package profiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
)

// Files is where the files of profiles are. A nil FS has none.
type Files struct {
	BuiltIn    fs.FS  // NAME.toml, sets/NAME.toml
	Repo       fs.FS  // agentbox.toml, .agentbox/NAME.toml
	User       fs.FS  // agentbox.toml, profiles/NAME.toml, sets/NAME.toml
	UserDir    string // of User, as messages name it: "~/.config/agentbox"
	Grants     []byte // what the person has allowed for this repository; nil: nothing
	GrantsFile string // as messages name it
}

// Loaded is a profile and what is likely a mistake in it.
type Loaded struct {
	Profile  Profile
	Warnings Problems
}

// maxExtends is how long a chain of extends may be.
const maxExtends = 16

// Load reads a profile with all its layers, each file first by itself. The error is Problems, of all files; *NotFound; or
// that of reading a file that is there.
func Load(name string, f Files) (Loaded, error) {
	l := loader{d: newDocument(), files: f, named: map[string][]layer{}}
	if err := l.chain(name); err != nil {
		return Loaded{}, err
	}
	if err := l.common(); err != nil {
		return Loaded{}, err
	}
	return l.load(name)
}

// Parse reads one file as a whole profile, with nothing below it and no named sets. The error is Problems.
func Parse(name string, data []byte, file string) (Loaded, error) {
	l := loader{d: newDocument(), named: map[string][]layer{}, names: []string{name}}
	l.named[name] = []layer{l.layer(newSource(file, User, data), name)}
	return l.load(name)
}

// loader gathers the files of one profile.
type loader struct {
	d      *document
	files  Files
	names  []string           // of the profile and what it extends, itself first
	named  map[string][]layer // their files, by profile and in the order of levels
	all    []layer            // files for every profile
	broken bool               // a file is not TOML, or one is missing
}

// level is a place of files with the names that they have there.
type level struct {
	Level
	fs.FS
	label, profiles, every, sets string
}

func (f Files) levels() []level {
	return slices.DeleteFunc([]level{
		{BuiltIn, f.BuiltIn, "built-in", ".", "", "sets"},
		{Repo, f.Repo, "", ".agentbox", "agentbox.toml", ""},
		{User, f.User, f.UserDir, "profiles", "agentbox.toml", "sets"},
	}, func(l level) bool { return l.FS == nil })
}

// read is nil for a file that is not there, and for a name that no level has.
func (l level) read(name string) (*source, error) {
	label := path.Join(l.label, name)
	file, size, err := l.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", label, bare(err))
	}
	defer func() { _ = file.Close() }()
	var data bytes.Buffer
	data.Grow(int(min(size, maxFile)) + bytes.MinRead)
	if _, err := data.ReadFrom(io.LimitReader(file, maxFile+1)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", label, bare(err))
	}
	return ownSource(label, l.Level, data.Bytes()), nil
}

// open opens a regular file. Where asking what it is means opening it, it is asked only once.
func (l level) open(name string) (file fs.File, size int64, err error) {
	if s, ok := l.FS.(fs.StatFS); ok { // opening a pipe could wait
		if info, err := s.Stat(name); err != nil {
			return nil, 0, err
		} else if !info.Mode().IsRegular() {
			return nil, 0, errNotRegular
		}
	}
	if file, err = l.Open(name); err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

var errNotRegular = errors.New("it is not a regular file")

// bare leaves out the path that the message names already.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (l *loader) layer(src *source, profile string) layer {
	out := layer{source: src, profile: profile, root: l.d.read(src)}
	l.broken = l.broken || out.root == nil
	return out
}

// chain finds the files of a profile and of what it extends.
func (l *loader) chain(name string) error {
	for at := (*node)(nil); ; {
		next, err := l.step(name, at)
		if next == nil || err != nil {
			return err
		}
		name, at = next.text, next
	}
}

// step reads the files of one profile, which at extends, and finds what it extends in turn, or nil.
func (l *loader) step(name string, at *node) (next *node, err error) {
	if at != nil && !l.mayExtend(name, at) {
		return nil, nil
	}
	files, err := l.files.of(name)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		missing := &NotFound{Name: name, Names: l.files.Names()}
		if at == nil {
			return nil, missing
		}
		l.broken = true
		l.d.at(at, "unknown-profile", missing.Hint(), "%s", missing)
		return nil, nil
	}
	l.names = append(l.names, name)
	for _, src := range files {
		l.named[name] = append(l.named[name], l.layer(src, name))
	}
	return l.extends(name), nil
}

// mayExtend refuses cycles and endless chains.
func (l *loader) mayExtend(name string, at *node) bool {
	switch {
	case name == l.names[len(l.names)-1]:
		l.d.at(at, "extends-cycle", l.itselfHint(name), "profile %q extends itself", name)
	case slices.Contains(l.names, name):
		l.d.at(at, "extends-cycle", "", "profile %q extends itself: %s", name, strings.Join(append(l.names[slices.Index(l.names, name):], name), " → "))
	case len(l.names) > maxExtends:
		l.d.at(at, "extends-depth", "", "more than %d profiles extend each other", maxExtends)
	default:
		return true
	}
	l.broken = true
	return false
}

// itselfHint knows whether something lies below the file anyway.
func (l *loader) itselfHint(name string) string {
	if files := l.named[name]; len(files) > 1 && files[0].level == BuiltIn {
		return "leave it out: your file lies on the built-in one of the same name anyway"
	}
	return "leave it out, or name another profile; there is no built-in one of this name"
}

// extends finds what a profile's files say that it extends; they must agree.
func (l *loader) extends(name string) (said *node) {
	for _, file := range l.named[name] {
		n := file.root.get("extends")
		if n == nil || n.kind != stringKind || !nameForm().MatchString(n.text) {
			continue // what is wrong with it is found when the file is decoded
		}
		if said != nil && said.text != n.text {
			l.d.at(n, "extends-disagree", "name the same profile, or leave it out in one of them", "profile %q extends %q here, and %q at %s", name, n.text, said.text, said.src.place(int(said.key)))
			l.broken = true
			continue
		}
		if said == nil {
			said = n
		}
	}
	return said
}

// of reads the files of one profile, in the order of levels.
func (f Files) of(name string) (files []*source, err error) {
	if !nameForm().MatchString(name) {
		return nil, nil
	}
	for _, lv := range f.levels() {
		src, err := lv.read(path.Join(lv.profiles, name+".toml"))
		if err != nil {
			return nil, err
		}
		if src != nil {
			files = append(files, src)
		}
	}
	return files, nil
}

// common reads the files that lie under every profile, and what was granted.
func (l *loader) common() error {
	for _, lv := range l.files.levels() {
		if lv.every == "" {
			continue
		}
		src, err := lv.read(lv.every)
		if err != nil {
			return err
		}
		if src != nil {
			l.all = append(l.all, l.layer(src, ""))
		}
	}
	if l.files.Grants != nil {
		grants := l.layer(newSource(l.files.GrantsFile, Grants, l.files.Grants), "")
		grants.grants = true
		l.all = append(l.all, grants)
	}
	return nil
}

// order lists the layers, the lowest first: by level; in it the file for every profile, then the chain from its root.
func (l *loader) order() (out []layer) {
	for lv := BuiltIn; lv <= Grants; lv++ {
		at := func(file layer) {
			if file.level == lv {
				out = append(out, file)
			}
		}
		for _, file := range l.all {
			at(file)
		}
		for _, name := range slices.Backward(l.names) {
			for _, file := range l.named[name] {
				at(file)
			}
		}
	}
	return out
}

// load decodes the files, each by itself and then all of them together.
func (l *loader) load(name string) (Loaded, error) {
	layers, d := l.order(), l.d
	d.files = nil
	for _, file := range layers {
		d.files = append(d.files, file.file)
		if file.root != nil {
			d.decodeLayer(file)
		}
	}
	p := Profile{}
	if !l.broken {
		d.settled = true
		d.root = d.merge(layers, name)
		if err := l.whole(&p, layers, name); err != nil {
			return Loaded{}, err
		}
	}
	ps := d.problems.sort(d.files)
	if ps.failed() {
		return Loaded{}, ps
	}
	return Loaded{p, ps}, nil
}

// whole decodes and checks the merged tree.
func (l *loader) whole(p *Profile, layers []layer, name string) error {
	d := l.d
	sets, err := l.expand(d.root)
	if err != nil {
		return err
	}
	d.decode(d.root, reflect.ValueOf(p).Elem())
	p.Name, p.Chain = name, slices.Clone(l.names)
	slices.Reverse(p.Chain)
	p.Origin = d.root.src.file
	p.Origins = d.origins(reflect.TypeFor[Profile]())
	l.place(p)
	sets.mark(p)
	d.check(p)
	return nil
}

// place tells each entry of a list where it was written.
func (l *loader) place(p *Profile) {
	origin := func(list []*node, i int) string { return list[i].src.origin(int(list[i].key)) }
	each := func(n int, set func(list []*node, i int), at ...string) {
		list, ok := l.d.find(at)
		for i := 0; ok && list.list != nil && i < min(n, len(list.items)); i++ {
			set(list.items, i)
		}
	}
	each(len(p.Network.Rules), func(n []*node, i int) {
		p.Network.Rules[i].Origin, p.Network.Rules[i].Granted = origin(n, i), n[i].src.level == Grants
	}, "network", "rule")
	each(len(p.Credentials), func(n []*node, i int) { p.Credentials[i].Origin = origin(n, i) }, "credential")
	each(len(p.Servers), func(n []*node, i int) { p.Servers[i].Origin = origin(n, i) }, "mcp")
	each(len(p.Mounts), func(n []*node, i int) { p.Mounts[i].Origin = origin(n, i) }, "mount")
	each(len(p.Git), func(n []*node, i int) { p.Git[i].Origin = origin(n, i) }, "git")
	each(len(p.Agent.Files), func(n []*node, i int) { p.Agent.Files[i].Origin = origin(n, i) }, "agent", "file")
}

// NotFound says that no directory has the profile.
type NotFound struct {
	Name  string
	Names []string // those there are, sorted
}

func (e *NotFound) Error() string { return fmt.Sprintf("there is no profile %q", e.Name) }

// Hint says what was likely meant, and what there is.
func (e *NotFound) Hint() string {
	hint := "profiles: " + strings.Join(e.Names, ", ")
	if near := nearest(e.Name, e.Names); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", near, hint)
	}
	return hint
}

// Names lists the profiles of all levels, sorted; a directory that cannot be read has none.
func (f Files) Names() (names []string) {
	for _, lv := range f.levels() {
		names = append(names, lv.list(lv.profiles)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// RepoNames lists the profiles that the repository has a file for, sorted.
func (f Files) RepoNames() []string {
	return Files{Repo: f.Repo}.Names()
}

// SetNames lists the named sets, sorted, "origin" among them, which is no file.
func (f Files) SetNames() []string {
	names := []string{originSet}
	for _, lv := range f.levels() {
		if lv.sets != "" {
			names = append(names, lv.list(lv.sets)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// list names the files NAME.toml of a directory.
func (l level) list(dir string) (names []string) {
	files, _ := fs.ReadDir(l.FS, dir)
	for _, f := range files {
		if n, ok := strings.CutSuffix(f.Name(), ".toml"); ok && nameForm().MatchString(n) {
			names = append(names, n)
		}
	}
	return names
}
