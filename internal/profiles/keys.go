package profiles

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

// Kind is how the value of a key is written.
type Kind string

// The kinds. A Map is a table with keys of the person's own; Tables is a list of tables, [[key]].
const (
	String  Kind = "string"
	Integer Kind = "integer"
	Number  Kind = "number"
	Boolean Kind = "boolean"
	List    Kind = "list"
	Map     Kind = "map"
	Table   Kind = "table"
	Tables  Kind = "tables"
)

// Key is one key of the format.
type Key struct {
	Path       string // "network.rule.host": tables by name, without indexes
	Kind       Kind
	Items      Kind     // of the elements of a List, of the values of a Map
	Required   bool     // in its table; of a profile's own keys: in the whole profile, but for version in each file
	Identity   bool     // names its table among those of the list: a layer's replaces the one of the same name below
	Enum       []string // the words that a value, or each element, may be; nil: not limited so
	Pattern    string   // a regular expression that values, or elements, match; "": none is known
	KeyPattern string   // the same, for the keys of a Map
	Min, Max   float64  // of numbers; both 0: not limited
	Default    string   // as TOML, of a key that is left out of its table; "": nothing, or what the tier says
	Doc        string   // one line
	Example    string   // as TOML
}

// Keys lists the keys of a profile in the order of the format, each table before what is in it.
func Keys() []Key { return keysOf(reflect.TypeFor[Profile]()) }

// SetKeys lists the keys of the file of a named set.
func SetKeys() []Key { return keysOf(reflect.TypeFor[NamedSet]()) }

// FloorKeys lists the keys of the organisation's policy.toml.
func FloorKeys() []Key { return keysOf(reflect.TypeFor[Floors]()) }

// GrantKeys lists the keys of a file of grants.
func GrantKeys() []Key { return keysOf(reflect.TypeFor[granted]()) }

// ConfigKeys lists the keys of the person's config.toml.
func ConfigKeys() []Key { return keysOf(reflect.TypeFor[Config]()) }

func keysOf(t reflect.Type) []Key {
	k := keyList{docs: docs(), forms: scalarForms()}
	k.table(t, "")
	return k.keys
}

type keyList struct {
	docs  map[string]doc
	forms map[reflect.Type]scalarForm
	keys  []Key
}

// scalarForm is what is known of a scalar beyond its kind.
type scalarForm struct {
	words    []string
	pattern  string
	min, max float64
}

type doc struct{ text, example string }

func (k *keyList) table(t reflect.Type, path string) {
	for _, f := range fieldsOf(t) {
		at := below(path, f.name)
		d, ok := k.docs[t.Name()+"."+f.name]
		if !ok {
			d = k.docs["."+f.name]
		}
		key := Key{Path: at, Required: f.required, Doc: d.text, Example: d.example, Default: k.standard(t, f)}
		if id, ok := identity(t); ok {
			key.Identity = id.name == f.name
		}
		of := f.typ
		switch f.class {
		case table:
			key.Kind = Table
		case entries:
			key.Kind = Tables
		case mapping:
			key.Kind, key.Items = Map, kindOf(of)
			full := t.Field(f.index).Type
			key.KeyPattern = k.forms[full.Key()].pattern
		case words, numbers:
			key.Kind, key.Items = List, kindOf(of)
		default:
			key.Kind = kindOf(of)
		}
		form := k.forms[of]
		key.Enum, key.Pattern, key.Min, key.Max = form.words, form.pattern, form.min, form.max
		k.keys = append(k.keys, key)
		if f.class == table || f.class == entries {
			k.table(of, at)
		}
	}
}

// standard is the value of a key that is left out.
func (k *keyList) standard(t reflect.Type, f field) string {
	v := reflect.New(t)
	d, ok := v.Interface().(defaulter)
	if !ok {
		return ""
	}
	d.defaults()
	if v.Elem().Field(f.index).IsZero() {
		return ""
	}
	return literal(v.Elem().Field(f.index))
}

