package secrets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"agentbox/internal/logins"
)

// OAuth is the access token of a subscription login that an agent keeps on this machine. It is refreshed here, outside of
// the boundary, and what comes of that is written back where the login is, so that the agent on the host stays logged in
// too. Make one for each credential, and do not copy it.
type OAuth struct {
	Login  logins.Login
	Store  LoginStore
	Client *http.Client // goes the person's way out; what it asks goes to the login's own host

	Now func() time.Time // nil: time.Now

	mu      sync.Mutex // one refresh at a time
	given   digest     // the access token that was given last
	refused digest     // one that is no good, whatever it says of itself
	dead    digest     // a refresh token that its issuer does not know any more
	renewed time.Time  // when it was last refreshed here
	pending document   // what could not be written back; nil: nothing

	first    sync.Once // for what the agent is told of the login
	facts    facts
	stand    sync.Once // the placeholders
	refresh  string
	standErr error
}

// Times of a login.
const (
	loginMargin = 5 * time.Minute // an access token that is good for no longer is refreshed
	loginPause  = time.Minute     // between two refreshes that an agent asks for
)

// digest knows a token again without holding it. The zero value is none.
type digest [sha256.Size]byte

func digestOf(token string) digest { return sha256.Sum256([]byte(token)) }

// LoginError is a login that gives no token.
type LoginError struct {
	Text    string
	Tip     string
	Passing bool // it may be over soon
	Err     error
}

func (e *LoginError) Error() string { return e.Text }

// Hint says what to do.
func (e *LoginError) Hint() string { return e.Tip }

// Temporary reports whether it may be over soon.
func (e *LoginError) Temporary() bool { return e.Passing }

func (e *LoginError) Unwrap() error { return e.Err }

// Tip says how to log in.
func (o *OAuth) Tip() string { return "log in once: " + o.Login.How }

func (o *OAuth) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Fetch gives the access token while it is good for long enough, and refreshes it else.
func (o *OAuth) Fetch(ctx context.Context) (Lease, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	d, err := o.load(ctx)
	if err != nil {
		return Lease{}, err
	}
	if lease := o.lease(d); o.good(d, lease) {
		return o.give(d, lease), nil
	}
	unlock, err := o.Store.Lock(ctx)
	if err != nil {
		return Lease{Also: o.tokens(d)}, o.explain(err)
	}
	defer unlock()
	if d, err = o.load(ctx); err != nil { // the agent on the host may have refreshed it meanwhile
		return Lease{}, err
	}
	if lease := o.lease(d); o.good(d, lease) {
		return o.give(d, lease), nil
	}
	return o.renew(ctx, d)
}

// load reads the login, or what of it could not be written back.
func (o *OAuth) load(ctx context.Context) (document, error) {
	if o.pending != nil {
		d := o.pending
		return d, o.writeBack(ctx)
	}
	text, err := o.Store.Load(ctx)
	defer clear(text)
	if err != nil {
		return nil, o.explain(err)
	}
	d, err := parseDocument(text)
	if err == nil && d.text(o.Login.Access) == "" && d.text(o.Login.Refresh) == "" {
		err = errors.New("it holds no subscription login")
	}
	if err != nil {
		return nil, &LoginError{Text: fmt.Sprintf("%s is no login of %s: %s", o.Store.Place(), o.Login.Name, err), Tip: o.Tip(), Passing: true}
	}
	return d, nil
}

// lease is the access token in d, with the time that it says it is good for.
func (o *OAuth) lease(d document) Lease {
	token := d.text(o.Login.Access)
	lease := Lease{Value: New(token), Also: o.tokens(d)}
	var milliseconds float64
	switch {
	case d.get(o.Login.Expires, &milliseconds):
		lease.Expires = time.UnixMilli(int64(milliseconds))
	default:
		lease.Expires = expiryOf(jwtClaims(token))
	}
	return lease
}

func expiryOf(claims map[string]any) time.Time {
	if exp, ok := claims["exp"].(float64); ok {
		return time.Unix(int64(exp), 0)
	}
	return time.Time{}
}

