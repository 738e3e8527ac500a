package profiles

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// document is one file while it is read: its bytes, the places of its keys and what was wrong so far.
type document struct {
	file     string
	data     []byte
	at       where
	problems Problems
	offsets  []int           // of problems
	later    map[string]bool // keys of coming versions, "network.use"
	wrong    map[int]bool    // offsets of values that could not be decoded; nil while they are decoded
}

// parse reads the TOML itself; a file that is not TOML has one problem.
func parse(file string, data []byte, later map[string]bool) (*document, map[string]any) {
	d := &document{file: file, data: data, later: later}
	if why := excess(data); why != "" {
		d.problems = append(d.problems, problem(file, nil, 0, why, ""))
		return d, nil
	}
	var tree map[string]any
	_, err := toml.Decode(string(data), &tree)
	if err == nil {
		d.at = locate(data)
		return d, tree
	}
	text, offset := err.Error(), 0
	if pe := (toml.ParseError{}); errors.As(err, &pe) {
		text, offset = pe.Message, pe.Position.Start
	}
	d.problems = append(d.problems, problem(file, data, offset, "not valid TOML: "+text, ""))
	return d, nil
}

// excess says what of a file is too much to hand it to the parser.
func excess(data []byte) string {
	if len(data) > maxFile {
		return "the file is larger than 64 KiB"
	}
	if bytes.Count(data, []byte("{")) > maxBraces {
		return "the file holds more than 3000 braces"
	}
	for line := range bytes.Lines(data) {
		if bytes.Count(line, []byte(".")) > maxDots {
			return "a line holds more than 300 dots"
		}
	}
	return ""
}

// place is where the value (or, for a key that is not there, its nearest table) stands.
func (d *document) place(path []string) span {
	for n := len(path); n > 0; n-- {
		if s, ok := d.at[pathKey(path[:n])]; ok {
			return s
		}
	}
	return span{}
}

// value and key report a problem at a value or at its key.
func (d *document) value(path []string, hint, format string, args ...any) {
	d.report(d.place(path).value, hint, fmt.Sprintf(format, args...))
}

func (d *document) key(path []string, hint, format string, args ...any) {
	d.report(d.place(path).key, hint, fmt.Sprintf(format, args...))
}

// report leaves out what only follows from a value that could not be decoded.
func (d *document) report(offset int, hint, text string) {
	if !d.wrong[offset] && len(d.problems) < maxProblems {
		d.problems = append(d.problems, problem(d.file, d.data, offset, text, hint))
		d.offsets = append(d.offsets, offset)
	}
}

// decoded ends the phase whose problems make later ones at the same places meaningless.
func (d *document) decoded() {
	d.wrong = map[int]bool{}
	for _, offset := range d.offsets {
		d.wrong[offset] = true
	}
}

// line is the line that a key stands on.
func (d *document) line(path []string) int {
	return problem(d.file, d.data, d.place(path).key, "", "").Line
}

type defaulter interface{ defaults() }

// decode fills dst, which is addressable, from v.
func (d *document) decode(v any, dst reflect.Value, path []string) {
	if def, ok := dst.Addr().Interface().(defaulter); ok {
		def.defaults()
	}
	switch dst.Addr().Interface().(type) {
	case encoding.TextUnmarshaler, *string:
		d.text(v, dst, path)
		return
	case interface{ unmarshalInt(int64) error }:
		d.number(v, dst, path)
		return
	}
	switch dst.Kind() {
	case reflect.Struct:
		d.structure(v, dst, path)
	case reflect.Slice:
		d.slice(v, dst, path)
	case reflect.Map:
		d.mapping(v, dst, path)
	default:
		d.number(v, dst, path)
	}
}

func (d *document) text(v any, dst reflect.Value, path []string) {
	s, ok := v.(string)
	if !ok {
		d.mismatch(path, "a string", v)
		return
	}
	if u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			d.value(path, hintOf(err), "%s", err)
		}
		return
	}
	if strings.ContainsRune(s, 0) {
		d.value(path, "", "a string holds a NUL byte")
		return
	}
	dst.SetString(s)
}

