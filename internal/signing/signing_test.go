package signing

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/shimwire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program writes a program of the host's.
func program(t *testing.T, dir, script string) string {
	t.Helper()
	file := filepath.Join(dir, "signer")
	must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return file
}

// newSSHKey makes a key in dir and gives its file and its public half.
func newSSHKey(t *testing.T, dir string) (file, public string) {
	t.Helper()
	file = filepath.Join(dir, "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file + ".pub")
	must(t, err)
	return file, strings.TrimSpace(string(text))
}

func TestFind(t *testing.T) {
	home, repo := t.TempDir(), t.TempDir()
	file, public := newSSHKey(t, home)
	inRepo, _ := newSSHKey(t, repo)
	link := filepath.Join(home, "link")
	must(t, os.Symlink(program(t, repo, ""), link))
	look := func(name string) (string, error) {
		if filepath.IsAbs(name) {
			return name, nil
		}
		if name == "gpg" || name == "ssh-keygen" {
			return "/usr/bin/" + name, nil
		}
		return "", errors.New("not found")
	}
	for _, c := range []struct {
		settings string
		want     string // of the name, or of the error
		program  string
	}{
		{"user.signingkey=ABCD", "openpgp key ABCD", "/usr/bin/gpg"},
		{"user.name=Ann|user.email=ann@example.com", "openpgp key Ann <ann@example.com>", "/usr/bin/gpg"},
		{"gpg.format=openpgp|user.signingkey=ABCD|gpg.program=/opt/gpg2", "openpgp key ABCD", "/opt/gpg2"},
		{"gpg.format=ssh|user.signingkey=~/id.pub", "ssh key SHA256:", "/usr/bin/ssh-keygen"},
		{"gpg.format=ssh|user.signingkey=" + file + "|gpg.ssh.program=~/signer", "ssh key SHA256:", home + "/signer"},
		{"gpg.format=ssh|user.signingkey=key::" + public, "ssh key SHA256:", "/usr/bin/ssh-keygen"},
		{"gpg.format=ssh|user.signingkey=" + public, "ssh key SHA256:", "/usr/bin/ssh-keygen"},

		{"", "names no key", ""},
		{"user.signingkey=--output=/tmp/x", "is no key", ""},
		{"gpg.format=x509", `"x509"`, ""},
		{"gpg.format=ssh", "names no key", ""},
		{"gpg.format=ssh|user.signingkey=id", "no absolute path", ""},
		{"gpg.format=ssh|user.signingkey=~/none", "public half", ""},
		{"gpg.format=ssh|user.signingkey=key::nonsense", "no public key", ""},
		{"gpg.format=ssh|user.signingkey=" + inRepo, "lies in this repository", ""},
		{"user.signingkey=ABCD|gpg.program=tools/gpg", "relative path", ""},
		{"user.signingkey=ABCD|gpg.program=none", "not found", ""},
		{"user.signingkey=ABCD|gpg.program=" + repo + "/signer", "lies in this repository", ""},
		{"user.signingkey=ABCD|gpg.program=" + link, "lies in this repository", ""},
	} {
		settings := map[string]string{}
		for _, s := range strings.Split(c.settings, "|") {
			name, value, _ := strings.Cut(s, "=")
			settings[name] = value
		}
		k, err := Find(settings, Place{Home: home, Not: []string{"/nowhere", repo}, Look: look})
		if c.program == "" {
			var u *Unusable
			if !errors.As(err, &u) || !strings.Contains(err.Error(), c.want) || u.Hint() == "" {
				t.Errorf("%s: %v, want %q", c.settings, err, c.want)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(k.Name(), c.want) || k.Program != c.program {
			t.Errorf("%s: %s by %s, %v", c.settings, k.Name(), k.Program, err)
		}
	}
	out, err := exec.Command("ssh-keygen", "-l", "-f", file).Output()
	must(t, err)
	if name := (Key{Format: SSH, Public: public}).Name(); !strings.Contains(string(out), strings.TrimPrefix(name, "ssh key ")+" ") {
		t.Errorf("%s, and ssh says %s", name, out)
	}
}

// A program that hangs, with children, that says too much, or that gives something else, is no signature.
func TestSignIsBounded(t *testing.T) {
	t.Setenv("GPG_TTY", "/dev/pts/0")
	for script, want := range map[string]string{
		`echo "-----BEGIN PGP SIGNATURE-----"; env | grep ^GPG_TTY; echo done; cat >/dev/null`: "",
		"cat >/dev/null; echo no secret key >&2; exit 2":                                       "no secret key",
		"cat >/dev/null; echo hello":                                                           "gave no signature",
		"cat >/dev/null":                                                                       "gave no signature",
		`echo "-----BEGIN PGP SIGNATURE-----"; cat /dev/zero`:                                  "signer: ",
		"cat /dev/zero >&2 & echo x >&2; kill $!; exit 1":                                      "exit status 1",
		"printf '\\033[2J\\377bad' >&2; cat >/dev/null; exit 1":                                "\ufffdbad",
	} {
		k := Key{Format: OpenPGP, ID: "x", Program: program(t, t.TempDir(), script)}
		out, err := k.Sign(t.Context(), t.TempDir(), []byte("payload"))
		switch {
		case want == "" && (err != nil || strings.Contains(string(out), "GPG_TTY") || !strings.HasSuffix(string(out), "done\n")):
			t.Errorf("%s: %q, %v", script, out, err)
		case want != "" && (err == nil || out != nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must(t, exec.Command("mkfifo", fifo).Run())
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { // it hangs, and a child of it does, once somebody has opened the pipe
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err == nil {
			defer f.Close()
		}
		cancel(errors.New("enough"))
		<-t.Context().Done()
	}()
	k := Key{Format: OpenPGP, ID: "x", Program: program(t, dir, "cat "+fifo+" & cat "+fifo)}
	if _, err := k.Sign(ctx, dir, nil); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("%v", err)
	}
}

func TestSSHSignsWithAFileAndAnAgent(t *testing.T) {
	dir := t.TempDir()
	file, public := newSSHKey(t, dir)
	signers := filepath.Join(dir, "allowed")
	must(t, os.WriteFile(signers, []byte("ann@example.com "+public+"\n"), 0o600))
	verify := func(k Key) {
		t.Helper()
		signature, err := k.Sign(t.Context(), dir, []byte("payload"))
		must(t, err)
		sig := filepath.Join(dir, "sig")
		must(t, os.WriteFile(sig, signature, 0o600))
		cmd := exec.Command("ssh-keygen", "-Y", "verify", "-f", signers, "-I", "ann@example.com", "-n", "git", "-s", sig)
		cmd.Stdin = strings.NewReader("payload")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%+v: %v: %s", k, err, out)
		}
	}
	look, err := exec.LookPath("ssh-keygen")
	must(t, err)
	verify(Key{Format: SSH, Program: look, ID: file, Public: public})

	sock := filepath.Join(dir, "a")
	agent := exec.CommandContext(t.Context(), "ssh-agent", "-D", "-a", sock)
	said, err := agent.StdoutPipe()
	must(t, err)
	must(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	_, err = bufio.NewReader(said).ReadString('\n') // it listens by then
	must(t, err)
	t.Setenv("SSH_AUTH_SOCK", sock)
	if out, err := exec.Command("ssh-add", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, os.Remove(file))
	verify(Key{Format: SSH, Program: look, Public: public, Literal: true})
	if left, _ := filepath.Glob(filepath.Join(dir, "sign-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// judge is one that tests look into.
type judge struct {
	allow   func(context.Context, Request) (bool, string)
	mu      sync.Mutex
	refused []string
	made    []error
	broken  error
}

func (j *judge) Allow(ctx context.Context, r Request) (bool, string) { return j.allow(ctx, r) }

func (j *judge) Refuse(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refused = append(j.refused, why)
}

func (j *judge) Made(_ Request, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.made = append(j.made, err)
	return j.broken
}

func yes(context.Context, Request) (bool, string) { return true, "" }

// serve gives the socket of a server whose program is a script.
func serve(t *testing.T, j *judge, script string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	s, err := Listen(path, dir, Key{Format: OpenPGP, ID: "k", Program: program(t, dir, script)}, j)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return path
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ask(t *testing.T, path string, q shimwire.SignRequest, payload string) shimwire.SignAnswer {
	t.Helper()
	c := dial(t, path)
	if q.Size == 0 {
		q.Size = int64(len(payload))
	}
	line, err := shimwire.EncodeLine(q)
	must(t, err)
	_, _ = io.WriteString(c, string(line)+payload) // the server may have heard enough
	a, err := shimwire.ReadSignAnswer(bufio.NewReader(c))
	must(t, err)
	return a
}

const signs = `echo "-----BEGIN PGP SIGNATURE-----"; cat`

func TestServerSignsTheBytesThatWereJudged(t *testing.T) {
	var judged Request
	j := &judge{allow: func(_ context.Context, r Request) (bool, string) { judged = r; return true, "" }}
	a := ask(t, serve(t, j, signs), shimwire.SignRequest{Format: OpenPGP}, commit+"m")
	if a.Refused != "" || string(a.Signature) != "-----BEGIN PGP SIGNATURE-----\n"+commit+"m" || judged.Subject != "m" || len(j.made) != 1 || j.made[0] != nil {
		t.Errorf("%+v, %+v, %v", a, judged, j.made)
	}
}

func TestServerRefuses(t *testing.T) {
	j := &judge{allow: yes}
	path := serve(t, j, "echo must not run >&2; exit 9")
	for what, a := range map[string]shimwire.SignAnswer{
		"neither a commit": ask(t, path, shimwire.SignRequest{Format: OpenPGP}, "I owe you"),
		"larger than":      ask(t, path, shimwire.SignRequest{Format: OpenPGP, Size: MaxPayload + 1}, commit),
		"larger":           ask(t, path, shimwire.SignRequest{Format: OpenPGP, Size: -1}, commit),
		"namespace":        ask(t, path, shimwire.SignRequest{Format: SSH, Namespace: "file"}, commit),
		"by openpgp here":  ask(t, path, shimwire.SignRequest{Format: SSH, Namespace: "git"}, commit),
		"format":           ask(t, path, shimwire.SignRequest{Format: "x509"}, commit),
	} {
		if !strings.Contains(a.Refused, what) || a.Signature != nil {
			t.Errorf("%s: %+v", what, a)
		}
	}
	c := dial(t, path)
	_, _ = io.WriteString(c, `{"format":"openpgp","size":3,"key":"other"}`+"\nabc")
	if a, err := shimwire.ReadSignAnswer(bufio.NewReader(c)); err != nil || !strings.Contains(a.Refused, "no request") {
		t.Errorf("%+v, %v", a, err)
	}
	if len(j.refused) != 7 || len(j.made) != 0 {
		t.Errorf("recorded: %q, %v", j.refused, j.made)
	}
	j.allow = func(context.Context, Request) (bool, string) { return false, "not today" }
	if a := ask(t, path, shimwire.SignRequest{Format: OpenPGP}, commit); a.Refused != "not today" || len(j.made) != 0 {
		t.Errorf("%+v, %v", a, j.made)
	}
}

// A signature that can't be recorded, or that did not come about, is not given away, and why is for the person alone.
func TestServerKeepsBackWhatIsNotRecorded(t *testing.T) {
	j := &judge{allow: yes, broken: errors.New("the disk is full")}
	if a := ask(t, serve(t, j, signs), shimwire.SignRequest{Format: OpenPGP}, commit); a.Signature != nil || a.Refused == "" {
		t.Errorf("%+v", a)
	}
	j = &judge{allow: yes}
	a := ask(t, serve(t, j, "cat >/dev/null; echo /home/ann/secret >&2; exit 1"), shimwire.SignRequest{Format: OpenPGP}, commit)
	if a.Signature != nil || strings.Contains(a.Refused, "/home") || len(j.made) != 1 || !strings.Contains(fmt.Sprint(j.made[0]), "/home/ann/secret") {
		t.Errorf("%+v, %v", a, j.made)
	}
}

// However many ask at once, a bounded number waits; who goes away takes the question along.
func TestAFloodIsBounded(t *testing.T) {
	waiting, gone := make(chan struct{}, 100), make(chan struct{}, 100)
	j := &judge{allow: func(ctx context.Context, _ Request) (bool, string) {
		waiting <- struct{}{}
		<-ctx.Done()
		gone <- struct{}{}
		return false, "gone"
	}}
	path := serve(t, j, signs)
	line, err := shimwire.EncodeLine(shimwire.SignRequest{Format: OpenPGP, Size: int64(len(commit))})
	must(t, err)
	var all []net.Conn
	for range maxPending {
		c := dial(t, path)
		_, err := io.WriteString(c, string(line)+commit)
		must(t, err)
		all = append(all, c)
		<-waiting
	}
	for range 50 {
		if a := ask(t, path, shimwire.SignRequest{Format: OpenPGP}, commit); !strings.Contains(a.Refused, "waited for already") {
			t.Fatalf("%+v", a)
		}
	}
	for _, c := range all {
		must(t, c.Close())
		<-gone
	}
	if len(j.refused) != 50 {
		t.Errorf("%d refusals are recorded", len(j.refused))
	}
}

// One signature is made at a time, and closing ends the one that hangs.
func TestCloseEndsWhatSigns(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must(t, exec.Command("mkfifo", fifo).Run())
	j := &judge{allow: yes}
	s, err := Listen(filepath.Join(dir, "s"), dir, Key{Format: OpenPGP, ID: "k", Program: program(t, dir, "echo x >>"+dir+"/ran; exec cat "+fifo)}, j)
	must(t, err)
	line, err := shimwire.EncodeLine(shimwire.SignRequest{Format: OpenPGP, Size: int64(len(commit))})
	must(t, err)
	for range 3 {
		_, err := io.WriteString(dial(t, filepath.Join(dir, "s")), string(line)+commit)
		must(t, err)
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits until one program reads
	must(t, err)
	defer f.Close()
	must(t, s.Close())
	ran, err := os.ReadFile(dir + "/ran")
	if must(t, err); string(ran) != "x\n" {
		t.Errorf("programs ran at the same time: %q", ran)
	}
	if _, err := net.DialTimeout("unix", filepath.Join(dir, "s"), time.Second); err == nil {
		t.Error("the socket is there still")
	}
}
