package profiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"agentbox/internal/policy"
)

// BasicLogin is the login of HTTP Basic authentication, "user:{token}". The user "*" is whichever the agent sends.
type BasicLogin string

// UnmarshalText checks that {token} is the whole password.
func (b *BasicLogin) UnmarshalText(text []byte) error {
	user, password, ok := strings.Cut(string(text), ":")
	if !ok || password != "{token}" || len(user) > 200 || !httpguts.ValidHeaderFieldValue(user) || strings.Contains(user, "{token}") {
		return hinted{fmt.Sprintf("%q is not a login with {token} as its password", text), `write it as "x-access-token:{token}", or "*:{token}" for the user that the agent sends`}
	}
	*b = BasicLogin(text)
	return nil
}

// Parameter is the name of a query's parameter.
type Parameter string

var parameterForm = lazily(`^[A-Za-z0-9_.~-]{1,64}$`)

// UnmarshalText checks the form.
func (p *Parameter) UnmarshalText(text []byte) error {
	if !parameterForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not the name of a parameter", text), `write the name alone, such as "key" for ?key=…`}
	}
	*p = Parameter(text)
	return nil
}

// BodyField is a field of a body, "refresh_token", or "auth.token" for one within another.
type BodyField string

var bodyForm = lazily(`^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$`)

// UnmarshalText checks the form.
func (f *BodyField) UnmarshalText(text []byte) error {
	if !bodyForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not a field of a body", text), `write its name, such as "refresh_token", or "auth.token" for one within another`}
	}
	*f = BodyField(text)
	return nil
}

// Claims is what a JSON Web Token says: a JSON object.
type Claims string

const maxClaims = 4096 // bytes

// UnmarshalText checks that it is one object.
func (c *Claims) UnmarshalText(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	var object map[string]any
	err := dec.Decode(&object)
	if _, more := dec.Token(); err != nil || object == nil || !errors.Is(more, io.EOF) || len(text) > maxClaims {
		return hinted{"claims are not a JSON object of at most 4096 bytes", `write it such as '{"email": "ann@example.com"}'`}
	}
	*c = Claims(text)
	return nil
}

// jwt is the shape of placeholders that are a JSON Web Token.
const jwt = "jwt"

// checkSlot sees that a credential says where it stands, once. A header and Basic go together: services that take a
// token either way are asked either way.
func (d *document) checkSlot(c Credential, at []string) {
	var said []string
	for _, key := range []string{"header", "basic", "query", "body"} {
		if d.has(join(at, key)...) {
			said = append(said, key)
		}
	}
	switch {
	case len(said) == 0:
		d.key(at, "missing-slot", `write header = "Authorization: Bearer {token}", or basic, query or body`, "credential %q does not say where in a request it stands", c.Name)
	case len(said) > 1 && !slices.Equal(said, []string{"header", "basic"}):
		d.value(join(at, said[1]), "slot-conflict", "keep one of them; only header and basic go together", "credential %q has more than one slot: %s", c.Name, strings.Join(said, ", "))
	}
	if c.Claims != "" && c.Shape != jwt {
		d.value(join(at, "claims"), "claims-without-jwt", `add shape = "jwt", or leave claims out`, "only a JSON Web Token has claims")
	}
	for key, none := range map[string]string{"ports": "port", "methods": "method", "paths": "path"} {
		d.checkFilled(join(at, key), "leave it out for all of them", "the credential is for no "+none)
	}
}

// maxCompared bounds what comparing the paths of credentials may cost; what is more is taken for a conflict.
const maxCompared = 1 << 24

// checkApart sees that no two credentials can go into one request: whose right it is made with would be unclear, and a
// server that is told of both may believe either.
func (d *document) checkApart(credentials []Credential) {
	at, steps := map[policy.Host][]int{}, 0
	compared := map[[2]int]bool{}
	for i, c := range credentials {
		clashed := false
		for j, h := range c.Hosts {
			for _, first := range at[h] {
				pair := [2]int{first, i}
				if clashed || credentials[first].Name == c.Name {
					continue
				}
				meets, known := compared[pair]
				if !known {
					meets = credentials[first].meets(c, &steps)
					compared[pair] = meets
				}
				if clashed = meets; meets {
					d.value(join(join(d.credentialAt(i), "hosts"), index(j)), "credential-conflict", "keep one of them for that host, or give them methods, paths or ports that no request has in common",
						"credential %q could go into the same request to %s as credential %q, at %s", c.Name, h, credentials[first].Name, d.spoken("credential", index(first)))
				}
			}
			at[h] = append(at[h], i)
		}
	}
}

func (d *document) credentialAt(i int) []string { return []string{"credential", index(i)} }

// meets reports whether some request to a host of both is one that either is for.
func (c Credential) meets(other Credential, steps *int) bool {
	if !common(c.Ports, other.Ports) || !common(c.Methods, other.Methods) {
		return false
	}
	if len(c.Paths) == 0 || len(other.Paths) == 0 {
		return true
	}
	for _, p := range c.Paths {
		for _, q := range other.Paths {
			if *steps += len(p.String()) * len(q.String()); *steps > maxCompared || p.Overlaps(q) {
				return true
			}
		}
	}
	return false
}

// common reports whether two lists, of which an empty one is everything, have something in common.
func common[T comparable](a, b []T) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(v T) bool { return slices.Contains(b, v) })
}
