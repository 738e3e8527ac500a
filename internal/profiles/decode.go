package profiles

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxProblems is how many are shown; whoever has more than these has one mistake many times.
const maxProblems = 100

// document is what is read: one file, or several that lie on each other, and what was wrong with them so far.
type document struct {
	root     *node // what paths are looked up in
	files    []string
	problems Problems
	wrong    map[spot]bool // where something was wrong already
	settled  bool          // what is reported at such a place only follows from that
	layer    bool          // a file is decoded that lies on others: they may have what it lacks
	types    map[reflect.Type][]field
	steps    []string // to the value that is decoded
}

type spot struct {
	src    *source
	offset int
}

func newDocument() *document {
	return &document{wrong: map[spot]bool{}, types: map[reflect.Type][]field{}}
}

// read parses one file; a file that is not TOML has one problem, and no tree.
func (d *document) read(src *source) *node {
	d.files = append(d.files, src.file)
	root, f := parse(src)
	if f == nil {
		return root
	}
	// What is missing at the end of a file is missing behind its last word.
	offset := min(f.offset, len(bytes.TrimRight(src.data, "\r\n")))
	d.report(src, offset, Problem{Code: f.code, Text: f.text, Hint: tomlHint(src, f)})
	return nil
}

// alone reads a file that lies on nothing and has nothing upon it. check may be nil. The error is Problems.
func alone[T any](src *source, check func(*document, *T)) (v T, origins map[string]Place, warnings Problems, err error) {
	d := newDocument()
	d.root = d.read(src)
	if d.root != nil {
		d.decode(d.root, reflect.ValueOf(&v).Elem())
		d.settled = true
		if check != nil {
			check(d, &v)
		}
	}
	ps := d.problems.sort(d.files)
	if ps.failed() {
		return *new(T), nil, nil, ps
	}
	return v, d.origins(reflect.TypeFor[T]()).All(), ps, nil
}

// span is where a key and its value stand.
type span struct {
	src        *source
	key, value int
}

