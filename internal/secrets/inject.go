package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

// Inject puts real values into a request to host, in place of this run's placeholders, and takes out whatever else
// would authenticate it. Tls says that the connection to host is TLS and its certificate was verified. It returns
// the names of the credentials that were put in, joined by ",". On an error, which is *Refused or that of ctx, the
// request must not be forwarded; then the name is that of the credential that was refused, if it is known.
//
// A placeholder may stand only in the header of its credential, on a host of that credential, over TLS. On a host that
// has a credential, that header with anything else in it gets the real value too: the agent asked to be
// authenticated, and its own key is not to be used. A header that is not there is not added.
func (b *Broker) Inject(ctx context.Context, req *http.Request, host policy.Host, tls bool) (credential string, err error) {
	if b.ctx.Err() != nil {
		return "", ended("")
	}
	here := b.of(host)
	if err := b.search(req, here, tls); err != nil {
		return refusedName(err), err
	}
	if len(here) == 0 {
		return "", nil
	}
	wanted := asked(req.Header, here)
	strip(req, here)
	if !tls {
		return "", nil
	}
	return b.fill(ctx, req.Header, wanted)
}

func refusedName(err error) string {
	var r *Refused
	if errors.As(err, &r) {
		return r.Credential
	}
	return ""
}

// of lists the credentials for a host.
func (b *Broker) of(host policy.Host) (here []*held) {
	for _, h := range b.held {
		if !host.IsZero() && slices.Contains(h.Hosts, host) {
			here = append(here, h)
		}
	}
	return here
}

// search refuses a request that holds a placeholder anywhere but in its own header on its own host.
func (b *Broker) search(req *http.Request, here []*held, tls bool) error {
	for _, at := range []struct{ place, text string }{
		{"the address", req.Host}, {"the address", req.URL.String()}, {"the address", req.RequestURI}, {"the method", req.Method},
	} {
		if b.scan.found(at.text) {
			return b.misplaced(at.text, at.place)
		}
	}
	if !tls {
		here = nil
	}
	if err := b.searchFields(req.Header, here, "header "); err != nil {
		return err
	}
	return b.searchFields(req.Trailer, nil, "trailer ")
}

// searchFields refuses fields with a placeholder, but for its own field in here. A trailer may be announced by its name
// alone.
func (b *Broker) searchFields(fields http.Header, here []*held, kind string) error {
	for name, values := range fields {
		place := kind + http.CanonicalHeaderKey(name)
		if b.scan.found(name) {
			return b.misplaced(name, place)
		}
		for _, value := range values {
			rest := value
			if h := slot(here, name); h != nil {
				rest = strings.Replace(value, h.placeholder, "", 1)
			}
			if b.scan.found(rest) {
				return b.misplaced(value, place)
			}
		}
	}
	return nil
}

// slot finds the credential whose header this is.
func slot(here []*held, name string) *held {
	for _, h := range here {
		if strings.EqualFold(h.header, name) {
			return h
		}
	}
	return nil
}

// misplaced names the credential if its placeholder is there in plain.
func (b *Broker) misplaced(text, place string) *Refused {
	e := &Refused{Reason: "a placeholder that is not of this run, or is encoded, stands in " + place}
	for _, h := range b.held {
		if strings.Contains(text, h.placeholder) {
			e.Credential = h.Name
			e.Reason = fmt.Sprintf("the placeholder of credential %q stands in %s, where it may not go", h.Name, place)
		}
	}
	return e
}

// asked lists the credentials whose header the request has.
func asked(header http.Header, here []*held) (wanted []*held) {
	for name := range header {
		if h := slot(here, name); h != nil && !slices.Contains(wanted, h) {
			wanted = append(wanted, h)
		}
	}
	slices.SortFunc(wanted, func(a, b *held) int { return cmp.Compare(a.Name, b.Name) })
	return wanted
}

// strip takes out everything that could authenticate the request as somebody else.
func strip(req *http.Request, here []*held) {
	for _, fields := range []http.Header{req.Header, req.Trailer} {
		for name := range fields {
			if slot(here, name) != nil || authenticates(name) {
				delete(fields, name) // not Del: the key may be in any case
			}
		}
	}
	req.URL.User = nil
	req.URL.RawQuery = stripQuery(req.URL.RawQuery)
}

func authenticates(header string) bool {
	switch strings.ToLower(header) {
	case "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key":
		return true
	}
	return false
}

// stripQuery takes out parameters that carry keys and leaves the rest as it is written.
func stripQuery(raw string) string {
	kept := strings.Split(raw, "&")
	kept = slices.DeleteFunc(kept, func(pair string) bool {
		name, value, _ := strings.Cut(pair, "=")
		switch strings.ToLower(unescape(name)) {
		case "access_token", "api_key", "apikey", "api-key", "x-api-key":
			return true
		case "key": // also an ordinary word
			return strings.HasPrefix(unescape(value), "AIza")
		}
		return false
	})
	return strings.Join(kept, "&")
}

// fill sets the header of each credential to its real value, or none of them.
func (b *Broker) fill(ctx context.Context, header http.Header, wanted []*held) (string, error) {
	values := make([]Secret, len(wanted))
	names := make([]string, len(wanted))
	for i, h := range wanted {
		value, err := b.read(ctx, h)
		if err != nil {
			return h.Name, err
		}
		values[i], names[i] = value, h.Name
	}
	for i, h := range wanted {
		header[h.header] = []string{h.before + values[i].Reveal() + h.after}
	}
	return strings.Join(names, ","), nil
}
