// Package archtest holds the tests that police the tree itself: who may import whom, and the habits that no linter
// knows. It asks the go command for the real import graph, so it needs the go command and nothing else.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "agentbox"
	root   = "../.."
	tags   = "remote containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper"
)

// levels gives each package its place; imports go downward. A prefix that ends in "/..." covers what is below it.
var levels = map[string]int{
	"internal/approval":        0,
	"internal/atomicfile":      0,
	"internal/budget":          0,
	"internal/caches":          0,
	"internal/event":           0,
	"internal/findings":        0,
	"internal/gitwire":         0,
	"internal/hostinfo":        0,
	"internal/logins":          0,
	"internal/policy":          0,
	"internal/scrub":           0,
	"internal/subprocess":      0,
	"internal/shim":            0,
	"internal/shimwire":        0,
	"internal/sys":             0,
	"internal/usage":           0,
	"completions":              1,
	"profiles":                 1,
	"internal/eventlog":        1,
	"internal/kept":            1,
	"internal/later":           1,
	"internal/layerfiles":      1,
	"internal/memory":          1,
	"internal/otel":            1,
	"internal/profiles":        1,
	"internal/secrets":         1,
	"internal/session":         1,
	"internal/shimbin":         1,
	"internal/signing":         1,
	"internal/synthdns":        1,
	"internal/trust":           1,
	"internal/changes":         2,
	"internal/gate":            2,
	"internal/images":          2, // it reads files of a repository as layerfiles does
	"internal/plan":            2,
	"internal/replay":          2,
	"internal/schema":          2,
	"internal/direct":          2,
	"internal/apply":           3, // it writes what changes reads
	"internal/doctor":          3,
	"internal/learn":           3, // it writes rules, so it stands above what judges and what a plan says
	"internal/mcp":             3,
	"internal/proxy":           3,
	"internal/rootfs":          3,
	"internal/starter":         3, // it writes profiles, so it stands above what reads them
	"internal/transport":       3,
	"internal/transport/...":   3,
	"internal/commits":         3, // it runs the host's git as layerfiles does
	"internal/workspace":       3,
	"internal/run":             4,
	"internal/run/podman":      4,
	"internal/run/runtest":     4,
	"internal/redteam":         5,
	"internal/tui":             5,
	"cmd/agentbox":             6,
	"cmd/agentbox/manpage":     testOnly, // linked by the generator of man pages alone
	"cmd/agentbox/reference":   testOnly, // linked by the generator of docs/ alone
	"cmd/agentbox-site":        testOnly, // linked by nothing: it builds the documentation
	"cmd/agentbox-shim":        6,
	"internal/archtest":        testOnly,
	"internal/site":            testOnly,
	"internal/modelserver":     testOnly,
	"internal/modelserver/...": testOnly,
	"test/...":                 testOnly,
}

// testOnly packages may import everything; only each other and test files import them.
const testOnly = 100

// sideways are the imports within a level that are meant, with the reason.
var sideways = map[[2]string]string{
	{"internal/shim", "internal/shimwire"}:                     "the two ends of one wire share its messages",
	{"internal/run/podman", "internal/run"}:                    "it implements run's Runtime",
	{"internal/run/runtest", "internal/run"}:                   "it holds the contract of run's Runtime",
	{"internal/trust", "internal/layerfiles"}:                  "its own files are read as carefully, and given back as the same kind of file system",
	{"internal/profiles", "profiles"}:                          "the built-in profiles are embedded there",
	{"internal/transport/transporttest", "internal/transport"}: "it holds the contract of Transport",
}

// forbidden are arrows, direct or through other packages, that would break the design even where levels allow them.
var forbidden = []struct{ from, to, why string }{
	{"internal/proxy", "internal/gate", "the proxy states what it needs as an interface; run hands the gate in"},
	{"internal/proxy", "internal/secrets", "the proxy gets values through an interface, and never chooses a source"},
	{"internal/mcp", "internal/gate", "the broker states what it needs as an interface; run hands the gate in"},
	{"internal/mcp", "internal/secrets", "the broker gets values through an interface, and never chooses a source"},
	{"internal/tui", "internal/run", "the UI talks to a run through its socket, as any other terminal does"},
	{"internal/plan", "os", "resolving is pure: its inputs carry what the machine says"},
	{"internal/plan", "os/exec", "resolving is pure"},
	{"internal/plan", "net", "resolving is pure"},
	{"internal/policy", "os", "deciding is pure"},
	{"internal/replay", "os", "judging again is pure: its caller reads the log"},
	{"internal/learn", "os", "what is proposed follows from the log and the rules alone"},
	{"internal/policy", "net/http", "deciding is pure, and knows no transport"},
	{"internal/gate", "internal/run", "the gate is asked; it starts nothing"},
}

