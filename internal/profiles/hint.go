package profiles

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"agentbox/internal/policy"
)

// What this file suggests is held against the format first wherever it repeats what a person wrote: a hint that is
// followed must not lead to the next mistake.

// textHint is what to write in place of a text that dst does not take.
func (d *document) textHint(dst any, text string, err error) string {
	if hint := hintOf(err); hint != "" {
		return hint
	}
	switch dst.(type) {
	case *policy.Pattern:
		return hostHint(text, d.lastStep() == "host")
	case *policy.Host:
		if strings.Contains(text, "*") {
			return "name each host by itself"
		}
		return hostHint(text, false)
	case *policy.PathPattern:
		if strings.Contains(err.Error(), ": write ") {
			return ""
		}
		return pathHint(text)
	}
	return ""
}

// keyHint is what to write in place of a key that is the person's own; hosts are keys only where they are routed.
func keyHint(dst any, err error) string {
	if _, ok := dst.(*policy.Host); ok {
		return `write a name, and the address to dial behind it: "api.example.com" = "127.0.0.1:9443"`
	}
	return hintOf(err)
}

// lastStep is the key that is decoded, or "" for an element of a list.
func (d *document) lastStep() string {
	if len(d.steps) == 0 {
		return ""
	}
	return d.steps[len(d.steps)-1]
}

// hostHint is for a name of hosts; that of a rule has ports and paths beside it.
func hostHint(text string, rule bool) string {
	name, port, path := address(text)
	_, err := policy.ParsePattern(name)
	switch {
	case own(name):
		return "for a server of your own see [upstream] in config.toml"
	case strings.Contains(text, "*") && err != nil:
		return `name the hosts, or write "*.example.com" for all below one`
	case err != nil || name == text:
		return `write a full name, such as "api.example.com"`
	case !rule:
		return fmt.Sprintf("write %q", name)
	}
	hint := fmt.Sprintf("write host = %q", name)
	var beside []string
	if port != "" {
		beside = append(beside, "ports = ["+port+"]")
	}
	if _, err := policy.ParsePathPattern(path); err == nil && path != "/" {
		beside = append(beside, fmt.Sprintf("paths = [%q]", path))
	}
	if len(beside) > 0 {
		hint += " with " + strings.Join(beside, " and ")
	}
	return hint
}

// address takes apart what may be a URL or a name with a port.
func address(text string) (name, port, path string) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "", text
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest, path = rest[:i], rest[i:]
	}
	if at, err := netip.ParseAddrPort(rest); err == nil {
		return at.Addr().String(), "", path
	}
	name, port, _ = strings.Cut(rest, ":")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		port = ""
	}
	if scheme == "http" && port == "" {
		port = "80"
	}
	return name, port, path
}

// own reports an address, or this machine's own name.
func own(name string) bool {
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

func pathHint(text string) string {
	if text == "" {
		return `write "/**", or leave paths out for all of them`
	}
	bare := text
	if strings.Contains(text, "://") {
		_, _, bare = address(text)
	}
	if i := strings.IndexAny(bare, "?#"); i >= 0 {
		bare = bare[:i]
	}
	if !strings.HasPrefix(bare, "/") {
		bare = "/" + bare
	}
	bare = strings.ReplaceAll(bare, " ", "%20")
	for strings.Contains(bare, "***") {
		bare = strings.ReplaceAll(bare, "***", "**")
	}
	if _, err := policy.ParsePathPattern(bare); err == nil && bare != text {
		return fmt.Sprintf("write %q", bare)
	}
	return `write the path as the server gets it, such as "/api/**"`
}

// typeHint is the line to write where a value of another type was wanted.
func (d *document) typeHint(n *node, t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	key := d.lastStep()
	switch {
	case n.kind == arrayKind && key == "host":
		return "write one [[" + strings.TrimSuffix(d.describe(), ".host") + "]] for each host"
	case plainStruct(t):
		return d.tableHint(n, t)
	case t.Kind() == reflect.Slice && plainStruct(t.Elem()):
		return "write [[" + d.describe() + "]]"
	case t.Kind() == reflect.Slice:
		return listHint(n, t.Elem(), key)
	case t.Kind() == reflect.Map:
		return "write " + key + ` = { NAME = "value" }`
	}
	value := scalarHint(n, t)
	switch {
	case value == "":
		return ""
	case strings.HasPrefix(value, "write "):
		return value
	case key == "":
		return "write " + value
	}
	return "write " + key + " = " + value
}

func (d *document) tableHint(n *node, t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Source]() && n.kind == stringKind && envForm().MatchString(n.text):
		return fmt.Sprintf("write source = { env = %q }", n.text)
	case t == reflect.TypeFor[Source]():
		return `write source = { env = "NAME" } or { keyring = "NAME" }`
	case t == reflect.TypeFor[Agent]() && n.kind == stringKind && nameForm().MatchString(n.text):
		return fmt.Sprintf("write extends = %q, or [agent] with command = […]", n.text)
	case d.lastStep() == "":
		return "write [[" + d.describe() + "]] with its keys below it"
	}
	return "write [" + d.describe() + "] with its keys below it"
}

