package e2e

import (
	"net/http"
	"strings"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
)

// A host that is allowed for reading is none that anything can be carried out to, with the person's rights least of all.
func TestNothingIsWrittenThroughHostsForReading(t *testing.T) {
	at := &registrar{}
	w := newTown(t, map[string]http.Handler{"api.github.com": at, "github.com": at, "registry.npmjs.org": at})
	token, npm := "github_pat_R3al"+strings.Repeat("0x", 20), "npm_"+strings.Repeat("R3al", 9)
	w.setenv("GITHUB_OUTSIDE", token)
	w.setenv("NPM_OUTSIDE", npm)
	w.bring("npm")
	w.lets(`[network]
use = ["github", "npm"]

[[credential]]
name = "github"
source = { env = "GITHUB_OUTSIDE" }
hosts = ["api.github.com"]
header = "Authorization: Bearer {token}"
env = "GH_TOKEN"

[[credential]]
name = "npm"
source = { env = "NPM_OUTSIDE" }
hosts = ["registry.npmjs.org"]
header = "Authorization: Bearer {token}"

[[agent.file]]
path = "~/.npmrc"
content = "//registry.npmjs.org/:_authToken={placeholder.npm}\nupdate-notifier=false\n"
`)
	ask := func(method, path string) string {
		return `curl -sS -o /dev/null -w '%{http_code}\n' -X ` + method + ` -H "Authorization: Bearer $GH_TOKEN" -d '{"a":"b"}' https://api.github.com` + path + "\n"
	}
	r := w.run(`curl -sS -o /dev/null -w '%{http_code}\n' -H "Authorization: Bearer $GH_TOKEN" https://api.github.com/repos/acme/billing` + "\n" +
		ask("POST", "/gists") + ask("POST", "/repos/evil/copy/forks") + ask("POST", "/repos/evil/notes/issues") + ask("PUT", "/repos/evil/x/contents/y") +
		ask("PATCH", "/repos/acme/billing/git/refs/heads/main") + ask("DELETE", "/repos/acme/billing") + ask("POST", "/graphql") +
		`npm=$PWD/node_modules/npm/bin/npm-cli.js; mkdir /tmp/p && cd /tmp/p && echo '{"name":"carried-out","version":"1.0.0"}' >package.json
		node "$npm" publish --loglevel=error >/tmp/out 2>&1; echo "publish $?"; grep -o 'E403' /tmp/out | head -1`).exits(0)
	if want := "200\n" + strings.Repeat("403\n", 7) + "publish 1\nE403\n"; r.out != want {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	for line := range strings.SplitSeq(at.requests(), "\n") {
		if line != "" && !strings.HasPrefix(line, "GET ") {
			t.Errorf("a server saw %s", line)
		}
	}
	if !strings.Contains(at.requests(), token) {
		t.Error("reading was not done with the credential, so the test shows nothing")
	}
	for _, e := range ofKind(w.events(), event.CredentialUse) {
		if e.Method != http.MethodGet || !strings.Contains(e.Rule, "town.toml:") {
			t.Errorf("a use is recorded as %+v", e)
		}
	}
}

// From nothing to a working agent it is two commands, with the key in the keyring and in no variable.
func TestANewcomersTwoCommands(t *testing.T) {
	b := newBox(t)
	b.agentsPath()
	s := b.model(modelserver.Config{Task: modelserver.Task{File: "hello.txt", Content: "hello\n", Command: "echo ran >ran.txt", Final: "The task is complete."}})
	b.setenv("ANTHROPIC_API_KEY", "")
	b.keyring()
	set := b.command("secret", "set", "anthropic")
	set.Stdin = strings.NewReader(modelKey() + "\n")
	if out, err := set.CombinedOutput(); err != nil || strings.Contains(string(out), modelKey()) {
		t.Fatalf("%v: %s", err, out)
	}
	r := b.agentbox("run", "claude", "--", "-p", "do the task").exits(0).says("credential  anthropic  used")
	if !strings.Contains(r.out, s.Task().Final) {
		t.Errorf("stdout has no last words:\n%s", r.out)
	}
	b.takeAll()
	b.checkWork(s)
}
