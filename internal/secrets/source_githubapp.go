package secrets

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// GitHubAPI is where GitHub answers.
const GitHubAPI = "https://api.github.com"

const claimGitHub = "github_app"

// GitHubApp mints tokens of one hour as an app of GitHub, for the repositories and permissions named and no more. The
// app's private key stays here.
type GitHubApp struct {
	ID          int64
	Account     string   // of the private key, PEM, in the keyring
	Repos       []string // "owner/name", all of one owner: a token is of one installation
	Permissions map[string]string
	Keyring     Getter
	Client      *http.Client // must follow no redirects
	API         string       // "": GitHubAPI

	once func() (Secret, error) // reads the key, once in a run
	skew time.Duration          // that GitHub's clock is ahead of this one, as far as is known
}

// NewGitHubApp gives a source that reads the key of app at the first Fetch.
func NewGitHubApp(app GitHubApp) *GitHubApp {
	app.API = cmp.Or(app.API, GitHubAPI)
	app.once = sync.OnceValues(func() (Secret, error) {
		//nolint:forbidigo // another Fetch must not find that the first was called off; Get has its own time limit
		return app.Keyring.Get(context.Background(), app.Account)
	})
	return &app
}

// GitHubError is GitHub, or the way to it, that did not do what was asked.
type GitHubError struct {
	Text, Tip string
	Passing   bool
	Err       error
}

func (e *GitHubError) Error() string { return e.Text }

// Hint says what to do.
func (e *GitHubError) Hint() string { return e.Tip }

// Temporary reports whether it may be over soon.
func (e *GitHubError) Temporary() bool { return e.Passing }

func (e *GitHubError) Unwrap() error { return e.Err }

// Fetch mints a token.
func (g *GitHubApp) Fetch(ctx context.Context) (Lease, error) {
	kept, err := g.once()
	if err != nil {
		return Lease{}, err
	}
	lease := Lease{Also: []Secret{kept}}
	key, err := rsaKey(kept)
	if err != nil {
		return lease, &missingError{fmt.Sprintf("%q in the keyring is not the private key of a GitHub App: %s", g.Account, err), g.Tip(), nil}
	}
	if err := g.oneOwner(); err != nil {
		return lease, err
	}
	var installed struct{ ID int64 }
	if _, err := g.asApp(ctx, key, http.MethodGet, "/repos/"+g.Repos[0]+"/installation", nil, &installed); err != nil {
		return lease, g.explain(err)
	}
	minted, err := g.mint(ctx, key, installed.ID)
	if err != nil {
		return lease, g.explain(err)
	}
	minted.Also = lease.Also
	return minted, nil
}

// Tip says how to give it a key.
func (g *GitHubApp) Tip() string {
	return "download a private key on the app's page, then: agentbox secret set " + g.Account + " --file KEY.pem"
}

func (g *GitHubApp) oneOwner() error {
	owner, _, _ := strings.Cut(g.Repos[0], "/")
	for _, repo := range g.Repos {
		if o, _, _ := strings.Cut(repo, "/"); !strings.EqualFold(o, owner) {
			return &missingError{fmt.Sprintf("github_app names repositories of both %s and %s, and a token is of one owner", owner, o), "write a [[credential]] for each owner", nil}
		}
	}
	return nil
}

func (g *GitHubApp) mint(ctx context.Context, key *rsa.PrivateKey, installation int64) (Lease, error) {
	names := make([]string, len(g.Repos))
	for i, repo := range g.Repos {
		_, names[i], _ = strings.Cut(repo, "/")
	}
	var got struct {
		Token   string
		Expires time.Time `json:"expires_at"`
	}
	asked := map[string]any{"repositories": names, "permissions": g.Permissions}
	date, err := g.asApp(ctx, key, http.MethodPost, "/app/installations/"+strconv.FormatInt(installation, 10)+"/access_tokens", asked, &got)
	if err != nil {
		return Lease{}, err
	}
	if got.Token == "" || got.Expires.IsZero() {
		return Lease{}, &GitHubError{Text: "GitHub answered without a token", Tip: "look at https://www.githubstatus.com", Passing: true}
	}
	token := New(strings.TrimSpace(got.Token))
	claim := Claim{Kind: claimGitHub, URL: g.API}
	// How long it lasts is the same by any clock; when it ends is not.
	return Lease{Value: token, Expires: time.Now().Add(got.Expires.Sub(date)), Claim: claim,
		Revoke: func(ctx context.Context) error { return RevokeClaim(ctx, g.Client, claim, token) }}, nil
}

// statusError is an answer that is no success.
type statusError struct {
	code    int
	message string
	date    time.Time
}

func (e *statusError) Error() string { return fmt.Sprintf("%d %s", e.code, e.message) }

