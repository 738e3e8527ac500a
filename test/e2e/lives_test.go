package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
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
	seen := strings.TrimPrefix(r.out, "1 200\n") // a start may take longer than the first one lasts
	if !strings.HasPrefix(seen, "2 200\n") || strings.Count(seen, " 200\n") != 1 || !strings.HasSuffix(r.out, "403\n") || !strings.Contains(r.out, "GitHub gives no token now (503)") {
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

// A person types a secret: it is seen nowhere, and the terminal is what it was, also after Ctrl-C.
func TestTypingASecret(t *testing.T) {
	w, h := credentialed(t, `{ keyring = "typed" }`, "")
	h.admit("ghs_R3alTyped")
	w.terminal("secret", "set", "typed").expect("typed (not shown): ").send("ghs_R3alOther\x03").ends(-1)
	w.terminal("secret", "set", "typed").expect("typed (not shown): ").send("ghs_R3alOther\x1a\r").expect("control characters").ends(2)
	w.agentbox("secret", "test", "typed").exits(1)

	l := w.terminal("secret", "set", "typed").expect("typed (not shown): ").send("ghs_R3alTypeD\x7fd\r").expect(`stored "typed" in your keyring`)
	l.ends(0)
	if all := l.all(); strings.Contains(all, "R3al") || strings.Contains(all, "Typed") {
		t.Errorf("the terminal shows %q", all)
	}
	w.run(useIt).exits(0).prints("yours\n200\n")
}

// A file is a source when it is the person's alone, and lies where no agent does.
func TestACredentialOfAFile(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "token")
	w, h := credentialed(t, `{ file = "`+file+`" }`, "")
	h.admit("ghs_R3alOfAFile")
	must(t, os.WriteFile(file, []byte("ghs_R3alOfAFile\n"), 0o600))
	w.run(useIt + `env | grep -c R3al; cat ` + file + ` 2>&1 | grep -c 'No such file'`).exits(0).prints("yours\n200\n0\n1\n")
	w.logged("mint allow", "use allow")
	if e := ofKind(w.events(), event.CredentialMint)[0]; e.Detail["source"] != "file "+file {
		t.Errorf("recorded: %+v", e)
	}
	asked := len(w.visits())

	inside := filepath.Join(w.repo, "token")
	must(t, os.WriteFile(inside, []byte("ghs_R3alOfAFile\n"), 0o600))
	for _, bad := range []struct {
		make func() error
		says string
	}{
		{func() error { return os.Chmod(file, 0o640) }, "can be read or changed by others (mode 640)"},
		{func() error { return os.Chmod(file, 0o602) }, "can be read or changed by others (mode 602)"},
		{func() error { return os.Remove(file) }, "can't be read"},
		{func() error { return syscall.Mkfifo(file, 0o600) }, "is not a file"},
		{func() error { return errors.Join(os.Remove(file), os.Symlink(inside, file)) }, "lies in the repository"},
	} {
		must(t, bad.make())
		r := w.run(useIt).exits(0).says(bad.says)
		if !strings.Contains(r.out, bad.says) || !strings.HasSuffix(r.out, "403\n") || strings.Contains(r.out+r.err, "R3al") {
			t.Errorf("the agent saw\n%s", r.out)
		}
		w.logged("mint deny", "refused deny")
	}
	if len(w.visits()) != 0 || asked != 1 {
		t.Error("something went out all the same")
	}
}

// What agentbox starts on the host gets neither the variables that credentials come from nor a way to dump its memory,
// whatever limits the person works under.
func TestWhatIsStartedOutsideHoldsNothing(t *testing.T) {
	w, h := credentialed(t, `{ env = "REAL_OUTSIDE" }`, "[[credential]]\nname = \"asked\"\nsource = { command = [\"ask-token\"] }\nhosts = [\"other.example.com\"]\nheader = \"X-Asked: {token}\"\nenv = \"ASKED\"\n")
	w.lets(w.rules + allow("other.example.com"))
	const value = "ghs_R3alOfAVariable"
	h.admit(value)
	w.setenv("REAL_OUTSIDE", value)
	bin := filepath.Join(filepath.Dir(w.repo), "bin")
	must(t, os.MkdirAll(bin, 0o755))
	told := filepath.Join(bin, "told")
	must(t, os.WriteFile(filepath.Join(bin, "ask-token"), []byte("#!/bin/sh\n(env; cat /proc/self/limits; cat /proc/$PPID/environ /proc/$PPID/mem) >"+told+" 2>&1\necho ghs_AskedOfACommand\n"), 0o755))
	w.setenv("PATH", bin+":"+os.Getenv("PATH"))
	run := w.command("run", "town", "-q", "--", "sh", "-c", useIt+`grep 'Max core' /proc/self/limits; sleep 1000`)
	run.Args = append([]string{"sh", "-c", `ulimit -c unlimited && exec "$0" "$@"`, run.Path}, run.Args[1:]...)
	run.Path, run.Env = "/bin/sh", append(w.env, "GOTRACEBACK=crash")
	r := w.launchCommand(run)
	r.line("yours")
	r.line("200")
	limits, err := r.out.ReadString('\n')
	must(t, err)
	const none = "Max core file size        0 "
	if !strings.HasPrefix(limits, none) {
		t.Errorf("inside: %s", limits)
	}
	text, err := os.ReadFile(told)
	must(t, err)
	if strings.Contains(string(text), "R3al") || !strings.Contains(string(text), "PATH=") || !strings.Contains(string(text), none) || strings.Count(string(text), "Permission denied") != 2 {
		t.Errorf("the command saw\n%s", text)
	}
	started := descendants(r.cmd.Process.Pid)
	if len(started) < 2 { // Podman's service and conmon at least
		t.Errorf("only %q were started", started)
	}
	for _, dir := range started {
		limits, _ := os.ReadFile(dir + "/limits") // it may have ended
		environ, _ := os.ReadFile(dir + "/environ")
		if cmdline, _ := os.ReadFile(dir + "/cmdline"); strings.Contains(string(environ), value) || len(limits) > 0 && !strings.Contains(string(limits), none) {
			t.Errorf("%s %q can dump, or has the value:\n%s", dir, cmdline, limits)
		}
	}
	r.signal(syscall.SIGABRT) // which dumps, where that is on
	_ = r.cmd.Wait()          // it was ended
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.CoreDump() {
		t.Errorf("agentbox ended so: %v", r.cmd.ProcessState)
	}
	w.agentbox("ps").exits(0)
}

