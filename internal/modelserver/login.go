package modelserver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Login is a person's subscription login at the model server: one access token is good at a time, and one refresh token,
// which is good once. Make one with NewLogin.
type Login struct {
	JWT bool // access tokens are JSON Web Tokens, as OpenAI's

	mu              sync.Mutex
	access, refresh string
	n               int
	refused         int      // refreshes with a token that was not good
	all             []string // all tokens that there were
}

// NewLogin makes a login and its first tokens.
func NewLogin(jwt bool) *Login {
	l := &Login{JWT: jwt}
	l.next()
	return l
}

// Tokens are the ones that are good now.
func (l *Login) Tokens() (access, refresh string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.access, l.refresh
}

// All lists every token that there was.
func (l *Login) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.all...)
}

// Refused counts the refreshes that were asked for with a token that is not good, or not any more.
func (l *Login) Refused() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// Expire ends the access token before its time.
func (l *Login) Expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.access = ""
}

// next makes new tokens, in the forms of the real ones. l.mu is held, or nobody else has l.
func (l *Login) next() {
	l.n++
	tail := fmt.Sprintf("%02dreal", l.n) + strings.Repeat("t0k3n", 12)
	l.access, l.refresh = "sk-ant-oat01-"+tail, "sk-ant-ort01-"+tail
	if l.JWT {
		l.access, l.refresh = l.token(tail), "rt_"+tail
	}
	l.all = append(l.all, l.access, l.refresh)
}

// token is a JSON Web Token with what Codex reads in one.
func (l *Login) token(signature string) string {
	claims, _ := json.Marshal(obj{ // of strings and numbers: cannot fail
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"https://api.openai.com/auth": obj{"chatgpt_account_id": "account-1", "chatgpt_plan_type": "pro"},
	})
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc(claims) + "." + signature
}

// holds reports whether a request carries the access token.
func (l *Login) holds(r Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.access != "" && r.Header.Get("Authorization") == "Bearer "+l.access
}

// accounts tells where an account's models are, which Codex asks before anything else.
func accounts() obj {
	return obj{
		"accounts": []obj{{
			"id": "account-1", "plan_type": "pro", "structure": "personal",
			"workspace_backend_origin": "https://chatgpt.com", "account_routing_override": "NO_CONSTRAINT",
		}},
		"account_ordering": []string{"account-1"}, "default_account_id": "account-1",
	}
}

// refresh answers a token endpoint: new tokens for the refresh token, which is not good any more from then on.
func (x *exchange) refresh() {
	l := x.server.cfg.Login
	var asked struct {
		Grant   string `json:"grant_type"`
		Refresh string `json:"refresh_token"`
		Client  string `json:"client_id"`
	}
	l.mu.Lock()
	if json.Unmarshal(x.req.Body, &asked) != nil || asked.Grant != "refresh_token" || asked.Client == "" || asked.Refresh != l.refresh {
		l.refused++
		l.mu.Unlock()
		x.req.Status = http.StatusBadRequest
		x.json(obj{"error": "invalid_grant", "error_description": "Refresh token not found or invalid"})
		return
	}
	l.next()
	answer := obj{"token_type": "Bearer", "access_token": l.access, "refresh_token": l.refresh, "expires_in": 3600, "scope": "user:inference user:profile"}
	if l.JWT {
		answer["id_token"] = l.token("id")
	}
	l.mu.Unlock()
	x.json(answer)
}

// Outdated is an access token whose own text says that it has expired; others than JSON Web Tokens say nothing.
func Outdated(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return token
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"iat":1700000000,"exp":1700003600}`))
	return strings.Join(parts, ".")
}
