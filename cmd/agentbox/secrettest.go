package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/plan"
	"agentbox/internal/secrets"
	"agentbox/internal/session"
)

func newSecretTest(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test NAME", Short: "Say whether a credential can be had, and what it may do",
		Long: `Fetches the value of a credential as a run would, and says whether its source answers and how long that took. Where the
service can be asked (GitHub, Anthropic, OpenAI, Gemini), it is shown the value, over verified TLS and by your own routing,
and what it says of it is told. The value itself is not. What was minted for the test is revoked.

NAME is a credential of your own or a built-in profile, or a name that you gave to agentbox secret set. A repository's own
profiles are not looked at: to test one would run what it names.

Exit codes: 0 it can be had, 1 it can't, or the service does not take it, 2 usage.`,
		Example: "  agentbox secret test anthropic\n  agentbox secret test github --json",
		Args:    exactly(1, "one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkName(cmd, args[0]); err != nil {
				return err
			}
			return a.testSecret(cmd.Context(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// secretTest is how the test of one source went.
type secretTest struct {
	From     string         `json:"from"`
	Profiles []string       `json:"profiles,omitempty"`
	OK       bool           `json:"ok"`
	Millis   int64          `json:"ms"`
	Problem  string         `json:"problem,omitempty"`
	Said     string         `json:"said,omitempty"` // by a command, on standard error
	Hint     string         `json:"hint,omitempty"`
	Expires  *time.Time     `json:"expires,omitempty"`
	Services []serviceReply `json:"services,omitempty"`

	credential plan.Credential
}

// serviceReply is what a service said of a value.
type serviceReply struct {
	Host  string `json:"host"`
	Takes *bool  `json:"takes,omitempty"` // nil: it can't be asked, or did not answer
	Text  string `json:"text"`
}

func (a *app) testSecret(ctx context.Context, name string, asJSON bool) error {
	ctx, end := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT) // what was begun is put in order
	defer end()
	tests, err := a.secretTests(name)
	if err != nil {
		return err
	}
	client, err := a.ownClient(ctx)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	p, err := a.person()
	if err != nil {
		return err
	}
	root, err := here()
	if err != nil {
		return err
	}
	paths, err := a.paths()
	if err != nil {
		return err
	}
	fine := true
	for i := range tests {
		a.tryOut(ctx, &tests[i], surroundings{repo: root, home: p.Home, state: paths.State, client: client,
			lookup: a.variable, keyring: secrets.Keyring{}})
		fine = fine && tests[i].fine()
	}
	if asJSON {
		err = encodeJSON(a.out, tests)
	} else {
		err = a.printTests(name, tests)
	}
	if err == nil && !fine {
		err = exitCode(exitFinding)
	}
	return err
}

// secretTests lists the sources that a name stands for, each once with all that it is used for.
func (a *app) secretTests(name string) ([]secretTest, error) {
	all, err := a.ownGrants()
	if err != nil {
		return nil, err
	}
	var tests []secretTest
	for profile, g := range all {
		for _, c := range g.Credentials {
			if c.Name != name && !slices.Contains(origins(c.Source), "keyring "+name) {
				continue
			}
			i := slices.IndexFunc(tests, func(t secretTest) bool {
				return reflect.DeepEqual(t.credential.Source, c.Source) && slices.Equal(t.credential.Hosts, c.Hosts)
			})
			if i < 0 {
				tests = append(tests, secretTest{From: kindOf(c.Source), credential: c})
				i = len(tests) - 1
			}
			tests[i].Profiles = append(tests[i].Profiles, profile)
			slices.Sort(tests[i].Profiles)
		}
	}
	if len(tests) == 0 { // nobody uses it, and it may be there all the same
		s := plan.Source{Keyring: name}
		tests = append(tests, secretTest{From: kindOf(s), credential: plan.Credential{Name: name, Source: s}})
	}
	slices.SortFunc(tests, func(x, y secretTest) int { return strings.Compare(x.From, y.From) })
	return tests, nil
}

// tryOut fetches a value and shows it to the services that it is for.
func (a *app) tryOut(ctx context.Context, t *secretTest, in surroundings) {
	began := time.Now()
	source, err := source(t.credential.Source, in)
	if err != nil {
		t.Problem = err.Error()
		return
	}
	lease, err := source.Fetch(ctx)
	t.Millis = time.Since(began).Milliseconds()
	defer lease.Value.Destroy()
	if err == nil && lease.Revoke != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutTime) // also of who does not wait for the end
			defer cancel()
			if err := lease.Revoke(ctx); err != nil {
				t.Problem, t.Hint = "what was minted for the test is NOT revoked: "+err.Error(), "it is good for an hour at most; revoke it where it was issued"
			}
		}()
	}
	if err == nil && lease.Value.IsZero() {
		err = errors.New("it is empty where it comes from")
	}
	if err == nil && len(hostNamesOf(t.credential)) > 0 {
		err = secrets.Carries(secrets.New(strings.TrimSpace(lease.Value.Reveal())))
	}
	if err != nil {
		t.Problem, t.Hint = err.Error(), hintOf(err)
		if said := (interface{ Said() string })(nil); errors.As(err, &said) {
			t.Said = said.Said()
		}
		return
	}
	t.OK = true
	if !lease.Expires.IsZero() {
		expires := lease.Expires.UTC()
		t.Expires = &expires
	}
	for _, host := range hostNamesOf(t.credential) {
		t.Services = append(t.Services, askService(ctx, in.client, host, t.credential.Header, lease.Value))
	}
}

