package secrets

import (
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
// the name of the credential that was put in. On an error, which is *Refused or that of ctx, the request must not be
// forwarded; then the name is that of the credential that was refused, if it is known.
//
// A placeholder may stand only in the slots of its credential, in requests that the credential is for, over TLS. In such
// a request, that slot with anything else in it gets the real value too: the agent asked to be authenticated, and its
// own key is not to be used. A slot that is not there is not added. Of two credentials in one request none is sent.
//
// Bodies are looked into only where a credential stands in one: see Watch.
func (b *Broker) Inject(ctx context.Context, req *http.Request, host policy.Host, tls bool) (credential string, err error) {
	if b.ctx.Err() != nil {
		return "", ended("")
	}
	here := b.of(host)
	fit := fitting(here, req, tls)
	if err := b.search(req, fit); err != nil {
		return refusedName(err), err
	}
	if len(here) == 0 {
		return "", nil
	}
	wanted, err := b.asked(req, fit)
	if err != nil {
		return refusedName(err), err
	}
	strip(req, here)
	return b.fill(ctx, req, wanted)
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

// fitting lists those of a host's credentials that may go into a request: none without TLS.
func fitting(here []*held, req *http.Request, tls bool) []*held {
	if !tls {
		return nil
	}
	for i, h := range here {
		if h.fits(req) {
			continue
		}
		fit := slices.Clone(here[:i])
		for _, h := range here[i+1:] {
			if h.fits(req) {
				fit = append(fit, h)
			}
		}
		return fit
	}
	return here
}

// search refuses a request that holds a placeholder anywhere but in a slot of its own.
func (b *Broker) search(req *http.Request, fit []*held) error {
	for _, at := range []struct{ place, text string }{
		{"the address", req.Host}, {"the address", req.URL.String()}, {"the address", req.RequestURI}, {"the method", req.Method},
	} {
		if rest := withoutQueries(at.text, fit); b.scan.found(rest) {
			return b.misplaced(rest, at.place)
		}
	}
	if err := b.searchFields(req.Header, fit, "header "); err != nil {
		return err
	}
	return b.searchFields(req.Trailer, nil, "trailer ")
}

// withoutQueries gives an address without the placeholders that stand in their own parameters.
func withoutQueries(address string, fit []*held) string {
	for _, h := range fit {
		if h.query == "" {
			continue
		}
		if path, query, ok := strings.Cut(address, "?"); ok {
			address = path + "?" + h.withoutQuery(query)
		}
	}
	return address
}

// searchFields refuses fields with a placeholder, but for those in slots of their own. A trailer may be announced by its
// name alone.
func (b *Broker) searchFields(fields http.Header, fit []*held, kind string) error {
	for name, values := range fields {
		if b.scan.found(name) {
			return b.misplaced(name, kind+http.CanonicalHeaderKey(name))
		}
		for _, value := range values {
			rest := value
			for _, h := range fit {
				rest = h.without(name, rest)
			}
			if b.scan.found(rest) {
				return b.misplaced(value, kind+http.CanonicalHeaderKey(name))
			}
		}
	}
	return nil
}

// misplaced names the credential if its placeholder is there in plain.
func (b *Broker) misplaced(text, place string) *Refused {
	e := &Refused{Misplaced: true, Reason: "a placeholder that is not of this run, or is encoded, stands in " + place}
	for _, h := range b.held {
		if strings.Contains(text, h.placeholder) {
			e.Credential = h.Name
			e.Reason = fmt.Sprintf("the placeholder of credential %q stands in %s, where it may not go", h.Name, place)
		}
	}
	return e
}

// asked lists the uses that a request asks for, all of one credential.
func (b *Broker) asked(req *http.Request, fit []*held) (wanted []use, err error) {
	for _, h := range fit {
		uses, err := b.askedOf(h, req)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, uses...)
	}
	for _, u := range wanted {
		if first := wanted[0]; u.held != first.held {
			return nil, &Refused{Credential: u.Name,
				Reason: fmt.Sprintf("the request asks for the credentials %q and %q, and no two go into one request", first.Name, u.Name)}
		}
	}
	return wanted, nil
}

// strip takes out everything that could authenticate the request as somebody else, cookies too.
func strip(req *http.Request, here []*held) {
	for _, fields := range []http.Header{req.Header, req.Trailer} {
		for name := range fields {
			if authenticates(name) || slices.ContainsFunc(here, func(h *held) bool { return h.holds(name) }) {
				delete(fields, name) // not Del: the key may be in any case
			}
		}
	}
	stripProtocols(req.Header)
	req.URL.User = nil
	req.URL.RawQuery = stripQuery(req.URL.RawQuery, here)
}

// authenticates reports the headers by which services are told who asks, the well-known ones and those that are named in
// the usual way.
func authenticates(header string) bool {
	name := strings.ToLower(header)
	switch name {
	case "authorization", "proxy-authorization", "cookie", "cookie2", "apikey", "job-token", "deploy-token", "circle-token",
		"x-token", "x-vault-token", "x-figma-token", "x-jfrog-art-api", "x-amz-security-token", "x-nuget-apikey",
		"ocp-apim-subscription-key", "x-authorization", "x-original-authorization", "x-forwarded-authorization":
		return true
	}
	for _, end := range []string{"api-key", "access-token", "auth-token", "private-token"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// stripProtocols takes out what programs that can set no header put among the WebSocket protocols that they offer.
func stripProtocols(h http.Header) {
	for name, values := range h {
		if !strings.EqualFold(name, "Sec-WebSocket-Protocol") {
			continue
		}
		var kept []string
		for offered := range strings.SplitSeq(strings.Join(values, ","), ",") {
			lower := strings.ToLower(offered)
			if !strings.Contains(lower, "api-key.") && !strings.Contains(lower, "bearer") {
				kept = append(kept, strings.TrimSpace(offered))
			}
		}
		if delete(h, name); len(kept) > 0 {
			h[name] = []string{strings.Join(kept, ", ")}
		}
	}
}

// stripQuery takes out parameters that carry keys, and those that are slots, and leaves the rest as it is written.
func stripQuery(raw string, here []*held) string {
	if raw == "" {
		return ""
	}
	kept := strings.Split(raw, "&")
	kept = slices.DeleteFunc(kept, func(pair string) bool {
		if slices.ContainsFunc(here, func(h *held) bool { return h.query != "" && h.isParameter(pair) }) {
			return true
		}
		name, value, _ := strings.Cut(pair, "=")
		switch strings.ToLower(parameter(name)) {
		case "access_token", "api_key", "apikey", "api-key", "x-api-key", "auth_token", "oauth_token", "private_token", "job_token", "client_secret":
			return true
		case "key": // also an ordinary word
			return strings.HasPrefix(parameter(value), "AIza")
		case "token": // … and a place in a list
			return len(parameter(value)) >= 20
		}
		return false
	})
	return strings.Join(kept, "&")
}

// fill puts a credential's value where it is asked for.
func (b *Broker) fill(ctx context.Context, req *http.Request, wanted []use) (string, error) {
	if len(wanted) == 0 {
		return "", nil
	}
	h := wanted[0].held
	value, err := b.read(ctx, h)
	if err != nil {
		return h.Name, err
	}
	for _, u := range wanted {
		u.fill(req, value.Reveal())
	}
	return h.Name, nil
}
