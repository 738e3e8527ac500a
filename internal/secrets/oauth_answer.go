package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"agentbox/internal/logins"
	"agentbox/internal/policy"
)

// What the agent is told of a login. Its tokens inside are placeholders that never change; they say that they are good for
// longer than any run.
const (
	toldSeconds = 28800 // of an access token, in answers
	maxForm     = 64 << 10
)

// toldExpiry is when a placeholder that is a JSON Web Token says that it expires: 2100.
func toldExpiry() int64 { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix() }

// facts are what an agent has to know of its login and is no secret: never a name or an address of the person.
type facts struct{ account, plan string }

// factForm bounds facts: they go into files of the agent's, and are what some file on the host says.
var factForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// learn keeps the facts of a login, once.
func (o *OAuth) learn(d document) {
	o.first.Do(func() {
		f := facts{account: d.text(o.Login.Account), plan: d.text(o.Login.Plan)}
		if claims, ok := jwtClaims(d.text(o.Login.Access))[logins.Claims].(map[string]any); ok && f.plan == "" {
			f.plan, _ = claims["chatgpt_plan_type"].(string)
		}
		for _, s := range []*string{&f.account, &f.plan} {
			if !factForm.MatchString(*s) {
				*s = ""
			}
		}
		o.facts = f
	})
}

// told gives the facts. It reads the login if nobody has: the agent's files are written before its first request.
func (o *OAuth) told(ctx context.Context) facts {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d, err := o.peek(ctx); err == nil {
		o.learn(d)
	}
	return o.facts
}

func (o *OAuth) peek(ctx context.Context) (document, error) {
	if o.given != (digest{}) {
		return nil, nil // it was learned then
	}
	return o.load(ctx)
}

// standIn gives the placeholder of the access token.
func (o *OAuth) standIn() (string, error) {
	if o.Login.JWT {
		return newJWT(map[string]any{"exp": toldExpiry()})
	}
	return newPlaceholder(o.Login.AccessShape, "")
}

// refreshStandIn gives the placeholder of the refresh token.
func (o *OAuth) refreshStandIn() (string, error) {
	o.stand.Do(func() { o.refresh, o.standErr = newPlaceholder(o.Login.RefreshShape, "") })
	return o.refresh, o.standErr
}

// part gives what {placeholder.NAME.PART} stands for, or "".
func (o *OAuth) part(ctx context.Context, part string) string {
	var out string
	switch part {
	case "refresh":
		out, _ = o.refreshStandIn() // crypto/rand does not fail
	case "id":
		f := o.told(ctx)
		claims := map[string]any{"exp": toldExpiry(), logins.Claims: map[string]string{"chatgpt_account_id": f.account, "chatgpt_plan_type": f.plan}}
		out, _ = newJWT(claims) // nor does JSON of strings
	case "account":
		out = o.told(ctx).account
	case "plan":
		out = o.told(ctx).plan
	}
	return out
}

// partOf finds what a name of the form "NAME.PART" stands for.
func (b *Broker) partOf(name string) string {
	name, part, _ := strings.Cut(name, ".")
	if h := b.named(name); h != nil {
		if o, ok := h.Source.(*OAuth); ok {
			return o.part(b.ctx, part)
		}
	}
	return ""
}

// Answers reports whether requests for a path at host are answered here: those to the token endpoints of this run's
// logins, in whatever spelling.
func (b *Broker) Answers(host policy.Host, urlPath string) bool {
	return len(b.logins(host, urlPath)) > 0
}

func (b *Broker) logins(host policy.Host, urlPath string) (here []*held) {
	urlPath, _, _ = strings.Cut(urlPath, "?")
	for range 3 {
		urlPath = unescape(urlPath)
	}
	urlPath, _, _ = strings.Cut(strings.ToLower(urlPath), ";")
	for _, h := range b.held {
		if o, ok := h.Source.(*OAuth); ok && host.String() == o.Login.Host && path.Clean("/"+urlPath) == o.Login.Endpoint {
			here = append(here, h)
		}
	}
	return here
}