// listHint puts what stands alone into a list.
func listHint(n *node, t reflect.Type, key string) string {
	items := []string{plainly(n)}
	if m := strings.ToUpper(n.text); t == reflect.TypeFor[Method]() && isMethod(m) {
		return fmt.Sprintf("write %s = [%q]", key, m)
	}
	if n.kind == stringKind && key == "command" {
		items = nil
		for _, word := range strings.Fields(n.text) {
			items = append(items, strconv.Quote(word))
		}
	}
	if value := scalarHint(n, t); value != "" && !strings.Contains(value, " ") {
		items = []string{value}
	}
	if len(items) == 0 || items[0] == "" || !taken(n, t) {
		return "write " + key + " = […]"
	}
	return "write " + key + " = [" + strings.Join(items, ", ") + "]"
}

// taken reports whether t takes a value like n, or what scalarHint makes of it.
func taken(n *node, t reflect.Type) bool {
	if u, ok := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error }); ok {
		return n.kind == stringKind && u.UnmarshalText([]byte(n.text)) == nil
	}
	if t.Kind() == reflect.String {
		return n.kind == stringKind
	}
	return n.kind == integerKind || scalarHint(n, t) != ""
}

// scalarHint is a value of type t that n was likely meant to be, or a sentence that begins with "write ".
func scalarHint(n *node, t reflect.Type) string {
	switch v := reflect.New(t).Interface().(type) {
	case *Duration:
		return `write a number with its unit, such as "60m": s, m, h or d`
	case *ByteSize:
		return `write a number with its unit, such as "4GiB": MiB or GiB`
	case interface{ UnmarshalText([]byte) error }:
		if s := textOf(n); s != "" && v.UnmarshalText([]byte(s)) == nil {
			return strconv.Quote(s)
		}
		return "write one text, in quotes"
	}
	switch t.Kind() {
	case reflect.String:
		if s := textOf(n); s != "" {
			return strconv.Quote(s)
		}
		return "write one text, in quotes"
	case reflect.Bool:
		return boolHint(n)
	}
	return numberHint(n, t)
}

// textOf is the text of a scalar, or of a list's only element.
func textOf(n *node) string {
	if n.kind == arrayKind && len(n.items) == 1 {
		n = n.items[0]
	}
	if n.kind == stringKind {
		return n.text
	}
	return plainly(n)
}

// plainly is a scalar as it would be written, or "".
func plainly(n *node) string {
	switch n.kind {
	case stringKind:
		return strconv.Quote(n.text)
	case integerKind:
		return strconv.FormatInt(n.integer(), 10)
	case floatKind:
		return strconv.FormatFloat(n.float(), 'f', -1, 64)
	case boolKind:
		return strconv.FormatBool(n.bits != 0)
	}
	return ""
}

func boolHint(n *node) string {
	switch strings.ToLower(textOf(n)) {
	case "true", "yes", "on", "1":
		return "true"
	case "false", "no", "off", "0":
		return "false"
	}
	return "write true or false, without quotes"
}

func numberHint(n *node, t reflect.Type) string {
	whole := wanted(reflect.New(t).Elem()) == "a whole number"
	s := strings.TrimSpace(textOf(n))
	if _, why := integer(s); s != "" && why == "" {
		return s
	}
	if !whole && s != "" && floatForm().MatchString(s) {
		return s
	}
	if whole && n.kind == floatKind {
		return "write a whole number, without a fraction"
	}
	if whole {
		return "write a whole number, without quotes"
	}
	return "write a number, without quotes"
}

// unknownHint is for a key that the table at the path does not have.
func (d *document) unknownHint(name string, known []string) string {
	if len(d.steps) > 0 && (d.layer || name == "version") {
		for _, f := range d.fields(reflect.TypeFor[Profile]()) {
			if f.name == name && f.class == single {
				return fmt.Sprintf("%q stands above the first [table] of a file", name)
			}
		}
	}
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "the keys here are " + strings.Join(known, ", ")
}