// tokens are what d holds beside the access token and must not leak.
func (o *OAuth) tokens(d document) (all []Secret) {
	for _, at := range []logins.Path{o.Login.Access, o.Login.Refresh, o.Login.ID} {
		if token := d.text(at); token != "" {
			all = append(all, New(token))
		}
	}
	return all
}

// good reports whether a lease can be used as it is. One that can't be refreshed is used to its end.
func (o *OAuth) good(d document, lease Lease) bool {
	token := lease.Value.Reveal()
	margin := loginMargin
	if d.text(o.Login.Refresh) == "" {
		margin = 0
	}
	return token != "" && digestOf(token) != o.refused && (lease.Expires.IsZero() || lease.Expires.Sub(o.now()) > margin)
}

func (o *OAuth) give(d document, lease Lease) Lease {
	o.given = digestOf(lease.Value.Reveal())
	o.learn(d)
	return lease
}

// Doubt says that somebody found the token no good that was given last. The next Fetch gets another, unless the last
// refresh was only just: an agent may say so as often as it likes.
func (o *OAuth) Doubt() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.given == (digest{}) || !o.renewed.IsZero() && o.now().Sub(o.renewed) < loginPause {
		return false
	}
	o.refused = o.given
	return true
}

// renew has the login refreshed. From the moment that its issuer was asked, the refresh token in the file may be worth
// nothing: so it is tried first whether the file can be written, and nothing calls off what comes after.
func (o *OAuth) renew(ctx context.Context, d document) (Lease, error) {
	failed := Lease{Also: o.tokens(d)}
	old := d.text(o.Login.Refresh)
	switch {
	case old == "":
		return failed, o.over("it has expired and holds no refresh token")
	case digestOf(old) == o.dead:
		return failed, o.over(o.Login.Host + " does not know it any more")
	}
	if err := ctx.Err(); err != nil {
		return failed, o.explain(err)
	}
	ctx = context.WithoutCancel(ctx)
	if err := o.save(ctx, d); err != nil {
		return failed, o.explain(err)
	}
	got, err := o.ask(ctx, d)
	if err != nil {
		return failed, err
	}
	lease, err := o.keep(d, got)
	if err != nil {
		return failed, err
	}
	lease.Also = append(failed.Also, o.tokens(d)...)
	o.pending, o.renewed = d, o.now()
	if err := o.writeBack(ctx); err != nil {
		return Lease{Also: lease.Also}, err
	}
	return o.give(d, lease), nil
}

// writeBack writes what is pending. Until that is done, nobody uses it.
func (o *OAuth) writeBack(ctx context.Context) error {
	if err := o.save(ctx, o.pending); err != nil {
		return &LoginError{Text: "the refreshed login can't be written to " + o.Store.Place() + ": " + err.Error(),
			Tip: "make room there while this run goes on, or log in again afterwards: " + o.Login.How, Passing: true, Err: err}
	}
	o.pending = nil
	return nil
}

func (o *OAuth) save(ctx context.Context, d document) error {
	text, err := d.bytes()
	if err != nil {
		return err
	}
	defer clear(text)
	return o.Store.Save(ctx, text)
}

// issued is what a token endpoint answers.
type issued struct {
	Access  string  `json:"access_token"`
	Refresh string  `json:"refresh_token"`
	ID      string  `json:"id_token"`
	Seconds float64 `json:"expires_in"`
}

// keep puts what was issued into d. Times are counted from now: the issuer's clock may be another.
func (o *OAuth) keep(d document, got issued) (Lease, error) {
	now := o.now()
	life := time.Duration(got.Seconds) * time.Second
	if claims := jwtClaims(got.Access); life <= 0 {
		if from, ok := claims["iat"].(float64); ok {
			life = expiryOf(claims).Sub(time.Unix(int64(from), 0))
		}
	}
	lease := Lease{Value: New(got.Access)}
	if life > 0 {
		lease.Expires = now.Add(life)
	} else {
		lease.Expires = expiryOf(jwtClaims(got.Access))
	}
	changes := []struct {
		at logins.Path
		to any
		do bool
	}{
		{o.Login.Access, got.Access, true},
		{o.Login.Refresh, got.Refresh, got.Refresh != ""},
		{o.Login.ID, got.ID, got.ID != ""},
		{o.Login.Expires, lease.Expires.UnixMilli(), !lease.Expires.IsZero()},
		{o.Login.Refreshed, now.UTC().Format(time.RFC3339Nano), true},
	}
	for _, c := range changes {
		if !c.do || len(c.at) == 0 {
			continue
		}
		if err := d.set(c.at, c.to); err != nil {
			return Lease{}, &LoginError{Text: "the login in " + o.Store.Place() + " can't be changed: " + err.Error(), Tip: o.Tip(), Passing: true}
		}
	}
	return lease, nil
}

