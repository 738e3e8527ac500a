package secrets

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"agentbox/internal/policy"
)

// slots are the places of a request in which a credential may stand. Its profile names one; a header and Basic
// authentication may go together, for services that take a token either way.
type slots struct {
	header, before, after string // the header's name in canonical form, and what stands around {token}
	basic                 bool
	user                  string // of Basic; "" is whichever the agent sends
	query                 string // a parameter's name
	body                  []string
}

// anyUser, in the place of Basic's user, keeps the one that the agent sends.
const anyUser = "*"

func slotsOf(c Credential) (s slots, err error) {
	if c.Header == "" && c.Basic == "" && c.Query == "" && c.Body == "" {
		return s, errors.New("no slot is named")
	}
	if c.Header != "" {
		name, value, _ := strings.Cut(c.Header, ":")
		before, after, ok := strings.Cut(strings.TrimSpace(value), "{token}")
		if !ok || !httpguts.ValidHeaderFieldName(name) {
			return s, fmt.Errorf("header %q is not of the form \"Name: {token}\"", c.Header)
		}
		s.header, s.before, s.after = http.CanonicalHeaderKey(name), before, after
	}
	if c.Basic != "" {
		user, token, _ := strings.Cut(c.Basic, ":")
		if token != "{token}" {
			return s, fmt.Errorf("basic %q is not of the form \"user:{token}\"", c.Basic)
		}
		s.basic, s.user = true, user
		if user == anyUser {
			s.user = ""
		}
	}
	s.query = c.Query
	if c.Body != "" {
		s.body = strings.Split(c.Body, ".")
	}
	return s, nil
}

// holds reports whether a header is a slot.
func (s slots) holds(name string) bool {
	return s.header != "" && strings.EqualFold(s.header, name) || s.basic && strings.EqualFold(name, "Authorization")
}

// without gives a header's value with the placeholder taken out of it, once, where it stands in this slot.
func (h *held) without(name, value string) string {
	if h.basic && strings.EqualFold(name, "Authorization") {
		if user, password, ok := parseBasic(value); ok {
			if password == h.placeholder {
				return user
			}
			return value
		}
	}
	if h.header != "" && strings.EqualFold(h.header, name) {
		return strings.Replace(value, h.placeholder, "", 1)
	}
	return value
}

func parseBasic(value string) (user, password string, ok bool) {
	scheme, encoded, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(text), ":")
}

// withoutQuery gives a query with the placeholder taken out of it, once, where it stands in this slot.
func (h *held) withoutQuery(raw string) string {
	if h.query == "" {
		return raw
	}
	pairs := strings.Split(raw, "&")
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		if parameter(name) == h.query && parameter(value) == h.placeholder {
			pairs[i] = name
			break
		}
	}
	return strings.Join(pairs, "&")
}

// parameter decodes a query's name or value.
func parameter(s string) string {
	if out, err := url.QueryUnescape(s); err == nil {
		return out
	}
	return s
}

// use is one credential that a request asks for, and in which of its slots.
type use struct {
	*held
	in   slot
	user string    // that the agent sent, in Basic
	body *bodySlot // in inBody
}

type slot int

const (
	inHeader slot = iota
	inBasic
	inQuery
	inBody
)

// asked lists the slots of a credential that the request has something in: whoever fills one wants to be authenticated.
func (b *Broker) askedOf(h *held, req *http.Request) (uses []use, err error) {
	for name, values := range req.Header {
		if !h.holds(name) || slices.ContainsFunc(uses, func(u use) bool { return u.in <= inBasic && u.slotHeader() == http.CanonicalHeaderKey(name) }) {
			continue
		}
		uses = append(uses, h.inHeader(name, values))
	}
	if h.query != "" && slices.ContainsFunc(strings.Split(req.URL.RawQuery, "&"), h.isParameter) {
		uses = append(uses, use{held: h, in: inQuery})
	}
	if h.body != nil {
		found, rest, err := h.inBody(req)
		if err != nil {
			return nil, err
		}
		if b.scan.found(rest) {
			return nil, b.misplaced(rest, "the body")
		}
		if found != nil {
			uses = append(uses, use{held: h, in: inBody, body: found})
		}
	}
	return uses, nil
}

// inHeader says which of the two slots that may share a header is meant.
func (h *held) inHeader(name string, values []string) use {
	u := use{held: h, in: inHeader}
	if !h.basic || !strings.EqualFold(name, "Authorization") {
		return u
	}
	if !strings.EqualFold(h.header, name) {
		u.in = inBasic
	}
	for _, v := range values {
		if user, _, ok := parseBasic(v); ok {
			u.in, u.user = inBasic, user
			break
		}
	}
	return u
}

func (u use) slotHeader() string {
	if u.in == inBasic {
		return "Authorization"
	}
	return u.header
}

func (h *held) isParameter(pair string) bool {
	name, _, _ := strings.Cut(pair, "=")
	return parameter(name) == h.query
}

// fill puts the value where the use is; strip has emptied the place.
func (u use) fill(req *http.Request, value string) {
	switch u.in {
	case inHeader:
		req.Header[u.header] = []string{u.before + value + u.after}
	case inBasic:
		user := u.held.user
		if user == "" {
			user = u.user
		}
		req.Header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+value))}
	case inQuery:
		pair := url.QueryEscape(u.query) + "=" + url.QueryEscape(value)
		if req.URL.RawQuery != "" {
			pair = req.URL.RawQuery + "&" + pair
		}
		req.URL.RawQuery = pair
	case inBody:
		u.body.fill(req, value)
	}
}

// fits reports whether a credential is for a request, by its port, method and path. What names another method or path
// to the server does not fit where they count.
func (h *held) fits(req *http.Request) bool {
	if len(h.Ports) > 0 && !slices.Contains(h.Ports, portOf(req.URL)) {
		return false
	}
	if len(h.Methods) == 0 && len(h.Paths) == 0 {
		return true
	}
	if method, path := policy.Overrides(req.Header, req.URL.RawQuery); method != "" && len(h.Methods) > 0 || path != "" && len(h.Paths) > 0 {
		return false
	}
	if len(h.Methods) > 0 && !slices.Contains(h.Methods, req.Method) {
		return false
	}
	path := req.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	return len(h.Paths) == 0 || slices.ContainsFunc(h.Paths, func(p policy.PathPattern) bool { return p.Match(path) })
}

func portOf(u *url.URL) uint16 {
	if text := u.Port(); text != "" {
		n, _ := strconv.ParseUint(text, 10, 16) // 0 is no port, and fits none
		return uint16(n)
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}
