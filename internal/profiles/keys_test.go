package profiles

import (
	"encoding"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func allKeys() []Key {
	return slices.Concat(Keys(), SetKeys(), FloorKeys(), GrantKeys(), ConfigKeys())
}

func TestEveryKeyIsDescribed(t *testing.T) {
	for _, k := range allKeys() {
		if k.Doc == "" || strings.Contains(k.Doc, "\n") {
			t.Errorf("%s: no line of documentation: %q", k.Path, k.Doc)
		}
		if k.Example != "" {
			if _, f := parse(newSource("x", User, []byte("x = "+k.Example))); f != nil {
				t.Errorf("%s: the example %s: %s", k.Path, k.Example, f.text)
			}
		}
	}
	for name := range docs() {
		typ, key, _ := strings.Cut(name, ".")
		if !slices.ContainsFunc(allKeys(), func(k Key) bool { return k.Path == key || strings.HasSuffix(k.Path, "."+key) }) {
			t.Errorf("%s of %q is described, and is not there", key, typ)
		}
	}
}

func TestKeysAreThoseOfTheFormat(t *testing.T) {
	byPath := map[string]Key{}
	for _, k := range Keys() {
		byPath[k.Path] = k
	}
	for path, want := range map[string]Key{
		"version":                   {Kind: Integer, Required: true},
		"agent":                     {Kind: Table, Required: true},
		"agent.command":             {Kind: List, Items: String, Required: true},
		"agent.env":                 {Kind: Map, Items: String, KeyPattern: envForm().String()},
		"network.rule":              {Kind: Tables},
		"network.rule.ports":        {Kind: List, Items: Integer, Min: 1, Max: 65535, Default: "[443]"},
		"network.rule.inspect":      {Kind: Boolean, Default: "true"},
		"network.rule.action":       {Kind: String, Required: true, Enum: []string{"allow", "ask", "deny"}},
		"git.fetch":                 {Kind: Boolean, Default: "true"},
		"git.remote":                {Kind: String, Required: true, Identity: true, Pattern: `^[^/]+/.+`},
		"credential.source":         {Kind: Table, Required: true},
		"credential.source.command": {Kind: List, Items: String},
		"credential.source.github_app.permissions": {Kind: Map, Items: String, Required: true, Enum: []string{"read", "write"}, KeyPattern: permissionForm().String()},
		"budget.usd":  {Kind: Number},
		"budget.time": {Kind: String, Pattern: scalarForms()[reflect.TypeFor[Duration]()].pattern},
		"limits.cpus": {Kind: Number},
		"limits.pids": {Kind: Integer},
	} {
		got := byPath[path]
		got.Path, got.Doc, got.Example = "", "", ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", path, got, want)
		}
	}
}

// What is known of a scalar is what it takes.
func TestFormsOfScalars(t *testing.T) {
	for typ, f := range scalarForms() {
		u, ok := reflect.New(typ).Interface().(encoding.TextUnmarshaler)
		if !ok {
			continue
		}
		for _, w := range f.words {
			if err := u.UnmarshalText([]byte(w)); err != nil {
				t.Errorf("%s: %v", typ, err)
			}
		}
		if err := u.UnmarshalText([]byte("################")); f.words != nil && hintOf(err) != `write "`+strings.Join(f.words, `" or "`)+`"` {
			t.Errorf("%s takes other words than %v: %v, %s", typ, f.words, err, hintOf(err))
		}
	}
	pattern := scalarForms()
	for _, k := range Keys() {
		if k.Example == "" || k.Pattern == "" {
			continue
		}
		root, _ := parse(newSource("x", User, []byte("x = "+k.Example)))
		values := []*node{root.get("x")}
		if values[0].list != nil {
			values = values[0].items
		}
		for _, v := range values {
			if !regexp.MustCompile(k.Pattern).MatchString(v.text) && !strings.Contains(v.text, "…") {
				t.Errorf("%s: the example %q is not of the pattern %s", k.Path, v.text, k.Pattern)
			}
		}
	}
	if len(pattern) < 25 {
		t.Error("forms are missing")
	}
}

// Every code that the package's source reports is in Codes, and the other way round.
func TestCodesAreThoseReported(t *testing.T) {
	used := map[string]bool{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"value", "key", "warnValue", "warnKey", "at", "atKey"}, s.Sel.Name) && len(n.Args) >= 4 {
					use(used, n.Args[1])
				}
			case *ast.CompositeLit:
				if id, ok := n.Type.(*ast.Ident); (ok && id.Name == "fault") && len(n.Elts) > 0 {
					use(used, n.Elts[0])
				}
			}
			return true
		})
	}
	var codes []string
	for _, c := range Codes() {
		codes = append(codes, c.Code)
		if c.Summary == "" || !used[c.Code] {
			t.Errorf("nothing reports %q (%s)", c.Code, c.Summary)
		}
	}
	for code := range used {
		if !slices.Contains(codes, code) {
			t.Errorf("%q is not in Codes", code)
		}
	}
	if !slices.IsSorted(codes) {
		t.Error("not sorted")
	}
}

func use(used map[string]bool, e ast.Expr) {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if s, err := strconv.Unquote(lit.Value); err == nil {
			used[s] = true
		}
	}
}
