package secrets

import (
	"bytes"
	"encoding/json"
	"errors"

	"agentbox/internal/logins"
)

// document is a login as the agent keeps it: a JSON object, of which everything that is not changed stays as it is.
type document map[string]json.RawMessage

var errNoObject = errors.New("it is not a JSON object")

// parseDocument reads one. Its errors hold nothing of the text.
func parseDocument(text []byte) (document, error) {
	var d document
	if json.Unmarshal(text, &d) != nil || d == nil {
		return nil, errNoObject
	}
	return d, nil
}

// get reads the value at a path into v, and reports whether there is one of that kind.
func (d document) get(at logins.Path, v any) bool {
	if len(at) == 0 {
		return false
	}
	for ; len(at) > 1; at = at[1:] {
		inner, err := parseDocument(d[at[0]])
		if err != nil {
			return false
		}
		d = inner
	}
	raw, ok := d[at[0]]
	return ok && json.Unmarshal(raw, v) == nil
}

// text is the string at a path, or "".
func (d document) text(at logins.Path) (s string) {
	if !d.get(at, &s) {
		return ""
	}
	return s
}

// set puts a value at a path.
func (d document) set(at logins.Path, v any) error {
	if len(at) > 1 {
		inner, err := parseDocument(d[at[0]])
		if err != nil {
			return err
		}
		if err := inner.set(at[1:], v); err != nil {
			return err
		}
		v = inner
	}
	raw, err := encodeJSON(v, "")
	if err != nil {
		return err
	}
	d[at[0]] = raw
	return nil
}

// bytes is the text of the document.
func (d document) bytes() ([]byte, error) { return encodeJSON(d, "  ") }

func encodeJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
