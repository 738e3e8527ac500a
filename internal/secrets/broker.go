package secrets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"agentbox/internal/policy"
)

// Credential is who may use which secret, where and how.
type Credential struct {
	Name   string
	Source Source
	Hosts  []policy.Host
	Header string // "Authorization: Bearer {token}"
	Shape  string // what the placeholder begins with
}

// Source is where a value is: the variable Env if it is set, then Keyring. Either may be "".
type Source struct{ Keyring, Env string }

// Getter reads a secret from a keyring. Keyring is one.
type Getter interface {
	Get(ctx context.Context, name string) (Secret, error)
}

// Refused says why a request may not go on. It never holds a value.
type Refused struct {
	Credential string // whose placeholder it was, or "" when that is not known
	Reason     string // one plain sentence
	Tip        string // what the person can do, or ""
	Err        error  // of the source, or nil
}

func (e *Refused) Error() string { return e.Reason }

// Hint says what the person can do, or "".
func (e *Refused) Hint() string { return e.Tip }

func (e *Refused) Unwrap() error { return e.Err }

// Broker owns one run's placeholders. Use it concurrently; Close it when the run ends.
type Broker struct {
	held    []*held
	values  []*held // that have no placeholder
	scan    scanner
	env     func(string) (string, bool)
	keyring Getter
	ctx     context.Context // ends with Close: readings outlast the request that began them
	stop    context.CancelFunc

	mu      sync.Mutex // orders the start of a reading and Close
	closed  bool
	reading sync.WaitGroup
}

// held is a credential with its placeholder and, once it has been read, its value.
type held struct {
	Credential
	header, before, after string // the header's name, and what stands around {token}
	placeholder           string

	once  sync.Once
	done  chan struct{} // closed when value and err are set
	value Secret
	err   error
}

// NewBroker makes the placeholders. Env looks a variable of the host up. It reads nothing yet. The context ends all
// readings, as Close does.
func NewBroker(ctx context.Context, creds []Credential, env func(string) (string, bool), keyring Getter) (*Broker, error) {
	b := &Broker{scan: newScanner(), env: env, keyring: keyring}
	for _, c := range creds {
		h, err := hold(c)
		if err != nil {
			return nil, fmt.Errorf("making the placeholder of credential %q: %w", c.Name, err)
		}
		b.held = append(b.held, h)
	}
	b.ctx, b.stop = context.WithCancel(ctx)
	return b, nil
}

func hold(c Credential) (*held, error) {
	name, value, _ := strings.Cut(c.Header, ":")
	before, after, ok := strings.Cut(strings.TrimSpace(value), "{token}")
	if !ok || !httpguts.ValidHeaderFieldName(name) {
		return nil, fmt.Errorf("header %q is not of the form \"Name: {token}\"", c.Header)
	}
	placeholder, err := newPlaceholder(c.Shape)
	h := &held{Credential: c, header: http.CanonicalHeaderKey(name), before: before, after: after, placeholder: placeholder}
	h.done = make(chan struct{})
	return h, err
}

// Placeholder is what the agent holds in place of the value, or "" for a name that is not a credential of this run.
func (b *Broker) Placeholder(name string) string {
	for _, h := range b.held {
		if h.Name == name {
			return h.placeholder
		}
	}
	return ""
}

// Value is a secret of the person's own that no agent knows of: it has no placeholder, and no request gets it. It is read
// as credentials are, once and when it is first wanted. Ask for it before Preload. Name is what messages call it.
func (b *Broker) Value(name string, source Source) func(context.Context) (Secret, error) {
	h := &held{Credential: Credential{Name: name, Source: source}, done: make(chan struct{})}
	b.values = append(b.values, h)
	return func(ctx context.Context) (Secret, error) { return b.read(ctx, h) }
}

// Close calls off all readings and waits for them; the broker refuses from then on.
func (b *Broker) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.reading.Wait()
}

// Preload begins to read every value, so that the first request need not wait.
func (b *Broker) Preload() {
	for _, h := range slices.Concat(b.held, b.values) {
		b.begin(h)
	}
}

// Problems waits for all values and returns an error, *Refused, for each that could not be read.
func (b *Broker) Problems(ctx context.Context) (problems []error) {
	for _, h := range slices.Concat(b.held, b.values) {
		if _, err := b.read(ctx, h); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

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

// begin starts the one reading of a value.
func (b *Broker) begin(h *held) {
	h.once.Do(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.closed {
			h.err = ended(h.Name)
			close(h.done)
			return
		}
		b.reading.Go(func() {
			defer close(h.done)
			h.value, h.err = b.source(h.Credential)
		})
	})
}

func ended(credential string) *Refused {
	return &Refused{Credential: credential, Reason: "the run has ended and its placeholders with it"}
}

// read waits for the value. It is read once in a run, also when that fails: a person is not asked again and again.
func (b *Broker) read(ctx context.Context, h *held) (Secret, error) {
	b.begin(h)
	select {
	case <-h.done:
		return h.value, h.err
	case <-ctx.Done():
		return Secret{}, ctx.Err()
	}
}

// source looks where the value is, and checks that it can stand in a header.
func (b *Broker) source(c Credential) (Secret, error) {
	value, err := b.look(c)
	if err != nil {
		return Secret{}, err
	}
	value = New(strings.TrimSpace(value.Reveal())) // a pasted newline is not part of a token
	switch {
	case value.IsZero():
		return Secret{}, &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q is empty where it comes from", c.Name), Tip: tip(c)}
	case !httpguts.ValidHeaderFieldValue(value.Reveal()):
		return Secret{}, &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q holds characters that no header can", c.Name), Tip: tip(c)}
	}
	return value, nil
}

func (b *Broker) look(c Credential) (Secret, error) {
	missing := ""
	if c.Source.Env != "" {
		if v, ok := b.env(c.Source.Env); ok && v != "" {
			return New(v), nil
		}
		missing = "$" + c.Source.Env + " is not set"
	}
	if c.Source.Keyring == "" {
		return Secret{}, &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q has no value: %s", c.Name, missing), Tip: tip(c)}
	}
	value, err := b.keyring.Get(b.ctx, c.Source.Keyring)
	if err == nil {
		return value, nil
	}
	if missing != "" {
		missing += " and "
	}
	e := &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q has no value: %s%s", c.Name, missing, err), Tip: tip(c), Err: err}
	if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) && !errors.Is(err, ErrNotFound) {
		e.Tip = either(c.Source.Env, hinted.Hint())
	}
	return Secret{}, e
}

// tip says how to give the credential a value.
func tip(c Credential) string {
	if c.Source.Keyring == "" {
		return "set " + c.Source.Env + " before you start agentbox"
	}
	return either(c.Source.Env, "store it: agentbox secret set "+c.Source.Keyring)
}

// either puts the quick way before the other one.
func either(variable, other string) string {
	if variable == "" {
		return other
	}
	return "export " + variable + "=… before you start agentbox; or " + other
}