func kindOf(t reflect.Type) Kind {
	p := reflect.PointerTo(t)
	switch {
	case p.Implements(reflect.TypeFor[floatUnmarshaler]()):
		return Number
	case p.Implements(reflect.TypeFor[intUnmarshaler]()):
		return Integer
	case p.Implements(reflect.TypeFor[textUnmarshaler]()):
		return String
	}
	switch t.Kind() {
	case reflect.Bool:
		return Boolean
	case reflect.Int, reflect.Int64, reflect.Uint16:
		return Integer
	case reflect.Float64:
		return Number
	}
	return String
}

type textUnmarshaler interface{ UnmarshalText([]byte) error }

func pattern(r *regexp.Regexp) scalarForm { return scalarForm{pattern: r.String()} }

func choice(words ...string) scalarForm { return scalarForm{words: words} }

// hostForm takes every name of at least two labels, international ones as they are written too, and no address.
const hostForm = `[^\s/:*@]+[.。．｡][^\s/:*@]*[^0-9.。．｡\s/:*@][^\s/:*@]*`

// forms knows the scalars. A test holds it against what they take.
func scalarForms() map[reflect.Type]scalarForm {
	return map[reflect.Type]scalarForm{
		reflect.TypeFor[Tier]():               choice("low", "medium", "high", "critical"),
		reflect.TypeFor[Rootfs]():             choice("host"),
		reflect.TypeFor[Mode]():               choice("review", "direct", "readonly"),
		reflect.TypeFor[Backend]():            choice("overlay", "copy"),
		reflect.TypeFor[Action]():             choice("allow", "ask", "deny"),
		reflect.TypeFor[Scheme]():             choice(schemes()...),
		reflect.TypeFor[Protocol]():           choice(protocols()...),
		reflect.TypeFor[Access]():             choice("read", "write"),
		reflect.TypeFor[OnLimit]():            choice("ask", "stop"),
		reflect.TypeFor[Runtime]():            choice("auto", "container", "gvisor", "microvm"),
		reflect.TypeFor[LoginName]():          choice(loginNames()...),
		reflect.TypeFor[Scope]():              choice("none", "session", "profile", "repo", "user"),
		reflect.TypeFor[Cache]():              choice(Caches()...),
		reflect.TypeFor[Name]():               pattern(nameForm()),
		reflect.TypeFor[EnvName]():            pattern(envForm()),
		reflect.TypeFor[EnvPattern]():         {pattern: `^[A-Za-z_][A-Za-z0-9_]*\*?$`},
		reflect.TypeFor[Shape]():              pattern(shapeForm()),
		reflect.TypeFor[Method]():             pattern(methodForm()),
		reflect.TypeFor[Permission]():         pattern(permissionForm()),
		reflect.TypeFor[ToolPattern]():        pattern(toolForm()),
		reflect.TypeFor[ByteSize]():           pattern(byteSize()),
		reflect.TypeFor[Image]():              {pattern: `@sha256:[0-9a-f]{64}$`},
		reflect.TypeFor[Header]():             {pattern: `^[^:]+:.*\{token\}`},
		reflect.TypeFor[BasicLogin]():         {pattern: `^[^:]*:\{token\}$`},
		reflect.TypeFor[Parameter]():          pattern(parameterForm()),
		reflect.TypeFor[BodyField]():          pattern(bodyForm()),
		reflect.TypeFor[Claims]():             {pattern: `^\s*\{`},
		reflect.TypeFor[HostPath]():           {pattern: `^(/|~/).`},
		reflect.TypeFor[HomePath]():           {pattern: `^~/.`},
		reflect.TypeFor[URL]():                {pattern: `^[hH][tT][tT][pP][sS]?://`},
		reflect.TypeFor[RefPattern]():         {pattern: `^refs/`},
		reflect.TypeFor[Remote]():             {pattern: `^[^/]+/.+`},
		reflect.TypeFor[RepoName]():           {pattern: `^[^/]+/[^/]+$`},
		reflect.TypeFor[Endpoint]():           {pattern: `:[0-9]+$`},
		reflect.TypeFor[RepoPath]():           {pattern: `^[^/~]`},
		reflect.TypeFor[Duration]():           {pattern: `^([0-9]{1,5}d)?\+?([0-9]*\.?[0-9]*(ns|us|µs|μs|ms|s|m|h))*$`},
		reflect.TypeFor[policy.Host]():        {pattern: `^` + hostForm + `$`},
		reflect.TypeFor[policy.Pattern]():     {pattern: `^(\*\.)?` + hostForm + `$`},
		reflect.TypeFor[policy.PathPattern](): {pattern: `^/`},
		reflect.TypeFor[Prefix]():             {pattern: `^[0-9a-fA-F.:]+(/[0-9]{1,3})?$`},
		reflect.TypeFor[Port]():               {min: 1, max: 65535},
		reflect.TypeFor[Count]():              {min: 1, max: 1<<63 - 1},
	}
}

