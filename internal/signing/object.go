package signing

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// MaxPayload bounds what is signed, in bytes: the largest commit that people write is far below.
const MaxPayload = 1 << 20

const maxShown = 160 // runes of a subject, a name of a tag, or a person

// Object is a commit or an annotated tag, as git gives it to be signed. Its strings hold bytes that an agent chose.
type Object struct {
	Kind    string // "commit" or "tag"
	By      string // the author, or the tagger: "Ann <ann@example.com>"
	Through string // the committer, where that is somebody else
	Subject string // the first line of the message
	More    int    // lines of the message behind it
	Tree    string
	Parents []string
	Tag     string // the name of a tag
	Target  string // what it names: "commit 1234…"
}

// Parse reads a payload strictly: whatever is no commit and no annotated tag as git writes them is an error, so that a
// signature can never be of anything else.
func Parse(payload []byte) (Object, error) {
	switch {
	case len(payload) > MaxPayload:
		return Object{}, fmt.Errorf("it is larger than the %d bytes that may be signed", MaxPayload)
	case bytes.IndexByte(payload, 0) >= 0:
		return Object{}, errors.New("it holds a zero byte, which no commit and no tag does")
	}
	head, message, ok := strings.Cut(string(payload), "\n\n")
	if !ok { // a message may be empty: then the head ends with the payload
		var ended bool
		if head, ended = strings.CutSuffix(string(payload), "\n"); !ended {
			return Object{}, errNeither
		}
	}
	h := &headers{lines: strings.Split(head, "\n")}
	o, err := h.object()
	if err != nil {
		return Object{}, err
	}
	o.Subject, o.More = subject(message)
	return o, nil
}

var errNeither = errors.New("it is neither a commit nor an annotated tag of git")

var (
	hexID    = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	identity = regexp.MustCompile(`^([^<>]*<[^<>]*>) [0-9]{1,19} [+-][0-9]{4}$`)
	tagName  = regexp.MustCompile(`^[^\s~^:?*\[\\]+$`)
)

// headers takes the headers of an object, in their order.
type headers struct {
	lines []string
	err   error
}

func (h *headers) object() (o Object, err error) {
	switch {
	case h.next("tree"):
		o = h.commit()
	case h.next("object"):
		o = h.tag()
	default:
		return Object{}, errNeither
	}
	if h.err == nil && len(h.lines) > 0 {
		key, _, _ := strings.Cut(h.lines[0], " ")
		h.err = fmt.Errorf("its header %q is none that is signed here", shorten(key))
	}
	return o, h.err
}

func (h *headers) commit() Object {
	o := Object{Kind: "commit", Tree: h.id("tree")}
	for h.next("parent") {
		o.Parents = append(o.Parents, h.id("parent"))
	}
	o.By = h.person("author")
	if c := h.person("committer"); c != o.By {
		o.Through = c
	}
	for h.next("encoding") || h.next("mergetag") {
		h.skip()
	}
	return o
}

func (h *headers) tag() Object {
	id := h.id("object")
	kind := h.value("type")
	switch kind {
	case "commit", "tree", "blob", "tag":
	default:
		h.fail("type")
	}
	o := Object{Kind: "tag", Target: kind + " " + id, Tag: h.value("tag")}
	if !tagName.MatchString(o.Tag) {
		h.fail("tag")
	}
	o.By = h.person("tagger")
	return o
}

// next reports whether the next header is one called key.
func (h *headers) next(key string) bool {
	return h.err == nil && len(h.lines) > 0 && strings.HasPrefix(h.lines[0], key+" ")
}

func (h *headers) fail(key string) {
	if h.err == nil {
		h.err = fmt.Errorf("%w: its %s is not as git writes it", errNeither, key)
	}
}

// value takes the header called key.
func (h *headers) value(key string) string {
	if !h.next(key) {
		h.fail(key)
		return ""
	}
	v := h.lines[0][len(key)+1:]
	h.lines = h.lines[1:]
	return v
}

func (h *headers) id(key string) string {
	v := h.value(key)
	if !hexID.MatchString(v) {
		h.fail(key)
	}
	return v
}

func (h *headers) person(key string) string {
	m := identity.FindStringSubmatch(h.value(key))
	if m == nil {
		h.fail(key)
		return ""
	}
	return strings.TrimSpace(m[1])
}

// skip takes a header with the lines that go on with it.
func (h *headers) skip() {
	h.lines = h.lines[1:]
	for len(h.lines) > 0 && strings.HasPrefix(h.lines[0], " ") {
		h.lines = h.lines[1:]
	}
}

func subject(message string) (first string, more int) {
	message = strings.Trim(message, "\n\r\t ") // git passes over blank lines before a subject too
	first, rest, ok := strings.Cut(message, "\n")
	if ok {
		more = len(strings.Split(rest, "\n"))
	}
	return first, more
}

// String says all of it that a person judges, on one line: what an agent chose stands in quotes, with everything escaped
// that could end them or redraw a screen.
func (o Object) String() string {
	var b strings.Builder
	if o.Kind == "tag" {
		fmt.Fprintf(&b, "tag %s of %s by %s", quote(o.Tag), abbreviated(o.Target), quote(o.By))
	} else {
		fmt.Fprintf(&b, "commit %s by %s", quote(o.Subject), quote(o.By))
	}
	if o.Through != "" {
		fmt.Fprintf(&b, ", committed by %s", quote(o.Through))
	}
	if o.Kind == "tag" {
		fmt.Fprintf(&b, ", saying %s", quote(o.Subject))
	}
	if o.More > 0 {
		fmt.Fprintf(&b, " and %d more lines", o.More)
	}
	if o.Kind == "commit" {
		fmt.Fprintf(&b, " (tree %s%s)", short(o.Tree), parents(o.Parents))
	}
	return b.String()
}

func parents(ids []string) string {
	const most = 4
	var out []string
	for _, id := range ids[:min(most, len(ids))] {
		out = append(out, short(id))
	}
	switch {
	case len(ids) == 0:
		return ", no parent"
	case len(ids) == 1:
		return ", parent " + out[0]
	case len(ids) > most:
		out = append(out, fmt.Sprintf("%d more", len(ids)-most))
	}
	return ", parents " + strings.Join(out, ", ")
}

func abbreviated(target string) string {
	kind, id, _ := strings.Cut(target, " ")
	return kind + " " + short(id)
}

func short(id string) string { return id[:min(12, len(id))] }

func quote(s string) string { return strconv.Quote(shorten(s)) }

func shorten(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return s
}