// directOnly holds the forbidden arrows into the standard library: there only the package's own imports count,
// since almost everything reaches os through fmt.
func directOnly(to string) bool { return !strings.HasPrefix(to, "internal/") }

// external says who may import a module that is not ours. Modules that are not named here are free to use above
// level 0.
var external = []struct{ module, by, why string }{
	{"github.com/containers/", "internal/run/podman", "one package speaks to Podman"},
	{"github.com/zalando/go-keyring", "internal/secrets", "one package speaks to the keyring"},
	{"github.com/elazarl/goproxy", "internal/proxy", "one package is the proxy"},
	{"github.com/spf13/", "cmd/agentbox", "flags end at the command line"},
	{"github.com/yuin/goldmark", "internal/site", "one package reads Markdown"},
	{"charm.land/", "internal/tui", "one package draws screens"},
	{"github.com/charmbracelet/", "internal/tui", "one package draws screens"},
}

// besides are the packages that may import such a module too, with the reason.
var besides = map[[2]string]string{
	{"test/proxybench", "github.com/elazarl/goproxy"}: "it measures bare goproxy beside the proxy",
}

// narrow lists all that a package may import from outside the standard library and this module. Packages of level 0
// that are not in it may import nothing.
var narrow = map[string][]string{
	"internal/atomicfile": {"golang.org/x/sys/"},
	"internal/caches":     {"github.com/pelletier/go-toml/v2"},
	"internal/layerfiles": {"golang.org/x/sys/"},
	"internal/policy":     {"golang.org/x/net/idna", "golang.org/x/net/publicsuffix"},
	"internal/shim":       {"golang.org/x/sys/"},
	"internal/sys":        {"golang.org/x/sys/"},
	"internal/synthdns":   {"github.com/miekg/dns"},
}

// pkg is what the go command says of a package.
type pkg struct {
	ImportPath                         string
	Dir                                string
	Name                               string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, Deps                      []string
	DepOnly                            bool
}

// short is the path within the module.
func (p pkg) short() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// goList asks the go command about the module, and gives what it says of each package.
func goList[T any](t *testing.T, env []string, args ...string) []T {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"list", "-e", "-tags", tags}, args...), "./...")...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []T
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var one T
		err := dec.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// load asks the go command for every package of the module.
func load(t *testing.T) []pkg {
	t.Helper()
	all := goList[pkg](t, nil, "-json=ImportPath,Dir,Name,GoFiles,TestGoFiles,XTestGoFiles,Imports,Deps")
	if len(all) < 5 {
		t.Fatalf("go list found %d packages; something hides the tree", len(all))
	}
	return all
}

// ours says whether an import path is of this module, and returns it without the module's name.
func ours(path string) (string, bool) { return strings.CutPrefix(path, module+"/") }

// level returns the level of a package of ours.
func level(short string) (int, bool) {
	if l, ok := levels[short]; ok {
		return l, true
	}
	for dir := filepath.Dir(short); dir != "."; dir = filepath.Dir(dir) {
		if l, ok := levels[dir+"/..."]; ok {
			return l, true
		}
	}
	return 0, false
}

// checkLevels reports imports that do not go downward.
func checkLevels(p pkg) (faults []string) {
	from, ok := level(p.short())
	if !ok {
		return []string{p.short() + " has no level: decide where it stands, in levels"}
	}
	if from == testOnly {
		return nil
	}
	for _, path := range p.Imports {
		short, mine := ours(path)
		if !mine {
			continue
		}
		to, ok := level(short)
		_, meant := sideways[[2]string{p.short(), short}]
		switch {
		case ok && to == testOnly:
			faults = append(faults, fmt.Sprintf("%s imports %s, which is for tests only", p.short(), short))
		case ok && (to > from || to == from && !meant):
			faults = append(faults, fmt.Sprintf("%s (level %d) imports %s (level %d): imports go downward", p.short(), from, short, to))
		}
	}
	return faults
}

// checkForbidden reports arrows that the design rules out by name.
func checkForbidden(p pkg) (faults []string) {
	for _, arrow := range forbidden {
		if p.short() != arrow.from {
			continue
		}
		reached := slices.Contains(p.Deps, module+"/"+arrow.to)
		if directOnly(arrow.to) {
			reached = slices.Contains(p.Imports, arrow.to)
		}
		if reached {
			faults = append(faults, fmt.Sprintf("%s reaches %s: %s", arrow.from, arrow.to, arrow.why))
		}
	}
	return faults
}