// missingHint is what to add for a key that a table must have.
func (d *document) missingHint() string {
	switch d.describe() {
	case "version":
		return "write version = 1 at the top"
	case "agent":
		return `add extends = "claude", or [agent] with command = ["claude"]`
	case "upstream.client_certificate.cert", "upstream.client_certificate.key":
		return fmt.Sprintf("add %s = %q", d.lastStep(), "~/certs/name.pem")
	}
	examples := map[string]string{
		"command": `["claude"]`, "path": `"~/.config/name.json"`, "action": `"allow", "ask" or "deny"`, "host": `"api.example.com"`,
		"remote": `"github.com/owner/name"`, "name": `"github"`, "source": `{ env = "NAME" } or { keyring = "NAME" }`,
		"hosts": `["api.example.com"]`, "header": `"Authorization: Bearer {token}"`, "repos": `["owner/name"]`,
		"permissions": `{ contents = "read" }`, "key": `"NAME", the private key's account in the keyring`,
		"id": "the number on the app's page",
	}
	if e, ok := examples[d.lastStep()]; ok {
		return "add " + d.lastStep() + " = " + e
	}
	return ""
}

// tomlHint is for a file that is not TOML: the likeliest mistake is a text without quotes, or with those of a word
// processor.
func tomlHint(src *source, f *fault) string {
	if f.code != "not-toml" {
		return ""
	}
	before, word := wordAt(src.data, f.offset)
	header := strings.HasPrefix(before+word, "[") && strings.Trim(before, "[ ") == ""
	switch {
	case strings.Contains(f.text, "is given already") && header:
		return "keep one of them, or write [[…]] where it is a list of tables"
	case strings.Contains(f.text, "is given already"):
		return "keep one of them"
	case strings.Contains(f.text, "cannot have new lines"):
		return `close the quotes on the same line, or write """ around a text of several lines`
	case strings.Contains(f.text, "expected character =") && !header:
		return `write a key and its value as key = "value"`
	case strings.Contains(f.text, "array"):
		return "close the list with ], and put a comma between its elements"
	case strings.Contains(f.text, "expected character ]") && !header:
		return "close the list with ]"
	case strings.Contains(f.text, "expected character ,"):
		return "close the table with } on the same line, and put a comma between its keys"
	case strings.Contains(f.text, "is not a ") && word != "" && !strings.ContainsAny(word, "\"\\"):
		return fmt.Sprintf("text must stand in straight quotes: %q", word)
	case header:
		return "write a header as [table], or as [[table]] of a list"
	}
	return wordHint(before, word)
}

// wordHint is for a value that is none.
func wordHint(before, word string) string {
	bare := strings.TrimFunc(word, quoting)
	switch {
	case before == "" || bare == "" || !strings.ContainsAny(before[len(before)-1:], "=[,"):
		return ""
	case strings.EqualFold(bare, "true") || strings.EqualFold(bare, "false"):
		return "write " + strings.ToLower(bare)
	case unquoted(word) && !strings.ContainsAny(bare, `"\`):
		return fmt.Sprintf("text must stand in straight quotes: %q", bare)
	}
	return ""
}

func quoting(r rune) bool { return strings.ContainsRune("“”„‟‘’‚‛«»`", r) }

func unquoted(word string) bool {
	r, _ := utf8.DecodeRuneInString(word)
	if unicode.IsDigit(r) { // "60m"
		return strings.ContainsFunc(word, unicode.IsLetter) && !strings.Contains(word, " ")
	}
	return quoting(r) || unicode.IsLetter(r) || strings.ContainsRune("./~*@", r)
}

// wordAt is the value that an offset is in, and what stands before it on its line, without blanks at the end.
func wordAt(data []byte, offset int) (before, word string) {
	line := data[:offset]
	start := bytes.LastIndexByte(line, '\n') + 1
	rest := data[start:]
	rest = rest[:lineEnd(rest)]
	from := min(offset-start, len(rest))
	for from > 0 && !bytes.ContainsRune([]byte("=[,"), rune(rest[from-1])) {
		from--
	}
	word = strings.TrimSpace(string(rest[from:]))
	if i := strings.IndexAny(word, ",]}#"); i >= 0 {
		word = strings.TrimSpace(word[:i])
	}
	return strings.TrimSpace(string(rest[:from])), word
}