// Answer answers a request to a token endpoint in its place. The refresh is done on the host, and the agent gets the
// placeholders that it has: nothing that it sent goes anywhere. An error is *Refused or that of the request's context.
func (b *Broker) Answer(req *http.Request, host policy.Host, overTLS bool) (body []byte, credential string, err error) {
	here := b.logins(host, req.URL.Path)
	switch {
	case b.ctx.Err() != nil:
		return nil, "", ended("")
	case len(here) == 0:
		return nil, "", &Refused{Reason: "there is no login of this run at " + host.String()}
	case !overTLS:
		return nil, here[0].Name, &Refused{Credential: here[0].Name, Reason: "a login is refreshed over TLS only"}
	case req.Method != http.MethodPost:
		return nil, here[0].Name, &Refused{Credential: here[0].Name, Reason: "a login is refreshed with POST only"}
	}
	form, err := readForm(req)
	if err != nil {
		return nil, here[0].Name, &Refused{Credential: here[0].Name, Reason: "what was sent to refresh the login can't be read: " + err.Error()}
	}
	h, err := b.asks(here, form)
	if err != nil {
		return nil, here[0].Name, err
	}
	if err := b.freshen(req.Context(), h); err != nil {
		return nil, h.Name, err
	}
	body, err = b.tokens(h)
	return body, h.Name, err
}

// asks finds the login whose refresh a request asks for.
func (b *Broker) asks(here []*held, form map[string]string) (*held, error) {
	if form["grant_type"] != "refresh_token" {
		return nil, &Refused{Credential: here[0].Name, Reason: "the agent asked for something else than a refresh of its login",
			Tip: "logging in is done outside: " + here[0].Source.(*OAuth).Login.How}
	}
	token := form["refresh_token"]
	for _, h := range here {
		if own, err := h.Source.(*OAuth).refreshStandIn(); err == nil && token == own {
			return h, nil
		}
	}
	reason := "a refresh token of the agent's own was sent to " + here[0].Source.(*OAuth).Login.Host
	if b.scan.found(token) {
		reason = "a placeholder that is not of this run was sent as a refresh token"
	}
	return nil, &Refused{Credential: here[0].Name, Reason: reason}
}

// readForm reads the text members of a request, in either form in which OAuth clients send them.
func readForm(req *http.Request) (map[string]string, error) {
	text, err := io.ReadAll(io.LimitReader(req.Body, maxForm+1))
	if err != nil || len(text) > maxForm {
		return nil, fmt.Errorf("it is longer than %d KiB, or broke off", maxForm>>10)
	}
	form := map[string]string{}
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" {
		values, err := url.ParseQuery(string(text))
		for name := range values {
			form[name] = values.Get(name)
		}
		if err != nil {
			return nil, errNoForm
		}
		return form, nil
	}
	d, err := parseDocument(text)
	for name := range d {
		form[name] = d.text(logins.Path{name})
	}
	return form, err
}

var errNoForm = errors.New("it is not a form")

// freshen gets another access token, unless there was one just now, and waits for it.
func (b *Broker) freshen(ctx context.Context, h *held) error {
	if h.Source.(*OAuth).Doubt() {
		h.mu.Lock()
		if h.minted > 0 && h.err == nil {
			now := time.Now().Round(0)
			h.lease.Expires, h.renew = now, now
		}
		h.mu.Unlock()
	}
	_, err := b.read(ctx, h)
	return err
}

// tokens is the answer of a token endpoint, of placeholders.
func (b *Broker) tokens(h *held) ([]byte, error) {
	o := h.Source.(*OAuth)
	out := map[string]any{"token_type": "Bearer", "access_token": h.placeholder, "refresh_token": o.part(b.ctx, "refresh"), "expires_in": toldSeconds}
	if o.Login.Granted != "" {
		out["scope"] = o.Login.Granted
	}
	if len(o.Login.ID) > 0 {
		out["id_token"] = o.part(b.ctx, "id")
	}
	return json.Marshal(out)
}