func (t secretTest) fine() bool {
	return t.OK && t.Problem == "" && !slices.ContainsFunc(t.Services, func(r serviceReply) bool { return r.Takes != nil && !*r.Takes })
}

// inquiry is what a service can be asked that costs nothing and changes nothing.
type inquiry struct {
	path   string
	extra  [2]string                                 // a header that it wants besides
	answer func(header http.Header, body any) string // what its answer says of the value
}

func inquiryFor(host string, value secrets.Secret) (inquiry, bool) {
	models := func(http.Header, any) string { return "" }
	switch host {
	case "api.github.com":
		if strings.HasPrefix(value.Reveal(), "ghs_") {
			return inquiry{path: "/installation/repositories", answer: repositories}, true
		}
		return inquiry{path: "/user", answer: scopes}, true
	case "api.anthropic.com":
		return inquiry{path: "/v1/models", extra: [2]string{"Anthropic-Version", "2023-06-01"}, answer: models}, true
	case "api.openai.com":
		return inquiry{path: "/v1/models", answer: models}, true
	case "generativelanguage.googleapis.com":
		return inquiry{path: "/v1beta/models", answer: models}, true
	}
	return inquiry{}, false
}

// scopes says whose token it is and what it may do. Fine-grained tokens do not say.
func scopes(header http.Header, body any) string {
	who := ""
	if m, ok := body.(map[string]any); ok {
		who, _ = m["login"].(string)
	}
	text := "it is " + printable(who) + "'s"
	if values, ok := header["X-Oauth-Scopes"]; ok {
		text += ", with scopes: " + printable(strings.Join(values, ", "))
	}
	if until := header.Get("Github-Authentication-Token-Expiration"); until != "" {
		text += ", until " + printable(until)
	}
	return text
}

// repositories says which an app's token is for.
func repositories(_ http.Header, body any) string {
	var names []string
	if m, ok := body.(map[string]any); ok {
		list, _ := m["repositories"].([]any)
		for _, r := range list {
			if one, ok := r.(map[string]any); ok {
				name, _ := one["full_name"].(string)
				names = append(names, printable(name))
			}
		}
	}
	return "it is for " + strings.Join(names, ", ")
}

// askTime bounds what one service takes.
const askTime = 20 * time.Second

func askService(ctx context.Context, client *http.Client, host, header string, value secrets.Secret) serviceReply {
	reply := serviceReply{Host: host}
	q, ok := inquiryFor(host, value)
	slot, form, whole := strings.Cut(header, ":")
	if !ok || !whole {
		reply.Text = "can't be asked"
		return reply
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+q.path, nil)
	if err != nil {
		reply.Text = "can't be asked"
		return reply
	}
	req.Header.Set("User-Agent", "agentbox")
	if q.extra[0] != "" {
		req.Header.Set(q.extra[0], q.extra[1])
	}
	req.Header.Set(slot, strings.ReplaceAll(strings.TrimSpace(form), "{token}", value.Reveal()))
	resp, err := client.Do(req)
	if err != nil {
		reply.Text = "did not answer: " + strings.ReplaceAll(err.Error(), value.Reveal(), "[secret]")
		return reply
	}
	defer func() { _ = resp.Body.Close() }()
	takes := resp.StatusCode/100 == 2
	switch code := resp.StatusCode; {
	case takes:
		var body any
		_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body) // what can't be read says nothing
		reply.Text = strings.ReplaceAll(q.answer(resp.Header, body), value.Reveal(), "[secret]")
		reply.Takes = &takes
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusBadRequest:
		reply.Text = fmt.Sprintf("GET %s was answered with %d", q.path, code)
		reply.Takes = &takes
	default:
		reply.Text = fmt.Sprintf("did not say: GET %s was answered with %d", q.path, code)
	}
	return reply
}

func (a *app) printTests(name string, tests []secretTest) error {
	var problems []error
	for _, t := range tests {
		if t.Problem != "" {
			problems = append(problems, &session.Problem{Err: fmt.Errorf("credential %q from %s: %s", name, t.From, t.Problem), Hint: t.Hint})
		}
		if !t.OK {
			if t.Said != "" {
				a.say("%s said: %s", t.From, t.Said)
			}
			continue
		}
		line := fmt.Sprintf("%s: %s answered in %d ms", name, t.From, t.Millis)
		if t.Expires != nil {
			line += ", good until " + t.Expires.Local().Format(time.DateTime)
		}
		if len(t.Profiles) > 0 {
			line += " (" + strings.Join(t.Profiles, ", ") + ")"
		}
		fmt.Fprintln(a.out, escaped(line))
		for _, r := range t.Services {
			word := r.Host + " " + r.Text
			switch {
			case r.Takes != nil && *r.Takes:
				word = strings.TrimSuffix(r.Host+" takes it: "+r.Text, ": ")
			case r.Takes != nil:
				word = r.Host + " does NOT take it: " + r.Text
			}
			fmt.Fprintln(a.out, "  "+escaped(word))
		}
	}
	return errors.Join(problems...)
}
