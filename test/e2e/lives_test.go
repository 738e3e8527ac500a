package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// until reads what the agent says up to a line that begins so.
func (r *begun) until(t *testing.T, start string) (said []string) {
	t.Helper()
	for r.out.Scan() {
		if said = append(said, r.out.Text()); strings.HasPrefix(r.out.Text(), start) {
			return said
		}
	}
	t.Fatalf("the agent did not say %q, but %q\n%s", start, said, r.err)
	return nil
}

// Who stops a credential stops it in all runs, and no other.
func TestStoppingACredentialInEveryRun(t *testing.T) {
	w, h := app(t)
	w.handlers["other.example.com"] = h
	w.route("other.example.com", w.routes["api.github.com"])
	w.setenv("OTHER_OUTSIDE", "other_R3alOfAVariable")
	h.admit("other_R3alOfAVariable")
	w.lets(w.rules + allow("other.example.com") + "[[credential]]\nname = \"other\"\nsource = { env = \"OTHER_OUTSIDE\" }\nhosts = [\"other.example.com\"]\nheader = \"Authorization: Bearer {token}\"\nenv = \"OTHER_TOKEN\"\n")
	ask := func(flags, token, at string) string {
		return "curl -sN " + flags + ` -H "Authorization: Bearer $` + token + `" https://` + at
	}
	script := ask("", "OTHER_TOKEN", "other.example.com/slow") + " >/tmp/other & other=$!\n" + ask("", "GH_TOKEN", "api.github.com/slow") + "; echo \"curl $?\"\n" +
		ask(`-o /dev/null -w 'stopped %{http_code}\n'`, "GH_TOKEN", "api.github.com/user") + "\nwait $other; echo \"other $? $(cat /tmp/other)\"\n" +
		ask(`-w '%{http_code}\n'`, "OTHER_TOKEN", "other.example.com/user")
	runs := []*begun{w.begin(script), w.begin(script)}
	for range 4 {
		<-h.begun
	}
	if h.valid() != 3 {
		t.Fatalf("%d tokens are good", h.valid())
	}
	w.agentbox("stop", "--credential", "app").exits(0).says("stopped in run "+runs[0].id, "stopped in run "+runs[1].id)
	if h.valid() != 1 || len(w.owing()) != 0 { // the other's
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
	for _, r := range runs {
		if cut := r.until(t, "curl "); cut[len(cut)-1] == "curl 0" {
			t.Error("a request that was on its way was not cut off")
		}
		if refused := r.until(t, "stopped "); refused[len(refused)-1] != "stopped 403" {
			t.Errorf("after it was stopped: %q", refused)
		}
	}
	close(h.hold)
	for _, r := range runs {
		if rest := append(r.until(t, "other "), r.until(t, "200")...); !slices.Equal(rest, []string{"other 0 first", "yours", "200"}) {
			t.Errorf("of the other credential: %q", rest)
		}
		must(t, r.Wait())
	}
}

// What an app's token is good for ends with it: the next one is there by then, or nothing goes out.
func TestATokenIsRenewedInTheMiddleOfARun(t *testing.T) {
	w, h := app(t)
	h.mints(2, 3*time.Second)
	r := w.run(`n=0; while [ $n -lt 300 ]; do n=$((n+1))
said=$(curl -s -w ' %{http_code}' -H "Authorization: Bearer $GH_TOKEN" https://api.github.com/which)
[ "$said" = "$before" ] || echo "$said"; before=$said
case $said in *403) break; esac
sleep 0.05; done`).exits(0)
	if !strings.HasPrefix(r.out, "1 200\n2 200\n") || strings.Count(r.out, " 200\n") != 2 || !strings.HasSuffix(r.out, "403\n") || !strings.Contains(r.out, "GitHub gives no token now (503)") {
		t.Errorf("the agent saw\n%s", r.out)
	}
	if h.late > 0 {
		t.Errorf("%d requests went out with a token that had expired", h.late)
	}
	kinds := slices.DeleteFunc(w.kinds(), func(k string) bool { return k == "use allow" })
	if !slices.Equal(kinds, []string{"mint allow", "renew allow", "renew deny", "refused deny", "revoke allow"}) {
		t.Errorf("recorded: %q", kinds)
	}
}

func TestATokenThatIsNotMinted(t *testing.T) {
	w, h := app(t)
	h.mints(-1, 0)
	r := w.run(useIt).exits(0).says(`credential "app" has no value: GitHub gives no token now (503)`)
	if !strings.Contains(r.out, "GitHub gives no token now (503)") || !strings.HasSuffix(r.out, "403\n") {
		t.Errorf("the agent saw\n%s", r.out)
	}
	for _, v := range w.visits() {
		if v.path == "/user" {
			t.Errorf("something went out, with %q", v.auth)
		}
	}
	w.logged("mint deny", "refused deny")
}

// The next run puts in order what one left that was killed.
func TestTheNextRunRevokesWhatAKilledOneLeft(t *testing.T) {
	w, h := app(t)
	r := w.begin(useIt + "sleep 1000")
	must(t, r.Process.Signal(syscall.SIGKILL))
	_ = r.Wait() // it was killed
	if h.valid() != 1 || len(w.owing()) != 1 {
		t.Errorf("%d tokens are good; owing: %v", h.valid(), w.owing())
	}
	w.run("true").exits(0).says(`revoked credential "app", which run ` + r.id + " had left")
	if h.valid() != 0 || h.minted != 2 || len(w.owing()) != 0 { // one for each run
		t.Errorf("%d of %d tokens are good; owing: %v", h.valid(), h.minted, w.owing())
	}
}
