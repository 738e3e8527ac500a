package profiles

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
)

// coming lists the keys that the format will have and this version refuses by name.
func coming() map[string]bool {
	return map[string]bool{
		"extends": true, "tier": true, "git": true, "mcp": true, "memory": true, "telemetry": true,
		"agent.rootfs": true, "agent.image": true, "agent.containerfile": true,
		"workspace.backend": true, "workspace.caches": true,
		"network.use": true, "network.rule.methods": true, "network.rule.paths": true,
		"credential.source.command": true, "credential.source.file": true, "credential.source.github_app": true,
		"budget.usd": true, "budget.tokens": true, "budget.requests": true, "budget.tool_calls": true,
		"budget.denials": true, "budget.on_limit": true,
	}
}

// A file beyond these is a mistake, or hostile: it is not read on, so that reading is quick whatever it holds.
const (
	maxFile     = 64 << 10 // bytes
	maxProblems = 100
	maxDots     = 300  // on one line: the parser's time grows with the cube of a key's parts
	maxBraces   = 3000 // and of nested inline tables
)

// Load reads a profile. Origin is the file as messages name it. The error is Problems.
func Load(name string, data []byte, origin string) (Profile, error) {
	d, tree := parse(origin, data, coming())
	p := Profile{}
	if tree != nil {
		d.decode(tree, reflect.ValueOf(&p).Elem(), nil)
		p.Name, p.Origin = name, origin
		d.decoded()
		d.origins(&p)
		d.check(&p)
	}
	if err := d.problems.sorted(); err != nil {
		return Profile{}, err
	}
	return p, nil
}

// origins tells each rule and credential its line. Only the file's own name is in it, so that a plan's grants do
// not depend on where a person keeps their files.
func (d *document) origins(p *Profile) {
	file := path.Base(p.Origin)
	for i := range p.Network.Rules {
		p.Network.Rules[i].Origin = fmt.Sprintf("%s:%d", file, d.line([]string{"network", "rule", index(i)}))
	}
	for i := range p.Credentials {
		p.Credentials[i].Origin = fmt.Sprintf("%s:%d", file, d.line([]string{"credential", index(i)}))
	}
}

// LoadConfig reads the person's configuration. The error is Problems.
func LoadConfig(data []byte, origin string) (Config, error) {
	d, tree := parse(origin, data, map[string]bool{"telemetry": true})
	c := Config{}
	if tree != nil {
		d.decode(tree, reflect.ValueOf(&c).Elem(), nil)
		if ca := c.Upstream.CA; ca != "" && !path.IsAbs(ca) && !strings.HasPrefix(ca, "~/") {
			d.value([]string{"upstream", "ca"}, `write an absolute path, or one that begins with "~/"`, "%q depends on where agentbox is started", ca)
		}
	}
	if err := d.problems.sorted(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Dir is a place where profiles are: NAME.toml at the root of FS. Label goes before the file's name in messages.
type Dir struct {
	Label string
	FS    fs.FS
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

// Find loads the profile of that name from the first directory that has it; a directory that does not exist has
// none. The error is *NotFound, Problems, or that of reading.
func Find(name string, dirs ...Dir) (Profile, error) {
	if nameForm.MatchString(name) {
		for _, dir := range dirs {
			data, err := fs.ReadFile(dir.FS, name+".toml")
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return Profile{}, fmt.Errorf("reading profile %q: %w", name, err)
			}
			return Load(name, data, path.Join(dir.Label, name+".toml"))
		}
	}
	return Profile{}, &NotFound{Name: name, Names: Names(dirs...)}
}

// Names lists the profiles of all directories, sorted; a directory that cannot be read has none.
func Names(dirs ...Dir) []string {
	var names []string
	for _, dir := range dirs {
		files, _ := fs.Glob(dir.FS, "*.toml")
		for _, f := range files {
			if n := strings.TrimSuffix(f, ".toml"); nameForm.MatchString(n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