// asApp asks as the app. Where GitHub's clock differs so much that it does not take the app's word, it is asked once
// more by its own clock.
func (g *GitHubApp) asApp(ctx context.Context, key *rsa.PrivateKey, method, path string, send, into any) (date time.Time, err error) {
	for again := false; ; again = true {
		var jwt string
		if jwt, err = signed(key, g.ID, time.Now().Add(g.skew)); err != nil {
			return date, err
		}
		date, err = call(ctx, g.Client, method, g.API+path, jwt, send, into)
		var status *statusError
		if again || !errors.As(err, &status) || status.code != http.StatusUnauthorized {
			return date, err
		}
		skew := time.Until(status.date)
		if (skew - g.skew).Abs() < time.Second*30 {
			return date, err
		}
		g.skew = skew
	}
}

// signed is a token of the app itself for a few minutes. Its beginning lies back a minute, as GitHub advises.
func signed(key *rsa.PrivateKey, app int64, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix(), "iss": strconv.FormatInt(app, 10)})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	return text + "." + enc.EncodeToString(signature), err
}

func rsaKey(s Secret) (key *rsa.PrivateKey, err error) {
	s.read(func(text []byte) {
		block, _ := pem.Decode(text)
		if block == nil {
			err = errors.New("it is not PEM")
			return
		}
		defer clear(block.Bytes)
		if block.Type == "RSA PRIVATE KEY" {
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		} else {
			var any any
			any, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			key, _ = any.(*rsa.PrivateKey)
		}
		if err != nil || key == nil {
			key, err = nil, errors.New("it holds no RSA private key") // what the parser says could repeat the key
		}
	})
	return key, err
}

const (
	callTime  = 20 * time.Second
	maxAnswer = 1 << 20
)

// call asks GitHub and gives the time that it says it is.
func call(ctx context.Context, client *http.Client, method, address, bearer string, send, into any) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var body io.Reader = http.NoBody
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return time.Time{}, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return time.Time{}, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	req.Header.Set("User-Agent", "agentbox")
	resp, err := client.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		date = time.Now()
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	defer clear(text)
	if err != nil {
		return date, err
	}
	if resp.StatusCode/100 != 2 {
		var said struct{ Message string }
		_ = json.Unmarshal(text, &said) // what has no message is told by its number
		return date, &statusError{resp.StatusCode, said.Message, date}
	}
	if into == nil {
		return date, nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return date, &GitHubError{Text: "GitHub's answer is not JSON", Tip: "see whether a proxy of the network answers in its place", Passing: true} // what the decoder says could repeat the token
	}
	return date, nil
}

// explain says what a person can do.
func (g *GitHubApp) explain(err error) error {
	var status *statusError
	var ours *GitHubError
	switch {
	case errors.As(err, &ours):
		return err
	case !errors.As(err, &status):
		return &GitHubError{Text: "GitHub can't be reached: " + bare(err), Tip: "see whether " + g.API + " answers from this machine", Passing: true, Err: err}
	}
	e := &GitHubError{Err: err}
	repos := strings.Join(g.Repos, ", ")
	switch code := status.code; {
	case code == http.StatusUnauthorized:
		e.Text = fmt.Sprintf("GitHub does not accept the key %q as that of app %d", g.Account, g.ID)
		e.Tip = "see that id and key belong together; " + g.Tip()
		if skew := time.Until(status.date); skew.Abs() > time.Minute {
			e.Tip = fmt.Sprintf("this machine's clock is off by %s: correct it (timedatectl); or ", skew.Abs().Round(time.Second)) + e.Tip
		}
	case code == http.StatusNotFound:
		e.Text = fmt.Sprintf("app %d is not installed for %s", g.ID, repos)
		e.Tip = "install it there: on the app's page, Install App"
	case code == http.StatusUnprocessableEntity:
		e.Text = fmt.Sprintf("app %d may not give a token for %s with these permissions", g.ID, repos)
		e.Tip = "give the app the permissions and repositories on its page, and accept that in the installation; or ask for less in the profile"
	case code == http.StatusForbidden, code == http.StatusTooManyRequests, code >= 500:
		e.Text, e.Passing = fmt.Sprintf("GitHub gives no token now (%d)", code), true
		e.Tip = "try again later; https://www.githubstatus.com says how GitHub is"
	default:
		e.Text = fmt.Sprintf("GitHub gave no token (%d)", code)
		e.Tip = g.Tip()
	}
	return e
}

// bare is what is the matter with a connection, without the URL.
func bare(err error) string {
	var with *url.Error
	if errors.As(err, &with) {
		return with.Err.Error()
	}
	return err.Error()
}

// RevokeClaim takes a value back as claim says. A value that is not good any more is taken back already.
func RevokeClaim(ctx context.Context, client *http.Client, claim Claim, value Secret) error {
	if claim.Kind != claimGitHub || !strings.HasPrefix(claim.URL, "https://") {
		return fmt.Errorf("this version of agentbox does not know how to revoke %q", claim.Kind)
	}
	if value.IsZero() { // GitHub would not know it, which looks like a token that is revoked
		return errors.New("its value is lost")
	}
	_, err := call(ctx, client, http.MethodDelete, claim.URL+"/installation/token", value.Reveal(), nil, nil)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusUnauthorized:
		return nil
	case errors.As(err, &status):
		return fmt.Errorf("GitHub answered %d", status.code)
	case err != nil:
		return errors.New("GitHub can't be reached: " + bare(err))
	}
	return nil
}