// checkExternal reports imports of modules that belong to another package.
func checkExternal(p pkg) (faults []string) {
	at, _ := level(p.short())
	for _, path := range p.Imports {
		for _, e := range external {
			_, too := besides[[2]string{p.short(), e.module}]
			if matches(path, e.module) && !too && p.short() != e.by && !strings.HasPrefix(p.short(), e.by+"/") {
				faults = append(faults, fmt.Sprintf("%s imports %s, which only %s may: %s", p.short(), path, e.by, e.why))
			}
		}
		if _, listed := narrow[p.short()]; (at == 0 || listed) && !narrowAllows(p.short(), path) {
			faults = append(faults, fmt.Sprintf("%s imports %s: it keeps to the standard library, but for what narrow lists", p.short(), path))
		}
	}
	return faults
}

// matches says whether an import path is the module, or below it.
func matches(path, module string) bool {
	prefix := strings.TrimSuffix(module, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func narrowAllows(short, path string) bool {
	if _, mine := ours(path); mine || standard(path) {
		return true
	}
	return slices.ContainsFunc(narrow[short], func(m string) bool { return matches(path, m) })
}

// standard says whether a path is of the standard library: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != module
}

// checkShim reports what the program inside containers links beyond the standard library and x/sys.
func checkShim(p pkg) (faults []string) {
	if p.short() != "cmd/agentbox-shim" && p.short() != "internal/shim" && p.short() != "internal/shimwire" {
		return nil
	}
	for _, path := range p.Deps {
		short, mine := ours(path)
		small := mine && (short == "internal/shim" || short == "internal/shimwire")
		if !small && !standard(path) && !matches(path, "golang.org/x/sys") {
			faults = append(faults, fmt.Sprintf("%s links %s: what runs inside stays small enough to read", p.short(), path))
		}
	}
	return faults
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range load(t) {
		seen[p.short()] = true
		for _, check := range []func(pkg) []string{checkLevels, checkForbidden, checkExternal, checkShim} {
			for _, fault := range check(p) {
				t.Error(fault)
			}
		}
	}
	for _, must := range []string{"internal/event", "internal/policy", "internal/plan"} {
		if !seen[must] {
			t.Errorf("%s is missing from the graph: the checks do not see the tree", must)
		}
	}
}

// The checks themselves find what they are for.
func TestChecksFindFaults(t *testing.T) {
	p := func(short string, imports ...string) pkg {
		return pkg{ImportPath: module + "/" + short, Imports: imports, Deps: imports}
	}
	tests := []struct {
		check func(pkg) []string
		p     pkg
		want  string // in the only fault; "" for none
	}{
		{checkLevels, p("internal/event", module+"/internal/run"), "imports go downward"},
		{checkLevels, p("internal/gate", module+"/internal/plan"), "imports go downward"},
		{checkLevels, p("internal/run", module+"/internal/proxy"), ""},
		{checkLevels, p("internal/run/podman", module+"/internal/run"), ""},
		{checkLevels, p("internal/run", module+"/internal/run/podman"), "imports go downward"},
		{checkLevels, p("internal/run", module+"/internal/modelserver"), "tests only"},
		{checkLevels, p("internal/unheard"), "no level"},
		{checkLevels, p("test/e2e", module+"/internal/run"), ""},
		{checkForbidden, p("internal/proxy", module+"/internal/gate"), "run hands the gate in"},
		{checkForbidden, p("internal/plan", "os"), "pure"},
		{checkForbidden, p("internal/plan", "errors"), ""},
		{checkExternal, p("internal/run", "github.com/containers/podman/v5/pkg/bindings"), "one package speaks to Podman"},
		{checkExternal, p("internal/run/podman", "github.com/containers/podman/v5/pkg/bindings"), ""},
		{checkExternal, p("internal/run", "github.com/elazarl/goproxy"), "one package is the proxy"},
		{checkExternal, p("test/proxybench", "github.com/elazarl/goproxy"), ""},
		{checkExternal, p("test/soak", "github.com/elazarl/goproxy"), "one package is the proxy"},
		{checkExternal, p("internal/event", "golang.org/x/sys/unix"), "standard library"},
		{checkExternal, p("internal/policy", "golang.org/x/net/idna"), ""},
		{checkExternal, p("internal/policy", "golang.org/x/net/http2"), "standard library"},
		{checkShim, p("cmd/agentbox-shim", module+"/internal/shim", "golang.org/x/sys/unix", "os"), ""},
		{checkShim, p("cmd/agentbox-shim", module+"/internal/policy"), "stays small"},
		{checkShim, p("internal/shim", "golang.org/x/net/idna"), "stays small"},
	}
	for _, test := range tests {
		got := test.check(test.p)
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
			t.Errorf("%s with %v: got %q, want %q", test.p.short(), test.p.Imports, got, test.want)
		}
	}
}

