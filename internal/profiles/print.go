package profiles

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Print writes a profile as one file in canonical TOML, which Parse reads back to the same values. Its layers are merged,
// so that it extends nothing; rules of named sets are comments behind network.use, which asks for them. With origins
// every line ends in a comment that says where its value was written.
func Print(p Profile, origins bool) []byte {
	w := printer{d: newDocument()}
	if origins {
		w.origins = p.Origins.All()
	}
	if p.Extends != "" {
		fmt.Fprintf(&w.out, "# what it extends is in here: %s\n", comment(strings.Join(p.Chain, " → ")))
	}
	p.Extends = ""
	p.Workspace.Show = w.shown(p)
	w.body(reflect.ValueOf(p), "")
	return w.out.Bytes()
}

// shown leaves out what a layer above overrules in part: in one file it would go before that. It stands in a comment.
func (w *printer) shown(p Profile) (patterns []string) {
	show, over := p.overruled()
	if len(over) == 0 {
		return p.Workspace.Show
	}
	for _, h := range over {
		fmt.Fprintf(&w.out, "# shown, but for what the layers above hide: %s, at %s\n", comment(quoted(h.Pattern)), comment(h.Place.String()))
	}
	for i := range p.Workspace.Show {
		delete(w.origins, "workspace.show"+index(i))
	}
	for i, h := range show {
		patterns = append(patterns, h.Pattern)
		if w.origins != nil {
			w.origins["workspace.show"+index(i)] = h.Place
		}
	}
	return patterns
}

type printer struct {
	d       *document
	out     bytes.Buffer
	origins map[string]Place
}

// body writes the keys of a table and then its own tables. In the table at path no key is quoted: all are known.
func (w *printer) body(v reflect.Value, path string) {
	fields := w.d.fields(v.Type())
	for _, f := range fields {
		if value := v.Field(f.index); w.inline(f) && w.said(v, f) {
			w.line(below(path, f.name), f.name+" = ", value)
		}
	}
	for _, f := range fields {
		value, at := v.Field(f.index), below(path, f.name)
		switch {
		case w.inline(f) || !w.said(v, f):
		case f.class == entries:
			w.entries(value, at)
		case f.class == mapping:
			fmt.Fprintf(&w.out, "\n[%s]\n", at)
			for _, key := range sortedKeys(value) {
				w.line(at+"."+key.String(), quotedKey(key.String())+" = ", value.MapIndex(key))
			}
		default:
			w.table(value, at)
		}
	}
}

// inline reports what is written behind its key, not under a header.
func (w *printer) inline(f field) bool {
	return f.class != table && f.class != mapping && f.class != entries
}

// said reports whether a value needs to be written: it is required, or not what a file without it gives.
func (w *printer) said(v reflect.Value, f field) bool {
	if f.required {
		return true
	}
	def := reflect.New(v.Type())
	if d, ok := def.Interface().(defaulter); ok {
		d.defaults()
	}
	return !reflect.DeepEqual(v.Field(f.index).Interface(), def.Elem().Field(f.index).Interface())
}

// table writes a header only where keys stand under it.
func (w *printer) table(v reflect.Value, path string) {
	for _, f := range w.d.fields(v.Type()) {
		if w.inline(f) && w.said(v, f) {
			fmt.Fprintf(&w.out, "\n[%s]\n", path)
			break
		}
	}
	w.body(v, path)
}

func (w *printer) entries(list reflect.Value, path string) {
	if list.Len() == 0 { // written, and empty: nothing below adds to it, and it means what leaving it out means
		return
	}
	for i := range list.Len() {
		v, at := list.Index(i), path+index(i)
		if r, ok := v.Interface().(Rule); ok && r.Set != "" {
			w.ofSet(r)
			continue
		}
		fmt.Fprintf(&w.out, "\n[[%s]]%s\n", path, w.origin(at))
		for _, f := range w.d.fields(v.Type()) {
			if w.said(v, f) {
				w.line(at+"."+f.name, f.name+" = ", v.Field(f.index))
			}
		}
	}
}

