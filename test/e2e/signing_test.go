package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/event"
)

// gitconfig writes the person's own git configuration.
func (b *box) gitconfig(text string) {
	b.t.Helper()
	file := filepath.Join(b.conf, "git", "config")
	must(b.t, os.MkdirAll(filepath.Dir(file), 0o700))
	must(b.t, os.WriteFile(file, []byte(text), 0o600))
}

// host runs a command as the person does, outside.
func (b *box) host(name string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = b.repo, b.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newSigningBox is a box with a profile for each answer of [signing].
func newSigningBox(t *testing.T) *box {
	t.Helper()
	b := directBox(t)
	for _, word := range []string{"ask", "allow", "deny"} {
		b.profile("sign-"+word, "version = 1\nextends = \"shell\"\n[signing]\ncommits = \""+word+"\"\n")
	}
	return b
}

// sshKey gives the person a key for signatures, in a file that an agent may never see.
func (b *box) sshKey() (file string) {
	b.t.Helper()
	dir := filepath.Join(filepath.Dir(b.repo), "keys")
	must(b.t, os.Mkdir(dir, 0o700))
	file = filepath.Join(dir, "id")
	b.host("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
	public, err := os.ReadFile(file + ".pub")
	must(b.t, err)
	must(b.t, os.WriteFile(file+".allowed", []byte("person@example.com "+string(public)), 0o600))
	return file
}

// sshConfig is the configuration of a person who signs with key, which is user.signingkey.
func sshConfig(key, file string) string {
	return "[user]\n\tname = A Person\n\temail = person@example.com\n\tsigningkey = " + key + "\n[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tallowedSignersFile = " + file + ".allowed\n[commit]\n\tgpgsign = true\n"
}

// sshAgent runs a real one, which holds the key of a file, and takes the file away.
func (b *box) sshAgent(file string) {
	b.t.Helper()
	sock := filepath.Join(filepath.Dir(file), "agent")
	agent := exec.Command("ssh-agent", "-a", sock)
	agent.Env = b.env
	out, err := agent.Output() // it is in the background by then, and listens
	must(b.t, err)
	_, pid, _ := strings.Cut(string(out), "SSH_AGENT_PID=")
	pid, _, _ = strings.Cut(pid, ";")
	b.t.Cleanup(func() { b.host("kill", pid) })
	b.setenv("SSH_AUTH_SOCK", sock)
	b.host("ssh-add", "-q", file)
	must(b.t, os.Remove(file))
}

// gpgKey gives the person a key of OpenPGP without a passphrase, in a home of its own.
func (b *box) gpgKey() {
	b.t.Helper()
	home := filepath.Join(filepath.Dir(b.repo), "gnupg")
	must(b.t, os.Mkdir(home, 0o700))
	b.setenv("GNUPGHOME", home)
	b.host("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "A Person <person@example.com>", "ed25519", "sign", "never")
	b.t.Cleanup(func() { b.host("gpgconf", "--kill", "all") })
	b.gitconfig("[user]\n\tname = A Person\n\temail = person@example.com\n\tsigningkey = person@example.com\n")
}

const signTwo = "git commit -q --allow-empty -m 'signed inside' && git tag -s -m tagged v1 && echo made-$((1+1))"

// The person approves each commit and each tag from another terminal, the host's own program signs it, and their git
// says that it is good.
func TestTheHostSignsWhatThePersonApproves(t *testing.T) {
	for name, c := range map[string]struct {
		setUp func(*box)
		with  string
		good  string
	}{
		"ssh key in a file": {func(b *box) { f := b.sshKey(); b.gitconfig(sshConfig(f+".pub", f)) }, "ssh key SHA256:", `Good "git" signature for person@example.com`},
		"ssh agent": {func(b *box) {
			f := b.sshKey()
			public, err := os.ReadFile(f + ".pub")
			must(t, err)
			b.gitconfig(sshConfig("\"key::"+strings.TrimSpace(string(public))+"\"", f))
			b.sshAgent(f)
		}, "ssh key SHA256:", `Good "git" signature for person@example.com`},
		"gpg": {(*box).gpgKey, "openpgp key person@example.com", `Good signature from "A Person <person@example.com>"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newSigningBox(t)
			c.setUp(b)
			if plan := b.agentbox("run", "sign-ask", "--dry-run").exits(0).out; !strings.Contains(strings.Join(strings.Fields(plan), " "), " signing the agent's commits and tags with "+c.with) {
				t.Errorf("the plan says\n%s", plan)
			}
			l := b.terminal("run", "sign-ask", "--", "sh", "-c", signTwo)
			l.expect("agentbox approvals")
			for _, what := range []string{`sign commit "signed inside" by "A Person <person@example.com>" (tree `, `sign tag "v1" of commit `} {
				q := b.waits(1)[0]
				if table := b.agentbox("approvals").exits(0).out; !strings.Contains(table, what) || !strings.Contains(table, " with "+c.with) {
					t.Errorf("the question is shown as\n%s", table)
				}
				b.agentbox("approve", q.ID, "--run").exits(1).says("allowed once")
				b.agentbox("approve", q.ID, "--always").exits(1).says("allowed once")
				b.agentbox("approve", q.ID).exits(0).says("allowed once: " + what)
			}
			l.expect("made-2")
			l.ends(0)
			if out := b.host("git", "verify-commit", "HEAD"); !strings.Contains(out, c.good) {
				t.Errorf("of the commit git says %s", out)
			}
			if out := b.host("git", "verify-tag", "v1"); !strings.Contains(out, c.good) {
				t.Errorf("of the tag git says %s", out)
			}
			b.signed(2)
		})
	}
}

// signed sees that the log holds so many signatures, each allowed before it was made.
func (b *box) signed(n int) {
	b.t.Helper()
	events := b.events()
	asked, made := ofKind(events, event.SignRequest), ofKind(events, event.SignMade)
	if len(asked) != n || len(made) != n {
		b.t.Fatalf("%d requests and %d signatures are recorded", len(asked), len(made))
	}
	for i, e := range asked {
		if e.Decision != event.Allow || e.Detail["digest"] == "" || e.Detail["digest"] != made[i].Detail["digest"] || e.Seq > made[i].Seq || made[i].Reason != "" {
			b.t.Errorf("%+v\n%+v", e, made[i])
		}
	}
}

func TestASignatureIsDeniedWithAReason(t *testing.T) {
	for _, format := range []string{"ssh", "gpg"} {
		t.Run(format, func(t *testing.T) {
			b := newSigningBox(t)
			if format == "gpg" {
				b.gpgKey()
			} else {
				f := b.sshKey()
				b.gitconfig(sshConfig(f, f))
			}
			before := b.git("rev-parse", "HEAD")
			l := b.terminal("run", "sign-ask", "--", "sh", "-c", "git commit -q --allow-empty -m 'fix\x1b[2J it' || echo failed-$((1+1))")
			q := b.waits(1)[0]
			if table := b.agentbox("approvals").exits(0).out; !strings.Contains(table, `\x1b[2J`) || strings.Contains(table, "\x1b") {
				t.Errorf("the question is shown as %q", table)
			}
			b.agentbox("deny", q.ID, "--reason", "squash it first").exits(0)
			l.expect("no signature: a person was asked and denied it: squash it first").expect("failed-2")
			l.ends(0)
			if after := b.git("rev-parse", "HEAD"); after != before {
				t.Error("there is a commit")
			}
			if e := ofKind(b.events(), event.SignRequest); len(e) != 1 || e[0].Decision != event.Deny || len(ofKind(b.events(), event.SignMade)) != 0 {
				t.Errorf("%+v", e)
			}
		})
	}
}

// ourSocket is a program inside that asks for signatures by itself: FORMAT NAMESPACE FILE.
const ourSocket = `import json, socket, sys
data = open(sys.argv[3], "rb").read()
s = socket.socket(socket.AF_UNIX); s.connect("/run/agentbox/sign.sock")
try: s.sendall(json.dumps(dict(format=sys.argv[1], namespace=sys.argv[2], size=len(data))).encode() + b"\n" + data)
except BrokenPipeError: pass
print(s.makefile().readline())
`

// Where signing needs no question it still is of commits and tags alone, with the person's own program, whatever the
// repository names, and what else asks is refused and recorded.
func TestNothingElseIsSigned(t *testing.T) {
	b := newSigningBox(t)
	f := b.sshKey()
	ran := filepath.Join(filepath.Dir(b.repo), "ran")
	b.write("evil", "#!/bin/sh\ntouch "+ran+"\nexec ssh-keygen \"$@\"\n")
	must(t, os.Chmod(filepath.Join(b.repo, "evil"), 0o755))
	b.write("evil.config", "[gpg]\n\tformat = openpgp\n\tprogram = "+b.repo+"/evil\n[gpg \"ssh\"]\n\tprogram = "+b.repo+"/evil\n[user]\n\tsigningkey = other\n")
	b.gitconfig(sshConfig(f, f) + "[include]\n\tpath = " + b.repo + "/evil.config\n")
	for _, name := range []string{"gpg.program", "gpg.ssh.program"} {
		b.git("config", name, b.repo+"/evil")
	}
	b.write("ask.py", ourSocket)
	r := b.agentbox("run", "sign-allow", "-q", "--", "sh", "-c", signTwo+`
printf 'I owe you' >/tmp/blob; python3 ask.py ssh git /tmp/blob
printf '\0\0\0\040ssh-connection' >/tmp/challenge; python3 ask.py ssh git /tmp/challenge
git cat-file -p HEAD~1 >/tmp/commit; python3 ask.py ssh file /tmp/commit
head -c 2000000 /dev/zero >/tmp/large; python3 ask.py ssh git /tmp/large
printf 'I owe you' >/tmp/x; /run/agentbox/ssh-keygen -Y sign -n git -f none /tmp/x || echo refused-too
ls `+filepath.Dir(f)+` 2>&1 || true
echo "person@example.com $(git config user.signingkey | sed s/key:://)" >/tmp/a; git -c gpg.ssh.allowedSignersFile=/tmp/a verify-commit HEAD 2>&1
`).exits(0)
	for _, want := range []string{"made-2", "neither a commit", "zero byte", "namespace is not", "larger than", "refused-too", "No such file",
		`Good "git" signature`} { // which the real ssh-keygen says inside
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s%s", want, r.out, r.err)
		}
	}
	if strings.Contains(r.out, "signature\": \"") || strings.Contains(r.out, "BEGIN SSH") {
		t.Errorf("a signature came back:\n%s", r.out)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the repository ran on the host")
	}
	if out := b.host("git", "-c", "gpg.ssh.program=ssh-keygen", "-c", "gpg.format=ssh", "verify-commit", "HEAD"); !strings.Contains(out, `Good "git" signature`) {
		t.Errorf("of the commit git says %s", out)
	}
	denied := 0
	for _, e := range ofKind(b.events(), event.SignRequest) {
		if e.Decision == event.Deny {
			denied++
		}
	}
	if made := ofKind(b.events(), event.SignMade); denied != 5 || len(made) != 2 {
		t.Errorf("%d refusals and %d signatures are recorded", denied, len(made))
	}
}

// Without [signing] commits carry no signature, though the person's own configuration wants one; a program that asks is
// told why not, and neither agent's socket is there.
func TestNothingIsSignedWhereNobodySaysSo(t *testing.T) {
	b := newSigningBox(t)
	f := b.sshKey()
	b.gitconfig(sshConfig(f, f))
	b.sshAgent(f)
	b.git("config", "commit.gpgsign", "true")
	b.write("ask.py", ourSocket)
	for _, profile := range []string{"shell", "sign-deny"} {
		r := b.agentbox("run", profile, "-q", "--", "sh", "-c", `git commit -q --allow-empty -m plain && echo made-$((1+1))
git commit -q -S --allow-empty -m signed || echo failed-$((1+1))
git cat-file -p HEAD >/tmp/c; python3 ask.py ssh git /tmp/c; python3 ask.py openpgp git /tmp/c
echo "sock=$SSH_AUTH_SOCK."
ls "`+filepath.Dir(f)+`" ~/.gnupg 2>/dev/null; ls -A /run/user/* 2>/dev/null; find / -xdev -type s 2>/dev/null | grep -v ^/run/agentbox/; echo searched
`).exits(0)
		for _, want := range []string{"made-2\n", "failed-2\n", "nothing is signed in this run", "sock=.\nsearched\n"} {
			if !strings.Contains(r.out+r.err, want) {
				t.Errorf("%s: %q is not in\n%s%s", profile, want, r.out, r.err)
			}
		}
		if strings.Contains(b.git("cat-file", "-p", "HEAD"), "gpgsig") {
			t.Error("the commit is signed")
		}
		var refused uint64
		for _, e := range ofKind(b.events(), event.SignRequest) {
			if e.Decision == event.Deny {
				refused += e.Times()
			}
		}
		if refused == 0 || len(ofKind(b.events(), event.SignMade)) != 0 {
			t.Errorf("%s: %d refusals are recorded", profile, refused)
		}
	}
}

// Without a key commits are made without a signature, and the person is told what to do.
func TestNothingIsSignedWithoutAKey(t *testing.T) {
	b := newSigningBox(t)
	b.gitconfig("[gpg]\n\tformat = ssh\n")
	r := b.agentbox("run", "sign-ask", "--", "sh", "-c", "git commit -q --allow-empty -m plain && echo made-$((1+1)); git commit -S --allow-empty -m signed").exits(128).
		says("nothing can be signed: your own git configuration names no key", "git config --global user.signingkey", "nothing can be signed on this machine")
	if r.out != "made-2\n" {
		t.Errorf("%q", r.out)
	}
}

// A repository may say that nothing is signed, and no more.
func TestARepositoryCannotHaveItselfSigned(t *testing.T) {
	b := newSigningBox(t)
	b.write("agentbox.toml", "version = 1\n[signing]\ncommits = \"allow\"\n")
	b.agentbox("run", "shell", "--", "true").exits(126).says("agentbox.toml:3:11:", "layer that is not yours")
	b.write("agentbox.toml", "version = 1\n[signing]\ncommits = \"deny\"\n")
	b.agentbox("run", "shell", "-q", "--", "true").exits(0)
}

func TestTheHostSignsOnGVisor(t *testing.T) {
	s := gvisor(t)
	if s == nil {
		return
	}
	f := s.sshKey()
	s.gitconfig(sshConfig(f, f))
	s.profile("gv", gvisorProfile+"[signing]\ncommits = \"allow\"\n")
	s.agentbox("run", "gv", "-q", "--", "sh", "-c", signTwo).exits(0).prints("made-2\n")
	if out := s.host("git", "verify-commit", "HEAD"); !strings.Contains(out, `Good "git" signature`) {
		t.Errorf("of the commit git says %s", out)
	}
	s.signed(2)
}
