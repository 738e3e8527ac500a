package trust

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxOpen bounds the brackets and braces of a file, and with them how deep it nests: the reader of TOML recurses, and a
// stack that overflows ends the process.
const maxOpen = 16 << 10

// document is a grants file: its bytes, what they say, and where its rules stand.
type document struct {
	data    []byte
	values  map[string]any
	granted []Granted
	spans   []span // of the rules, in the same order; none when they are written otherwise
}

// span is a range of bytes.
type span struct{ start, end int }

// expression is a line, or several, of a TOML file: a table's header, a key with its value, or a comment.
type expression struct {
	kind  unstable.Kind
	key   []string
	start int // the beginning of its first line
	text  string
}

// parse reads a grants file.
func parse(data []byte) (document, error) {
	doc := document{data: data}
	if bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > maxOpen {
		return document{}, fmt.Errorf("it has more than %d opening brackets", maxOpen)
	}
	if err := toml.Unmarshal(data, &doc.values); err != nil {
		if d, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, col := d.Position()
			return document{}, fmt.Errorf("%d:%d: %w", row, col, err)
		}
		return document{}, err
	}
	if doc.values["version"] != int64(1) {
		return document{}, errors.New("it does not say version = 1")
	}
	expressions, err := expressions(data)
	if err != nil {
		return document{}, err
	}
	return doc, doc.rules(expressions)
}

// repo is the repository that the file says it is about.
func (d document) repo() (string, error) {
	repo, ok := d.values["repo"].(string)
	if !ok || repo == "" {
		return "", problem(`write repo = "/path/of/the/repository" below version`, "it does not say which repository it is about")
	}
	return repo, nil
}

// besides is what the file says apart from its rules.
func (d document) besides() map[string]any {
	out := maps.Clone(d.values)
	if network, ok := out["network"].(map[string]any); ok {
		network = maps.Clone(network)
		delete(network, "rule")
		out["network"] = network
		if len(network) == 0 {
			delete(out, "network")
		}
	}
	return out
}

// rules fills in what is granted.
func (d *document) rules(all []expression) error {
	network, _ := d.values["network"].(map[string]any)
	list, ok := network["rule"].([]any)
	if !ok && network["rule"] != nil {
		return errors.New("network.rule is not a list of rules")
	}
	headers := headers(all)
	for i, value := range list {
		table, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("rule %d is not a table", i+1)
		}
		g, err := granted(table)
		if err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
		g.Number = i + 1
		if len(headers) == len(list) {
			s, added := ruleSpan(d.data, all, headers[i])
			d.spans = append(d.spans, s)
			g.Added = added
			g.Line = 1 + bytes.Count(d.data[:all[headers[i]].start], []byte("\n"))
		}
		d.granted = append(d.granted, g)
	}
	return nil
}