// file is a parsed source file with its place.
type file struct {
	path   string // within the tree
	name   string // of the package
	dir    string
	syntax *ast.File
	set    *token.FileSet
}

// sources parses every file of the module that is not a test.
func sources(t *testing.T) []file {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var all []file
	for _, p := range load(t) {
		for _, name := range p.GoFiles {
			full := filepath.Join(p.Dir, name)
			syntax, err := parser.ParseFile(set, full, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			path, err := filepath.Rel(top, full)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, file{path: path, name: p.Name, dir: p.short(), syntax: syntax, set: set})
		}
	}
	return all
}

func TestOneDocCommentAPackage(t *testing.T) {
	docs := map[string]int{}
	for _, f := range sources(t) {
		docs[f.dir] += 0
		if f.syntax.Doc != nil && strings.TrimSpace(f.syntax.Doc.Text()) != "" {
			docs[f.dir]++
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(docs)) {
		if docs[dir] != 1 {
			t.Errorf("%s has %d package comments, want 1", dir, docs[dir])
		}
	}
}

// calls are functions that few files may use.
var calls = []struct {
	pkg, name string
	allowed   func(path string) bool
	why       string
}{
	{"time", "Sleep", never, "readiness is a listener, a pipe or a channel"},
	{"os", "Exit", inMainOrPID1, "only a main function ends the process"},
	{"log", "Fatal", never, "return the error"},
	{"log", "Fatalf", never, "return the error"},
	{"ioutil", "ReadAll", never, "use io"},
}

func never(string) bool { return false }

// inMain allows the file that holds a program's main function.
func inMain(path string) bool {
	return filepath.Base(path) == "main.go" &&
		(strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "internal/modelserver/cmd/")) ||
		strings.HasPrefix(path, "internal/transport/transporttest/") // its program is the inside of a container
}

// inMainOrPID1 allows PID 1 of containers too: it ends as its child ended, from where it learns that.
func inMainOrPID1(path string) bool { return inMain(path) || strings.HasPrefix(path, "internal/shim/") }

// checkCalls reports calls that a file may not make.
func checkCalls(f file) (faults []string) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, c := range calls {
			if id.Name == c.pkg && sel.Sel.Name == c.name && !c.allowed(f.path) {
				faults = append(faults, fmt.Sprintf("%s:%d uses %s.%s: %s", f.path, f.set.Position(n.Pos()).Line, c.pkg, c.name, c.why))
			}
		}
		return true
	})
	return faults
}

// checkInit reports init functions: what a package does, its caller asks for.
func checkInit(f file) (faults []string) {
	for _, decl := range f.syntax.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !inMain(f.path) {
			faults = append(faults, f.path+" has an init function")
		}
	}
	return faults
}

func TestHabits(t *testing.T) {
	for _, f := range sources(t) {
		for _, fault := range append(checkCalls(f), checkInit(f)...) {
			t.Error(fault)
		}
	}
}

func TestHabitsFindFaults(t *testing.T) {
	set := token.NewFileSet()
	const code = "package p\nimport (\"os\"; \"time\")\nfunc init() { time.Sleep(1); os.Exit(1) }\n"
	syntax, err := parser.ParseFile(set, "p.go", code, 0)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"internal/p/p.go": 3, "cmd/p/main.go": 1} {
		f := file{path: path, syntax: syntax, set: set}
		if got := append(checkCalls(f), checkInit(f)...); len(got) != want {
			t.Errorf("%s: got %q, want %d faults", path, got, want)
		}
	}
}

// One file speaks to the keyring, so that its time limits cannot be missed.
func TestOneFileImportsTheKeyring(t *testing.T) {
	var files []string
	for _, f := range sources(t) {
		for _, spec := range f.syntax.Imports {
			if path, err := strconv.Unquote(spec.Path.Value); err == nil && path == "github.com/zalando/go-keyring" {
				files = append(files, f.path)
			}
		}
	}
	if len(files) > 1 {
		t.Errorf("go-keyring is imported by %v, want one file", files)
	}
}

// Every package that does something is tested by something in its own directory.
func TestEveryPackageHasTests(t *testing.T) {
	untested := map[string]string{
		"cmd/agentbox":                     "test/e2e drives the program",
		"profiles":                         "internal/profiles's tests load each",
		"internal/run/runtest":             "the contract in it runs on every runtime",
		"internal/transport/transporttest": "the contract in it runs on every transport",
		"cmd/agentbox-shim":                "internal/shim's tests and test/e2e drive it",
	}
	for _, p := range load(t) {
		at, _ := level(p.short())
		_, excused := untested[p.short()]
		if len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 && at != testOnly && !excused && len(p.GoFiles) > 0 {
			t.Errorf("%s has no test", p.short())
		}
	}
}