// descendants are the directories below /proc of what a process started, and of what these started.
func descendants(pid int) (dirs []string) {
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // none, where it has ended
	for _, file := range children {
		text, _ := os.ReadFile(file) // the thread may have ended
		for _, child := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				dirs = append(append(dirs, "/proc/"+child), descendants(n)...)
			}
		}
	}
	return dirs
}

// A placeholder where no program puts it is told at once, while the agent works, and once for each credential and host.
func TestAPlaceholderThatIsCarriedOffIsToldAtOnce(t *testing.T) {
	w, at, _ := newSlots(t)
	const deny = "curl -sS -o /dev/null -w '%{http_code}\\n' "
	script := deny + `-H "X-Api-Key: $API_KEY" https://other.example.com/; ` + deny + `-H "X-Api-Key: $API_KEY" https://other.example.com/again; echo on; read go; ` +
		deny + `-A "$LOGIN_KEY" https://login.example.com/; ` + deny + `-H "X-Api-Key: $API_KEY" https://api.example.com/v2/x; echo over`
	cmd := w.command("run", "town", "-q", "--", "sh", "-c", script)
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	l := onTerminalBut(t, cmd, pipe)
	l.expect(`ALARM: in a request to other.example.com:443, the placeholder of credential "api" stands in header X-Api-Key, where it may not go; it was refused`)
	l.send("\r").expect(`ALARM: in a request to login.example.com:443, the placeholder of credential "login" stands in header User-Agent`)
	text, err := io.ReadAll(pipe)
	must(t, err)
	l.ends(0)
	if string(text) != "403\n403\non\n403\n403\nover\n" || at.requests() != "" {
		t.Errorf("the agent saw %q, and a server %q", text, at.requests())
	}
	if n := strings.Count(l.all(), "ALARM"); n != 3 { // the third is the wrong path at its own host
		t.Errorf("%d alarms:\n%s", n, l.all())
	}
	marked := 0
	for _, e := range w.events() {
		if e.Alarm && e.Who == event.Agent && e.Decision == event.Deny {
			marked++
		}
	}
	if shown := w.agentbox("events").exits(0).out; marked != 4 || strings.Count(shown, "ALARM") != marked {
		t.Errorf("%d events are alarms, and shown is\n%s", marked, shown)
	}
}

// What is minted for a test is good for the test, also where nobody waits for its end.
func TestATestRevokesWhatItMinted(t *testing.T) {
	w, h := app(t)
	r := w.agentbox("secret", "test", "app").exits(0)
	if h.valid() != 0 || h.minted != 1 || strings.Contains(r.out+r.err, "R3al") || !strings.Contains(r.out, "api.github.com takes it") {
		t.Errorf("%d of %d tokens are good; said: %s", h.valid(), h.minted, r.out)
	}
	h.lag(true)
	for _, key := range []string{"\x03", "\x1c"} {
		l := w.terminal("secret", "test", "app")
		<-h.begun
		if h.valid() != 1 {
			t.Errorf("%d tokens are good", h.valid())
		}
		l.send(key)
		_ = l.cmd.Wait() // however it says that it was called off
		if h.valid() != 0 || strings.Contains(l.all(), "R3al") {
			t.Errorf("after %q %d tokens are good, and it said %s", key, h.valid(), l.all())
		}
	}
	h.fail(true)
	h.lag(false)
	w.agentbox("secret", "test", "app").exits(1).says("NOT revoked", "revoke it where it was issued")
}