// CodeInfo tells of one kind of mistake.
type CodeInfo struct {
	Code    string // stable
	Summary string // one line
}

// Codes lists every code of a Problem, sorted.
func Codes() []CodeInfo {
	summaries := map[string]string{
		"backend-without-review": "a workspace backend is given, and the workspace is not the review one",
		"bad-value":              "a value is not one that the key takes",
		"bad-version":            "the file is of a version that this agentbox does not read",
		"blind-rule":             "a rule goes by what is in requests, and keeps agentbox from looking into them",
		"claims-without-jwt":     "claims are given, and the placeholder is no JSON Web Token",
		"credential-conflict":    "two credentials could go into one request",
		"duplicate":              "the same thing is given twice",
		"duplicate-rule":         "a rule says what another says",
		"ellipsis":               `"..." stands in a list that lies on none`,
		"empty-command":          "a command names no program",
		"empty-list":             "a list is empty where that matches nothing",
		"empty-source":           "a credential has no source",
		"env-conflict":           "a variable is set twice, from different things",
		"exposed-credential":     "the real value of a credential would be handed to the agent",
		"extends-cycle":          "profiles extend each other in a circle",
		"extends-depth":          "too many profiles extend each other",
		"extends-disagree":       "two files of one profile extend different profiles",
		"extends-here":           "a file for every profile extends one",
		"floor-allows":           "the organisation's policy allows, and it can only deny and ask",
		"idle-rule":              "a rule allows what the default allows",
		"layer-not-yours":        "a rule says what only layers of the person's own may say",
		"limit-without-budget":   "on_limit is given, and no budget is",
		"missing-key":            "a key that is required is left out",
		"missing-slot":           "a credential does not say where in a request it stands",
		"no-tools":               "no tool of a server may be called",
		"not-json":               "a file named .json holds something else",
		"not-toml":               "the file is not valid TOML",
		"not-utf8":               "the file is not UTF-8 text",
		"rule-conflict":          "two keys of a rule exclude each other",
		"root-conflict":          "more than one thing is given for the container's root",
		"slot-conflict":          "a credential has more than one slot",
		"source-conflict":        "a credential has more than one source",
		"too-deep":               "tables or arrays are nested too deeply",
		"too-large":              "the file is too large",
		"too-many":               "a list has too many elements",
		"tool-conflict":          "a tool stands in two lists of which one always wins",
		"ttl-without-scope":      "memory has a ttl, and outlives no run",
		"unknown-key":            "the format has no such key here",
		"unknown-profile":        "there is no profile of the name that is extended",
		"unknown-set":            "there is no named set of the name that is used",
		"unknown-template":       "a template names nothing",
		"unreachable-rule":       "a rule never decides, because another always goes before it",
		"unreached-remote":       "no rule allows the host of a git remote",
		"unseen-placeholder":     "the agent never gets the placeholder of a credential",
		"unused-credential":      "a credential is for a host that it is never sent to",
		"wrong-type":             "a value is of another type than the key takes",
	}
	var out []CodeInfo
	for code, summary := range summaries {
		out = append(out, CodeInfo{code, summary})
	}
	slices.SortFunc(out, func(a, b CodeInfo) int { return strings.Compare(a.Code, b.Code) })
	return out
}