// ask sends the refresh token to the login's own host, and to no other: no redirect is followed.
func (o *OAuth) ask(ctx context.Context, d document) (got issued, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	send := map[string]string{"grant_type": "refresh_token", "refresh_token": d.text(o.Login.Refresh), "client_id": o.Login.Client}
	if client := d.text(o.Login.ClientID); client != "" {
		send["client_id"] = client
	}
	var scopes []string
	if d.get(o.Login.Scopes, &scopes) && len(scopes) > 0 {
		send["scope"] = strings.Join(scopes, " ")
	}
	text, err := json.Marshal(send)
	if err != nil {
		return got, err
	}
	defer clear(text)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+o.Login.Host+o.Login.Endpoint, bytes.NewReader(text))
	if err != nil {
		return got, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "agentbox")
	resp, err := o.Client.Do(req)
	if err != nil {
		return got, o.unreached(bare(err), err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	defer clear(body)
	switch {
	case err != nil:
		return got, o.unreached("its answer broke off", err)
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusUnauthorized:
		o.dead = digestOf(d.text(o.Login.Refresh))
		return got, o.over(fmt.Sprintf("%s does not accept its refresh token (%s)", o.Login.Host, codeOf(body, resp.StatusCode)))
	case resp.StatusCode != http.StatusOK:
		return got, &LoginError{Text: fmt.Sprintf("%s refreshes no login now (%d)", o.Login.Host, resp.StatusCode), Tip: "try again later", Passing: true}
	case json.Unmarshal(body, &got) != nil || got.Access == "":
		return issued{}, &LoginError{Text: fmt.Sprintf("what %s answers holds no token", o.Login.Host),
			Tip: "see whether a proxy of the network answers in its place", Passing: true} // what the decoder says could repeat a token
	}
	return got, nil
}

// errorCode is what an answer's error may look like to be repeated: nothing that could be a token.
var errorCode = regexp.MustCompile(`^[a-z]+(_[a-z]+){0,5}$`)

// codeOf is the error that an answer names, in either of the usual forms, or its status.
func codeOf(body []byte, status int) string {
	var said struct{ Error json.RawMessage }
	var inner struct{ Code, Type string }
	var code string
	_ = json.Unmarshal(body, &said) // an answer of another form has no code
	if json.Unmarshal(said.Error, &code) != nil && json.Unmarshal(said.Error, &inner) == nil {
		if code = inner.Code; code == "" {
			code = inner.Type
		}
	}
	if len(code) > 40 || !errorCode.MatchString(code) {
		return fmt.Sprint(status)
	}
	return code
}

func (o *OAuth) over(why string) error {
	return &LoginError{Text: fmt.Sprintf("the login in %s is over: %s", o.Store.Place(), why), Tip: "log in again: " + o.Login.How, Passing: true}
}

func (o *OAuth) unreached(what string, err error) error {
	return &LoginError{Text: fmt.Sprintf("%s can't be reached to refresh the login: %s", o.Login.Host, what),
		Tip: "see whether https://" + o.Login.Host + " answers from this machine", Passing: true, Err: err}
}

// explain makes a store's error one of the login's.
func (o *OAuth) explain(err error) error {
	var ours *LoginError
	if errors.As(err, &ours) {
		return err
	}
	e := &LoginError{Text: err.Error(), Tip: o.Tip(), Err: err}
	if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) && !errors.Is(err, ErrNotFound) {
		e.Tip = hinted.Hint()
	}
	return e
}