// granted reads a rule's table.
func granted(table map[string]any) (Granted, error) {
	g := Granted{Rule: Rule{Ports: []uint16{443}}, table: table}
	var err error
	for _, key := range slices.Sorted(maps.Keys(table)) {
		switch value := table[key]; key {
		case "action":
			g.Action, err = word(value)
		case "host":
			g.Host, err = word(value)
		case "ports":
			g.Ports, err = ports(value)
		case "methods":
			g.Methods, err = words(value)
		case "paths":
			g.Paths, err = words(value)
		case "private":
			g.Private, err = words(value)
		case "scheme":
			g.Scheme, err = word(value)
		case "protocol":
			g.Protocol, err = word(value)
		case "max_request":
			g.MaxRequest, err = word(value)
		case "max_sent":
			g.MaxSent, err = word(value)
		case "websocket":
			g.WebSocket, err = truth(value)
		default:
			g.extra = true
		}
		if err != nil {
			return Granted{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	g.Text = g.text()
	return g, nil
}

func word(value any) (string, error) {
	s, ok := value.(string)
	if !ok {
		return "", errors.New("it is not a string")
	}
	return s, nil
}

func truth(value any) (string, error) {
	b, ok := value.(bool)
	if !ok {
		return "", errors.New("it is neither true nor false")
	}
	return strconv.FormatBool(b), nil
}

func words(value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, errors.New("it is not a list")
	}
	var out []string
	for _, v := range list {
		s, err := word(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func ports(value any) ([]uint16, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, errors.New("it is not a list")
	}
	var out []uint16
	for _, v := range list {
		n, ok := v.(int64)
		if !ok || n < 1 || n > 65535 {
			return nil, fmt.Errorf("%v is not a port", v)
		}
		out = append(out, uint16(n))
	}
	return out, nil
}

// expressions finds where each expression of a TOML file begins, comments that stand alone included.
func expressions(data []byte) ([]expression, error) {
	p := unstable.Parser{KeepComments: true}
	p.Reset(data)
	var all []expression
	for p.NextExpression() {
		node := p.Expression()
		e := expression{kind: node.Kind}
		offset := int(node.Raw.Offset)
		if node.Kind == unstable.Comment {
			e.text = string(node.Data)
		} else {
			keys := node.Key()
			for keys.Next() {
				if len(e.key) == 0 {
					offset = int(keys.Node().Raw.Offset)
				}
				e.key = append(e.key, string(keys.Node().Data))
			}
		}
		e.start = bytes.LastIndexByte(data[:offset], '\n') + 1
		all = append(all, e)
	}
	return all, p.Error()
}

func isRule(key []string) bool { return slices.Equal(key, []string{"network", "rule"}) }

// headers gives the places of the [[network.rule]] among the expressions.
func headers(all []expression) (at []int) {
	for i, e := range all {
		if e.kind == unstable.ArrayTable && isRule(e.key) {
			at = append(at, i)
		}
	}
	return at
}

// ruleSpan is what belongs to the rule whose header is all[header]: the mark above it, and all up to its last key and the
// blank lines after that. Comments after its last key stay in the file.
func ruleSpan(data []byte, all []expression, header int) (span, time.Time) {
	s, added := span{start: all[header].start, end: len(data)}, time.Time{}
	last := header
	for i := header + 1; i < len(all); i++ {
		e := all[i]
		table := e.kind == unstable.Table || e.kind == unstable.ArrayTable
		if table && !(len(e.key) > 2 && isRule(e.key[:2])) {
			break
		}
		if e.kind != unstable.Comment {
			last = i
		}
	}
	if last+1 < len(all) {
		s.end = all[last+1].start
	}
	if header > 0 && all[header-1].kind == unstable.Comment {
		mark := all[header-1]
		when, ok := strings.CutPrefix(strings.TrimRight(mark.text, "\r"), addedMark)
		at, err := time.Parse(time.RFC3339, when)
		if above := bytes.Count(data[mark.start:s.start], []byte("\n")) == 1; ok && err == nil && above {
			s.start, added = mark.start, at
		}
	}
	return s, added
}

// cut removes rules, in the file's order, with the blank line that was added before them when they are the last.
func cut(data []byte, spans []span) []byte {
	var out []byte
	at := 0
	for _, s := range spans {
		out = append(out, data[at:s.start]...)
		at = s.end
	}
	out = append(out, data[at:]...)
	if at == len(data) && bytes.HasSuffix(out, []byte("\n\n")) {
		out = out[:len(out)-1]
	}
	return out
}

// appendRule writes a rule at the end.
func appendRule(data []byte, r Rule, at time.Time) []byte {
	var b strings.Builder
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%s%s\n%s", addedMark, at.UTC().Format(time.RFC3339), r.TOML())
	return append(slices.Clone(data), b.String()...)
}

// TOML is the rule as a grants file has it.
func (r Rule) TOML() string {
	if len(r.Ports) == 0 {
		r.Ports = []uint16{443}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[[network.rule]]\naction = \"allow\"\nhost = %s\n", quote(r.Host))
	var ports []string
	for _, p := range r.Ports {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	fmt.Fprintf(&b, "ports = [%s]\n", strings.Join(ports, ", "))
	for _, list := range []struct {
		key    string
		values []string
	}{{"methods", r.Methods}, {"paths", r.Paths}} {
		if len(list.values) > 0 {
			fmt.Fprintf(&b, "%s = [%s]\n", list.key, quoteAll(list.values))
		}
	}
	for _, word := range [][2]string{{"scheme", r.Scheme}, {"protocol", r.Protocol}, {"max_request", r.MaxRequest}, {"max_sent", r.MaxSent}} {
		if word[1] != "" {
			fmt.Fprintf(&b, "%s = %s\n", word[0], quote(word[1]))
		}
	}
	if r.WebSocket != "" {
		fmt.Fprintf(&b, "websocket = %s\n", r.WebSocket)
	}
	if len(r.Private) > 0 {
		fmt.Fprintf(&b, "private = [%s]\n", quoteAll(r.Private))
	}
	return b.String()
}

func quoteAll(values []string) string {
	var quoted []string
	for _, v := range values {
		quoted = append(quoted, quote(v))
	}
	return strings.Join(quoted, ", ")
}

// quote writes a string as TOML does: what does not print is written by its number, so that a person sees it.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