// find is the node of a path, or the nearest table around it.
func (d *document) find(path []string) (n *node, exact bool) {
	n = d.root
	for _, name := range path {
		var next *node
		if n.kind == arrayKind {
			i, err := strconv.Atoi(strings.Trim(name, "[]"))
			if err == nil && i >= 0 && i < len(n.items) {
				next = n.items[i]
			}
		} else {
			next = n.get(name)
		}
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

// has reports whether the path was written.
func (d *document) has(path ...string) bool { _, exact := d.find(path); return exact }

// filled reports whether the table or array at path has anything in it.
func (d *document) filled(path []string) bool {
	n, exact := d.find(path)
	return exact && n.list != nil && len(n.items) > 0
}

// place is where the value (or, for a key that is not there, its nearest table) stands.
func (d *document) place(path []string) span {
	n, _ := d.find(path)
	return span{n.src, int(n.key), int(n.value)}
}

// value and key report a problem at a value or at its key.
func (d *document) value(path []string, code, hint, format string, args ...any) {
	at := d.place(path)
	d.report(at.src, at.value, Problem{Code: code, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

func (d *document) key(path []string, code, hint, format string, args ...any) {
	at := d.place(path)
	d.report(at.src, at.key, Problem{Code: code, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// warnValue and warnKey report what is likely a mistake and keeps nothing from being run.
func (d *document) warnValue(path []string, code, hint, format string, args ...any) {
	at := d.place(path)
	d.report(at.src, at.value, Problem{Code: code, Hint: hint, Text: fmt.Sprintf(format, args...), Warning: true})
}

func (d *document) warnKey(path []string, code, hint, format string, args ...any) {
	at := d.place(path)
	d.report(at.src, at.key, Problem{Code: code, Hint: hint, Text: fmt.Sprintf(format, args...), Warning: true})
}

// report adds p at an offset. Once d is settled it leaves out what only follows from a value that could not be decoded.
func (d *document) report(src *source, offset int, p Problem) {
	at := spot{src, offset}
	if d.settled && d.wrong[at] || len(d.problems) >= maxProblems {
		return
	}
	if !d.settled {
		d.wrong[at] = true
	}
	full := src.problem(offset, p.Code, shortened(p.Hint), shortened(p.Text))
	full.Warning = p.Warning
	d.problems = append(d.problems, full)
}

// at and atKey report at a node.
func (d *document) at(n *node, code, hint, format string, args ...any) {
	d.report(n.src, int(n.value), Problem{Code: code, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// silent is at, for a line that may hold a password: it is not shown.
func (d *document) silent(n *node, code, hint, format string, args ...any) {
	before := len(d.problems)
	d.at(n, code, hint, format, args...)
	if len(d.problems) > before {
		d.problems[before].Snippet = ""
	}
}

func (d *document) atKey(n *node, code, hint, format string, args ...any) {
	d.report(n.src, int(n.key), Problem{Code: code, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// describe names the key that is decoded for a person, with the tables it is in and without indexes: "network.rule.host".
func (d *document) describe() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(d.steps), func(s string) bool { return s == "" }), ".")
}

// down goes one step towards a value, "" for an element; up goes back.
func (d *document) down(step string) { d.steps = append(d.steps, step) }
func (d *document) up()              { d.steps = d.steps[:len(d.steps)-1] }

type defaulter interface{ defaults() }

type intUnmarshaler interface{ unmarshalInt(int64) error }

type floatUnmarshaler interface{ unmarshalFloat(float64) error }

// decode fills dst, which is addressable, from n.
func (d *document) decode(n *node, dst reflect.Value) {
	at := dst.Addr().Interface()
	switch v := at.(type) {
	case encoding.TextUnmarshaler:
		d.text(n, v)
		return
	case *string:
		d.plain(n, v)
		return
	case intUnmarshaler:
		d.number(n, dst)
		return
	case defaulter:
		v.defaults()
	}
	switch dst.Kind() {
	case reflect.Struct:
		d.structure(n, dst)
	case reflect.Pointer:
		dst.Set(reflect.New(dst.Type().Elem()))
		d.decode(n, dst.Elem())
	case reflect.Slice:
		if n.kind == stringKind && dst.Type() == reflect.TypeFor[HostPaths]() {
			dst.Set(reflect.MakeSlice(dst.Type(), 1, 1))
			d.decode(n, dst.Index(0))
			return
		}
		d.slice(n, dst)
	case reflect.Map:
		d.mapping(n, dst)
	default:
		d.number(n, dst)
	}
}

func (d *document) text(n *node, dst encoding.TextUnmarshaler) {
	if n.kind != stringKind {
		d.mismatch(n, reflect.TypeOf(dst).Elem(), "a string")
		return
	}
	if err := dst.UnmarshalText([]byte(n.text)); err != nil {
		if mayHoldPassword(dst, n.text) {
			d.silent(n, "bad-value", hintOf(err), "%s", err)
			return
		}
		d.at(n, "bad-value", d.textHint(dst, n.text, err), "%s", err)
	}
}

func (d *document) plain(n *node, dst *string) {
	switch {
	case n.kind != stringKind:
		d.mismatch(n, reflect.TypeFor[string](), "a string")
	case strings.ContainsRune(n.text, 0):
		d.at(n, "bad-value", "", "a string holds a NUL byte")
	default:
		*dst = n.text
	}
}

// number sets booleans, integers and floats.
func (d *document) number(n *node, dst reflect.Value) {
	switch {
	case n.kind == integerKind && d.integer(n, dst):
	case n.kind == floatKind && d.float(n, dst):
	case n.kind == boolKind && dst.Kind() == reflect.Bool:
		dst.SetBool(n.bits != 0)
	default:
		d.mismatch(n, dst.Type(), wanted(dst))
	}
}

func wanted(dst reflect.Value) string {
	_, float := dst.Addr().Interface().(floatUnmarshaler)
	switch {
	case dst.Kind() == reflect.Bool:
		return "true or false"
	case dst.Kind() == reflect.Float64 || float:
		return "a number"
	}
	return "a whole number"
}

func (d *document) integer(n *node, dst reflect.Value) (done bool) {
	if u, ok := dst.Addr().Interface().(intUnmarshaler); ok {
		if err := u.unmarshalInt(n.integer()); err != nil {
			d.at(n, "bad-value", hintOf(err), "%s", err)
		}
		return true
	}
	switch dst.Kind() {
	case reflect.Int, reflect.Int64:
		dst.SetInt(n.integer())
	case reflect.Float64:
		dst.SetFloat(float64(n.integer()))
	default:
		return false
	}
	return true
}

func (d *document) float(n *node, dst reflect.Value) (done bool) {
	if u, ok := dst.Addr().Interface().(floatUnmarshaler); ok {
		if err := u.unmarshalFloat(n.float()); err != nil {
			d.at(n, "bad-value", hintOf(err), "%s", err)
		}
		return true
	}
	if dst.Kind() != reflect.Float64 {
		return false
	}
	dst.SetFloat(n.float())
	return true
}

// field is a key of a table.
type field struct {
	name     string
	index    int
	required bool
	class    class
	typ      reflect.Type // of the value; of the elements or values of entries and mappings
}

// class is how a value is written, and merged.
type class uint8

const (
	single  class = iota
	table         // key by key
	mapping       // by its keys, which are the person's own
	entries       // tables that add up
	words         // a list of strings, replaced but for "..."
	numbers       // a list of something else
)

func (d *document) fields(t reflect.Type) []field {
	if fields, ok := d.types[t]; ok {
		return fields
	}
	fields := fieldsOf(t)
	d.types[t] = fields
	return fields
}

func fieldsOf(t reflect.Type) (fields []field) {
	for i := range t.NumField() {
		name, option, _ := strings.Cut(t.Field(i).Tag.Get("toml"), ",")
		if name != "-" && name != "" {
			f := field{name: name, index: i, required: option == "required"}
			f.class, f.typ = classOf(t.Field(i).Type)
			fields = append(fields, f)
		}
	}
	return fields
}

func classOf(t reflect.Type) (class, reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case plainStruct(t):
		return table, t
	case t.Kind() == reflect.Map:
		return mapping, t.Elem()
	case t.Kind() == reflect.Slice && plainStruct(t.Elem()):
		return entries, t.Elem()
	case plainList(t):
		return words, t.Elem()
	case t.Kind() == reflect.Slice:
		return numbers, t.Elem()
	}
	return single, t
}

func (d *document) structure(n *node, dst reflect.Value) {
	if n.kind != tableKind {
		d.mismatch(n, dst.Type(), "a table")
		return
	}
	if done := reflect.ValueOf(n.done); done.IsValid() && done.Type().Elem() == dst.Type() {
		dst.Set(done.Elem())
		return
	}
	found := 0
	fields := d.fields(dst.Type())
	for _, f := range fields {
		d.down(f.name)
		if v := n.get(f.name); v != nil {
			found++
			d.decode(v, dst.Field(f.index))
		} else if f.required && !d.elsewhere(dst.Type(), f.name) {
			d.missing(n)
		}
		d.up()
	}
	if found < len(n.names) {
		d.unknown(n, fields)
	}
}

// elsewhere reports whether a file may lack a key that the whole profile must have.
func (d *document) elsewhere(t reflect.Type, name string) bool {
	return d.layer && (t == reflect.TypeFor[Profile]() && name == "agent" || t == reflect.TypeFor[Agent]() && name == "command")
}

// missing reports at the table. The root stands where everything without a place does, which is not wrong for that.
func (d *document) missing(n *node) {
	d.atKey(n, "missing-key", d.missingHint(), "%s is missing", d.describe())
	if len(d.steps) == 1 {
		delete(d.wrong, spot{n.src, int(n.key)})
	}
}

// unknown reports every key of a table that the format does not have.
func (d *document) unknown(n *node, fields []field) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	for i, name := range n.names {
		if slices.Contains(known, name) {
			continue
		}
		if len(d.problems) >= maxProblems {
			return
		}
		d.atKey(n.items[i], "unknown-key", d.unknownHint(name, known), "unknown key %q", name)
	}
}

// shortened keeps a message readable whatever it quotes: the middle is left out.
func shortened(s string) string {
	const most, head, tail = 1000, 300, 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:head], "") + " … " + strings.ToValidUTF8(s[len(s)-tail:], "")
}

func (d *document) slice(n *node, dst reflect.Value) {
	if n.kind != arrayKind {
		d.mismatch(n, dst.Type(), "an array")
		return
	}
	if most := d.most(dst.Type()); len(n.items) > most {
		d.at(n, "too-many", "", "%s has %d elements, and may have %d", d.describe(), len(n.items), most)
		return
	}
	items := n.items
	if plainList(dst.Type()) {
		items = d.ellipsis(n)
	}
	if len(items) == 0 && plainStruct(dst.Type().Elem()) {
		return // no tables, as if the key were left out
	}
	d.down("")
	defer d.up()
	if rules, ok := dst.Addr().Interface().(*[]Rule); ok {
		*rules = d.rules(items)
		return
	}
	out := reflect.MakeSlice(dst.Type(), len(items), len(items))
	for i, item := range items {
		d.decode(item, out.Index(i))
		if item.kind == tableKind && dst.Type().Elem().Kind() == reflect.Struct {
			item.done = out.Index(i).Addr().Interface()
		}
	}
	dst.Set(out)
}

// maxWithin is how many elements a list may have within an element of another.
const maxWithin = 256

// most is how many elements a list may have, so that what compares them with each other stays quick.
func (d *document) most(t reflect.Type) int {
	switch {
	case t.Elem() == reflect.TypeFor[Rule]():
		return 50_000
	case d.inEntry() || plainStruct(t.Elem()):
		return maxWithin
	}
	return 1000
}

// ellipsis gives the elements of a list of strings without the "..." that stands for what lies below.
func (d *document) ellipsis(n *node) (rest []*node) {
	first := slices.IndexFunc(n.items, isEllipsis)
	if first < 0 {
		return n.items
	}
	for i, item := range n.items {
		switch {
		case !isEllipsis(item):
			rest = append(rest, item)
		case !d.layer || d.inEntry():
			d.at(item, "ellipsis", "write all elements here", `"..." stands for the same list in the layers below, and %s is not merged with one`, d.describe())
		case i != first:
			d.at(item, "ellipsis", "leave it out", `"..." stands here a second time`)
		}
	}
	return rest
}

func isEllipsis(n *node) bool { return n.kind == stringKind && n.text == "..." }

// inEntry reports whether the path leads through an element of a list: those are replaced as a whole.
func (d *document) inEntry() bool { return slices.Contains(d.steps, "") }

func (d *document) mapping(n *node, dst reflect.Value) {
	if n.kind != tableKind {
		d.mismatch(n, dst.Type(), "a table")
		return
	}
	if most := 1000; len(n.names) > most {
		d.at(n, "too-many", "", "%s has %d keys, and may have %d", d.describe(), len(n.names), most)
		return
	}
	out := reflect.MakeMapWithSize(dst.Type(), len(n.names))
	for i, name := range n.names {
		item := n.items[i]
		key, value := reflect.New(dst.Type().Key()).Elem(), reflect.New(dst.Type().Elem()).Elem()
		before := len(d.problems)
		if err := key.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(name)); err != nil {
			d.atKey(item, "bad-value", keyHint(key.Addr().Interface(), err), "%s", err)
		}
		d.down(name)
		d.decode(item, value)
		d.up()
		if out.MapIndex(key).IsValid() && len(d.problems) == before {
			d.atKey(item, "duplicate", "", "%q is given twice, in two spellings", name)
		}
		out.SetMapIndex(key, value)
	}
	dst.Set(out)
}

func (d *document) mismatch(n *node, t reflect.Type, want string) {
	got := n.kind.String()
	if got == want || got == "a whole number" && want == "a number" {
		got = "another kind of number"
	}
	if t == reflect.TypeFor[ProxyPassword]() {
		d.silent(n, "wrong-type", passwordHint, "%s must be %s that says where the password is, and is %s", d.describe(), want, got)
		return
	}
	d.at(n, "wrong-type", d.typeHint(n, t), "%s must be %s, and is %s", d.describe(), want, got)
}

func (k kind) String() string {
	switch k {
	case tableKind:
		return "a table"
	case arrayKind:
		return "an array"
	case stringKind:
		return "a string"
	case integerKind, floatKind:
		return "a number"
	case boolKind:
		return "true or false"
	}
	return "a date or a time"
}

// join never shares memory between siblings.
func join(path []string, name string) []string { return append(slices.Clone(path), name) }

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