// number sets booleans, integers and floats.
func (d *document) number(v any, dst reflect.Value, path []string) {
	switch n := v.(type) {
	case int64:
		if d.integer(n, dst, path) {
			return
		}
	case float64:
		if dst.Kind() == reflect.Float64 {
			dst.SetFloat(n)
			return
		}
	case bool:
		if dst.Kind() == reflect.Bool {
			dst.SetBool(n)
			return
		}
	}
	d.mismatch(path, wanted(dst.Kind()), v)
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

func (d *document) integer(n int64, dst reflect.Value, path []string) (done bool) {
	if u, ok := dst.Addr().Interface().(interface{ unmarshalInt(int64) error }); ok {
		if err := u.unmarshalInt(n); err != nil {
			d.value(path, hintOf(err), "%s", err)
		}
		return true
	}
	switch dst.Kind() {
	case reflect.Int, reflect.Int64:
		dst.SetInt(n)
	case reflect.Float64:
		dst.SetFloat(float64(n))
	default:
		return false
	}
	return true
}

func (d *document) structure(v any, dst reflect.Value, path []string) {
	table, ok := v.(map[string]any)
	if !ok {
		d.mismatch(path, "a table", v)
		return
	}
	var known []string
	for i := range dst.NumField() {
		name, required := tag(dst.Type().Field(i))
		if name == "-" {
			continue
		}
		known = append(known, name)
		below := join(path, name)
		if value, ok := table[name]; ok && d.later[schema(below)] {
			d.key(below, "", "%q is not supported by this version of agentbox", name)
		} else if ok {
			d.decode(value, dst.Field(i), below)
		} else if required {
			d.key(path, "", "%s is missing", strings.TrimSpace(describe(below)))
		}
	}
	d.unknown(table, known, path)
}

func tag(f reflect.StructField) (name string, required bool) {
	name, option, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name, option == "required"
}

// unknown reports every key of table that the format does not have.
func (d *document) unknown(table map[string]any, known []string, path []string) {
	for name := range table {
		below := join(path, name)
		switch {
		case slices.Contains(known, name):
		case d.later[schema(below)]:
			d.key(below, "", "%q is not supported by this version of agentbox", name)
		default:
			hint := "the keys here are " + strings.Join(known, ", ")
			if near := nearest(name, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			d.key(below, hint, "unknown key %q", name)
		}
	}
}

func (d *document) slice(v any, dst reflect.Value, path []string) {
	items, ok := elements(v)
	if !ok {
		d.mismatch(path, "an array", v)
		return
	}
	out := reflect.MakeSlice(dst.Type(), len(items), len(items))
	for i, item := range items {
		d.decode(item, out.Index(i), join(path, index(i)))
	}
	dst.Set(out)
}

// elements takes both of the forms in which the parser gives arrays.
func elements(v any) ([]any, bool) {
	switch a := v.(type) {
	case []any:
		return a, true
	case []map[string]any:
		out := make([]any, len(a))
		for i := range a {
			out[i] = a[i]
		}
		return out, true
	}
	return nil, false
}

func (d *document) mapping(v any, dst reflect.Value, path []string) {
	table, ok := v.(map[string]any)
	if !ok {
		d.mismatch(path, "a table", v)
		return
	}
	out := reflect.MakeMap(dst.Type())
	for _, name := range d.ordered(table, path) {
		item, below := table[name], join(path, name)
		key, value := reflect.New(dst.Type().Key()).Elem(), reflect.New(dst.Type().Elem()).Elem()
		before := len(d.problems)
		if err := key.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(name)); err != nil {
			d.key(below, hintOf(err), "%s", err)
		}
		d.decode(item, value, below)
		if out.MapIndex(key).IsValid() && len(d.problems) == before {
			d.key(below, "", "%q is given twice, in two spellings", name)
		}
		out.SetMapIndex(key, value)
	}
	dst.Set(out)
}

// ordered lists the keys of a table as the file has them.
func (d *document) ordered(table map[string]any, path []string) []string {
	return slices.SortedFunc(maps.Keys(table), func(a, b string) int {
		return cmp.Or(cmp.Compare(d.place(join(path, a)).key, d.place(join(path, b)).key), cmp.Compare(a, b))
	})
}

func (d *document) mismatch(path []string, want string, got any) {
	kind := "a table"
	switch got.(type) {
	case string:
		kind = "a string"
	case int64, float64:
		kind = "a number"
	case bool:
		kind = "true or false"
	case []any, []map[string]any:
		kind = "an array"
	}
	if kind == want {
		kind = "another kind of number"
	}
	d.value(path, "", "%s must be %s, and is %s", describe(path), want, kind)
}

// join never shares memory between siblings.
func join(path []string, name string) []string { return append(slices.Clone(path), name) }

// schema is a path without its indexes, "network.rule.host".
func schema(path []string) string {
	var names []string
	for _, p := range path {
		if !strings.HasPrefix(p, "[") {
			names = append(names, p)
		}
	}
	return strings.Join(names, ".")
}

// describe names a key for a person, with the table it is in.
func describe(path []string) string { return schema(path) }
