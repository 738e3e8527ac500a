package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"
)

// elsewhere are the systems beside this one that agentbox is built for. Compiling what it links takes minutes for
// each; checking the types takes seconds and finds the same: a name, a field or a type that the system does not have.
var elsewhere = []string{"darwin/arm64", "darwin/amd64", "linux/arm64"}

// unit is a package as the compiler would get it, its tests included.
type unit struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string
	Standard   bool
	DepOnly    bool
	Error      *struct{ Err string }
}

// listFor asks the go command for all that the tree needs on a system, dependencies first.
func listFor(t *testing.T, system string) []unit {
	t.Helper()
	goos, goarch, _ := strings.Cut(system, "/")
	return goList[unit](t, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"},
		"-deps", "-test", "-json=ImportPath,Dir,GoFiles,ImportMap,Standard,DepOnly,Error")
}

// checker checks packages in the order in which they are listed.
type checker struct {
	set    *token.FileSet
	sizes  types.Sizes
	done   map[string]*types.Package
	faults []string
}

// importer finds what a unit imports among what was checked before it.
type importer struct {
	of   unit
	done map[string]*types.Package
}

func (i importer) Import(path string) (*types.Package, error) {
	if mapped, ok := i.of.ImportMap[path]; ok {
		path = mapped
	}
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if p := i.done[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s is not there", path)
}

// check checks u. Only what is ours is looked at inside its functions; whether others' modules compile is not
// asked.
func (c *checker) check(u unit) {
	if u.ImportPath == "unsafe" || strings.HasSuffix(u.ImportPath, ".test") {
		return
	}
	mine := !u.Standard && !u.DepOnly
	if mine && u.Error != nil {
		c.faults = append(c.faults, u.ImportPath+": "+u.Error.Err)
	}
	conf := types.Config{Importer: importer{u, c.done}, IgnoreFuncBodies: !mine, FakeImportC: true, Sizes: c.sizes, Error: func(err error) {
		if mine {
			c.faults = append(c.faults, err.Error())
		}
	}}
	path, _, _ := strings.Cut(u.ImportPath, " ")
	c.done[u.ImportPath], _ = conf.Check(path, c.set, c.parse(u), nil)
}

func (c *checker) parse(u unit) []*ast.File {
	var files []*ast.File
	for _, name := range u.GoFiles {
		if !filepath.IsAbs(name) {
			name = filepath.Join(u.Dir, name)
		}
		f, err := parser.ParseFile(c.set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			c.faults = append(c.faults, err.Error())
			continue
		}
		files = append(files, f)
	}
	return files
}

func TestTypesHoldElsewhere(t *testing.T) {
	for _, system := range elsewhere {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			_, goarch, _ := strings.Cut(system, "/")
			c := &checker{set: token.NewFileSet(), sizes: types.SizesFor("gc", goarch), done: map[string]*types.Package{}}
			for _, u := range listFor(t, system) {
				c.check(u)
			}
			if c.done["agentbox/cmd/agentbox"] == nil {
				t.Error("cmd/agentbox was not checked")
			}
			for _, fault := range c.faults {
				t.Error(fault)
			}
		})
	}
}
