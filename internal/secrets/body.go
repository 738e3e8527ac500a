package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxBody is how long a request's body may be where a credential stands in one: it is read as a whole.
const maxBody = 1 << 20

// bodySlot is a body that was read, and where in it the value goes.
type bodySlot struct {
	before, after []byte
	sent          string // what the agent has there
	quote         func(value string) []byte
}

// fill puts the body together again.
func (s *bodySlot) fill(req *http.Request, value string) {
	setBody(req, bytes.Join([][]byte{s.before, s.quote(value), s.after}, nil))
}

// setBody makes text the request's body. What would have stood behind the body is gone.
func setBody(req *http.Request, text []byte) {
	req.Body, req.ContentLength, req.Trailer = io.NopCloser(bytes.NewReader(text)), int64(len(text)), nil
	req.TransferEncoding = nil
	req.GetBody = nil
	for name := range req.Header {
		if strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Trailer") {
			delete(req.Header, name)
		}
	}
}

// inBody reads the body of a request that a credential may stand in, and finds the field. It gives nil where there is no
// such field; then the body goes as it came. Rest is what stands in the body beside the placeholder in its field.
// Whatever could be read in two ways is refused.
func (h *held) inBody(req *http.Request) (found *bodySlot, rest string, err error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, "", nil
	}
	find := h.inJSON
	switch kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); {
	case err == nil && kind == "application/x-www-form-urlencoded":
		find = h.inForm
	case err == nil && (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")):
	default:
		return nil, "", h.unreadable("its Content-Type is neither JSON nor a form")
	}
	if len(req.Header["Content-Encoding"]) > 0 {
		return nil, "", h.unreadable("it is compressed")
	}
	text, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	_ = req.Body.Close()
	switch {
	case err != nil:
		return nil, "", h.unreadable("it broke off: " + err.Error())
	case len(text) > maxBody:
		return nil, "", h.unreadable("it is longer than 1 MiB")
	}
	setBody(req, text)
	found, err = find(text)
	switch {
	case err != nil:
		return nil, "", h.unreadable(err.Error())
	case found == nil:
		return nil, string(text), nil
	}
	return found, found.rest(h.placeholder), nil
}

func (h *held) unreadable(why string) *Refused {
	return &Refused{Credential: h.Name, Reason: fmt.Sprintf("credential %q stands in the body of such requests, and this one can't be read: %s", h.Name, why)}
}

// rest is all of the body but the placeholder in the field.
func (s *bodySlot) rest(placeholder string) string {
	return string(s.before) + "\n" + strings.Replace(s.sent, placeholder, "", 1) + "\n" + string(s.after)
}

func (h *held) inForm(text []byte) (found *bodySlot, err error) {
	name, at := strings.Join(h.body, "."), 0
	for _, pair := range strings.Split(string(text), "&") {
		key, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(key)
		if err != nil || strings.Contains(pair, ";") {
			return nil, errors.New("it is no form as servers agree to read them")
		}
		if strings.EqualFold(plain, name) {
			if found != nil || plain != name {
				return nil, fmt.Errorf("it has %q twice, or in another case", name)
			}
			from := at + len(pair) - len(value)
			if !strings.Contains(pair, "=") {
				return nil, fmt.Errorf("its field %q has no value", name)
			}
			sent, err := url.QueryUnescape(value)
			if err != nil {
				return nil, errors.New("it is no form as servers agree to read them")
			}
			found = &bodySlot{sent: sent, before: text[:from], after: text[at+len(pair):], quote: func(v string) []byte { return []byte(url.QueryEscape(v)) }}
		}
		at += len(pair) + 1
	}
	return found, nil
}

// inJSON walks through the text with a strict reading: one value, valid UTF-8, and no name twice in an object, in
// whatever case.
func (h *held) inJSON(text []byte) (*bodySlot, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	w := walker{dec: dec, text: text, want: h.body}
	if err := w.value(0, true); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind its JSON")
	}
	return w.found, nil
}

// walker finds one field of a JSON text.
type walker struct {
	dec   *json.Decoder
	text  []byte
	want  []string
	found *bodySlot
}

const maxDepth = 64

// value reads one value. On says that the names on the way to it were those that are wanted, depth of them.
func (w *walker) value(depth int, on bool) error {
	if depth > maxDepth {
		return errors.New("its JSON is nested too deeply")
	}
	from := w.dec.InputOffset()
	token, err := w.dec.Token()
	if err != nil {
		return errors.New("it is not JSON")
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return w.object(depth, on)
		}
		for w.dec.More() {
			if err := w.value(depth+1, false); err != nil {
				return err
			}
		}
		return w.end()
	case string:
		if on && depth == len(w.want) {
			w.keep(t, int(from), int(w.dec.InputOffset()))
		}
	default:
		if on && depth == len(w.want) {
			return fmt.Errorf("its field %q is no string", strings.Join(w.want, "."))
		}
	}
	return nil
}

func (w *walker) end() error {
	if _, err := w.dec.Token(); err != nil {
		return errors.New("it is not JSON")
	}
	return nil
}

func (w *walker) object(depth int, on bool) error {
	if on && depth == len(w.want) {
		return fmt.Errorf("its field %q is no string", strings.Join(w.want, "."))
	}
	names := map[string]bool{}
	for w.dec.More() {
		token, err := w.dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return errors.New("it is not JSON")
		}
		folded := strings.ToLower(strings.ToUpper(name))
		if names[folded] {
			return errors.New("its JSON has a name twice in one object")
		}
		names[folded] = true
		if err := w.value(depth+1, on && depth < len(w.want) && w.want[depth] == name); err != nil {
			return err
		}
	}
	return w.end()
}

// keep notes where the string is that was just read; before it stand a colon and spaces.
func (w *walker) keep(sent string, from, to int) {
	for from < to && w.text[from] != '"' {
		from++
	}
	w.found = &bodySlot{sent: sent, before: w.text[:from], after: w.text[to:], quote: quoted}
}

// quoted is a JSON string.
func quoted(value string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return []byte(`""`) // a string always has a form
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
