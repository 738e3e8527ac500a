package starter

import (
	"strings"
	"testing"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// What is offered for logging in to where the repository is hosted is a profile once its # are taken away.
func TestTheOfferedCredentialIsOne(t *testing.T) {
	for host, basic := range map[string]profiles.BasicLogin{"github.com": "x-access-token:{token}", "gitlab.com": "oauth2:{token}"} {
		h, err := policy.ParseHost(host)
		if err != nil {
			t.Fatal(err)
		}
		text := string(Profile(Facts{Origin: Remote{Host: host, Repo: host + "/acme/billing"}}, Options{Name: "billing", Base: "shell"}))
		_, offered, _ := strings.Cut(text, "# [[git]]")
		kept := "version = 1\nagent.command = [\"x\"]\n[[git]]\n"
		for line := range strings.Lines(offered) {
			line = strings.TrimPrefix(line, "# ")
			if strings.HasPrefix(line, "[budget]") {
				break
			}
			if strings.HasPrefix(line, "[[") || strings.Contains(line, " = ") {
				kept += line
			}
		}
		l, err := profiles.Parse("billing", []byte(kept), "billing.toml")
		if err != nil {
			t.Fatalf("%v\n%s", err, kept)
		}
		if c := l.Profile.Credentials; len(c) != 1 || c[0].Hosts[0] != h || c[0].Basic != basic || len(c[0].Paths) != 2 || len(l.Profile.Agent.Files) != 1 {
			t.Errorf("got %+v, %+v", c, l.Profile.Agent.Files)
		}
		for path, want := range map[string]bool{"/acme/billing/info/refs": true, "/acme/billing.git/git-receive-pack": true, "/acme/other.git/info/refs": false} {
			if got := l.Profile.Credentials[0].Paths[0].Match(path) || l.Profile.Credentials[0].Paths[1].Match(path); got != want {
				t.Errorf("it is for %s: %t", path, got)
			}
		}
	}
	if text := string(Profile(Facts{Origin: Remote{Host: "git.example.com", Repo: "git.example.com/acme/billing"}}, Options{Name: "billing", Base: "shell"})); strings.Contains(text, "[[credential]]") {
		t.Error("a credential is offered for a host that nobody knows")
	}
}