// ofSet shows a rule that network.use brings in.
func (w *printer) ofSet(r Rule) {
	var ports, paths []string
	for _, p := range r.Ports {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	for _, p := range r.Paths {
		paths = append(paths, p.String())
	}
	methods := "every method"
	if r.Methods != nil {
		methods = fmt.Sprint(r.Methods)
	}
	text := fmt.Sprintf("set %s: %s %s:%s %s %s", r.Set, r.Action, r.Host, strings.Join(ports, ","), methods, strings.Join(paths, " "))
	for _, f := range w.d.fields(reflect.TypeFor[Rule]()) {
		if v := reflect.ValueOf(r); slices.Contains([]string{"scheme", "websocket", "max_request", "max_sent"}, f.name) && w.said(v, f) {
			text += " " + f.name + " = " + literal(v.Field(f.index))
		}
	}
	if w.origins != nil {
		text += "  # " + r.Origin
	}
	fmt.Fprintf(&w.out, "# %s\n", comment(strings.TrimSpace(text)))
}

// line writes key = value. A list whose elements come from several places is written over several lines.
func (w *printer) line(path, key string, v reflect.Value) {
	if v.Kind() == reflect.Slice && w.scattered(path, v.Len()) {
		fmt.Fprintf(&w.out, "%s[%s\n", key, w.origin(path))
		for i := range v.Len() {
			fmt.Fprintf(&w.out, "  %s,%s\n", literal(v.Index(i)), w.origin(path+index(i)))
		}
		w.out.WriteString("]\n")
		return
	}
	fmt.Fprintf(&w.out, "%s%s%s\n", key, literal(v), w.origin(path))
}

func (w *printer) scattered(path string, n int) bool {
	for i := range n {
		if p, ok := w.origins[path+index(i)]; ok && p.String() != w.origins[path].String() {
			return true
		}
	}
	return false
}

func (w *printer) origin(path string) string {
	p, ok := w.origins[path]
	if !ok {
		return ""
	}
	return "  # " + comment(p.String())
}

// comment keeps what stands in a comment on its line.
func comment(s string) string { return printable(s) }

// literal is a value as it stands behind its key.
func literal(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Money:
		return x.String()
	case encoding.TextMarshaler:
		text, err := x.MarshalText()
		if err != nil {
			return quoted("")
		}
		return quoted(string(text))
	case fmt.Stringer:
		if v.Kind() != reflect.String {
			return quoted(x.String())
		}
	}
	switch v.Kind() {
	case reflect.String:
		return text(v.String())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint16:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Float64:
		return decimal(v.Float())
	case reflect.Slice:
		return listOf(v)
	case reflect.Pointer:
		return literal(v.Elem())
	case reflect.Map:
		return inlineMap(v)
	}
	return inlineStruct(v)
}

func decimal(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.ContainsAny(s, ".nI") {
		s += ".0"
	}
	return s
}

func listOf(v reflect.Value) string {
	parts := make([]string, v.Len())
	for i := range parts {
		parts[i] = literal(v.Index(i))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func inlineMap(v reflect.Value) string {
	var parts []string
	for _, key := range sortedKeys(v) {
		parts = append(parts, quotedKey(key.String())+" = "+oneLine(v.MapIndex(key)))
	}
	return braces(parts)
}

func inlineStruct(v reflect.Value) string {
	var parts []string
	for _, f := range fieldsOf(v.Type()) {
		if f.required || !v.Field(f.index).IsZero() {
			parts = append(parts, f.name+" = "+oneLine(v.Field(f.index)))
		}
	}
	return braces(parts)
}

// oneLine is for values in inline tables, which stand on one line in TOML 1.0.
func oneLine(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return quoted(v.String())
	}
	return literal(v)
}

func braces(parts []string) string {
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func sortedKeys(m reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(m.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
}

// command reports a text that CI would take for a command of its own where its lines stand by themselves.
func command(s string) bool {
	for line := range strings.Lines(s) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			return true
		}
	}
	return strings.Contains(s, "##[")
}

// text is a string, over several lines if it has several and can stand there as it is.
func text(s string) string {
	odd := func(r rune) bool {
		return r == utf8.RuneError || r != '\n' && r != '\t' && (unicode.IsControl(r) || !unicode.IsPrint(r))
	}
	if strings.Contains(s, "\n") && !strings.Contains(s, "'''") && !strings.ContainsFunc(s, odd) && !command(s) {
		return "'''\n" + s + "'''"
	}
	return quoted(s)
}

// quoted is a string on one line. Whatever does not print is escaped, so that a terminal shows what is there.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
	return strings.ReplaceAll(b.String(), "##[", `##\u005B`) // a command of CI, wherever it stands
}

var bareKey = lazily(`^[A-Za-z0-9_-]+$`)

func quotedKey(s string) string {
	if bareKey().MatchString(s) {
		return s
	}
	return quoted(s)
}

func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
