package approval

import (
	"strings"
	"testing"
)

func TestWhat(t *testing.T) {
	for want, q := range map[string]Question{
		"POST api.test/v1/x":                            {Host: "api.test", Port: 443, Scheme: "https", Method: "POST", Path: "/v1/x"},
		"GET api.test:8443/":                            {Host: "api.test", Port: 8443, Scheme: "https", Method: "GET", Path: "/"},
		"GET http://api.test/x":                         {Host: "api.test", Port: 80, Scheme: "http", Method: "GET", Path: "/x"},
		"GET http://api.test:443/x":                     {Host: "api.test", Port: 443, Scheme: "http", Method: "GET", Path: "/x"},
		"a raw connection to db.test:5432":              {Host: "db.test", Port: 5432, Scheme: "tcp"},
		"a connection to api.test":                      {Host: "api.test", Port: 443, Scheme: "https"},
		"a WebSocket by GET api.test/ws":                {Host: "api.test", Port: 443, Scheme: "https", Method: "GET", Path: "/ws", WebSocket: true},
		"git push to a/b: update refs/x at github.test": {Host: "github.test", Port: 443, Scheme: "https", Method: "POST", Path: "/a/b", Git: "push to a/b: update refs/x"},
	} {
		if got := q.What(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAnswersAreChecked(t *testing.T) {
	for _, a := range []Answer{{Scope: Once}, {Scope: Run}, {Scope: Always}, {Scope: Deny, Reason: strings.Repeat("x", MaxReason)}} {
		if err := a.Check(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for _, a := range []Answer{{}, {Scope: "forever"}, {Scope: Deny, Reason: strings.Repeat("x", MaxReason+1)}} {
		if a.Check() == nil {
			t.Errorf("%+v is taken for an answer", a)
		}
	}
}

func TestOutcomesSayHowTheyCame(t *testing.T) {
	for want, o := range map[string]Outcome{
		"allowed once at the run's terminal":                {Answer: Answer{Scope: Once, By: ByTerminal}},
		"denied from another terminal: use the mirror":      {Answer: Answer{Scope: Deny, By: BySocket, Reason: "use the mirror"}},
		"denied, because nobody answered in time":           {Answer: Answer{Scope: Deny, By: ByTimeout}},
		"withdrawn, because nothing waited for it any more": {Answer: Answer{Scope: Deny, By: ByWithdrawn}},
		"denied, because the run ended":                     {Answer: Answer{Scope: Deny, By: ByEnd}},
	} {
		if got := o.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
