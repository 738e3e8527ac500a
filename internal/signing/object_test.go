package signing

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode"
)

const (
	treeID = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
	commit = "tree " + treeID + "\nauthor Ann Other <ann@example.com> 1700000000 +0100\ncommitter Ann Other <ann@example.com> 1700000000 +0100\n\n"
	tag    = "object " + treeID + "\ntype commit\ntag v1\ntagger Ann <ann@example.com> 1700000000 +0000\n\n"
)

func TestParseSaysWhatAPersonJudges(t *testing.T) {
	for payload, want := range map[string]string{
		commit + "fix the fence\n":           `commit "fix the fence" by "Ann Other <ann@example.com>" (tree 4b825dc642cb, no parent)`,
		commit + "fix\n\nbecause\nof this\n": `commit "fix" by "Ann Other <ann@example.com>" and 3 more lines (tree 4b825dc642cb, no parent)`,
		commit:                               `commit "" by "Ann Other <ann@example.com>" (tree 4b825dc642cb, no parent)`,
		strings.Replace(commit, "author", "parent "+treeID+"\nparent "+strings.Repeat("a", 40)+"\nauthor", 1) + "m\n": `commit "m" by "Ann Other <ann@example.com>" (tree 4b825dc642cb, parents 4b825dc642cb, aaaaaaaaaaaa)`,
		strings.Replace(commit, "committer Ann Other", "committer Bob", 1) + "x":                                      `commit "x" by "Ann Other <ann@example.com>", committed by "Bob <ann@example.com>" (tree 4b825dc642cb, no parent)`,
		strings.Replace(commit, treeID, strings.Repeat("c", 64), 1) + "x":                                             `commit "x" by "Ann Other <ann@example.com>" (tree cccccccccccc, no parent)`,
		tag + "the first\n": `tag "v1" of commit 4b825dc642cb by "Ann <ann@example.com>", saying "the first"`,
	} {
		o, err := Parse([]byte(payload))
		if err != nil || o.String() != want {
			t.Errorf("%q\n got %s, %v\nwant %s", payload, o, err, want)
		}
	}
}

// What a key could be made to sign beside commits and tags is refused, whatever it looks like.
func TestNothingButCommitsAndTagsIsSigned(t *testing.T) {
	challenge := "\x00\x00\x00\x20" + strings.Repeat("s", 32) + "\x32\x00\x00\x00\x03ann\x00\x00\x00\x0essh-connection\x00\x00\x00\x09publickey\x01"
	for name, payload := range map[string]string{
		"nothing": "", "a blob": "I owe you 100 dollars\n", "an SSH authentication": challenge, "a signature of ssh": "SSHSIG\x00\x00\x00\x04file",
		"an SSH authentication behind a commit": commit + challenge,
		"a push certificate":                    "certificate version 0.1\npusher k 1700000000 +0000\npushee u\nnonce n\n\na b refs/heads/x\n",
		"a mail":                                "From: ann@example.com\nTo: bank@example.com\n\npay\n",
		"a header more":                         strings.Replace(commit, "\n\n", "\ngpgsig x\n\n", 1) + "m",
		"a header that is text":                 strings.Replace(commit, "\n\n", "\nI owe you 100 dollars\n\n", 1) + "m",
		"two authors":                           strings.Replace(commit, "committer", "author A <a@b> 1 +0000\ncommitter", 1) + "m",
		"no author":                             "tree " + treeID + "\n\nm",
		"no tree":                               strings.Replace(commit, treeID, "master", 1),
		"a carriage return":                     strings.ReplaceAll(commit, "\n", "\r\n"),
		"an author without a date":              strings.Replace(commit, " 1700000000 +0100\nc", "\nc", 1),
		"a head without an end":                 strings.TrimSuffix(commit, "\n\n"),
		"a tag of something else":               strings.Replace(tag, "type commit", "type debt", 1),
		"a tag without a name":                  strings.Replace(tag, "tag v1", "tag ", 1),
		"a tag of two lines":                    strings.Replace(tag, "tag v1", "tag v1 and more", 1),
		"a tag without a tagger":                "object " + treeID + "\ntype commit\ntag v1\n\nx",
		"too much":                              commit + strings.Repeat("x", MaxPayload),
	} {
		if o, err := Parse([]byte(payload)); err == nil {
			t.Errorf("%s is signed as %s", name, o)
		}
	}
}

// What an agent writes can neither hide nor redraw what it asks for.
func TestAHostileSubjectIsShownEscaped(t *testing.T) {
	for _, subject := range []string{"\x1b[2J\x1b[1;1Hfix", "fix\u202egnorw", "fix\rharmless", "a\u2066b\u2069", "a\u200bb", "x\" by \"Ann <ann@example.com>\" (tree 0", "a\xffb", "a\u3000b"} {
		o, err := Parse([]byte(commit + subject + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		shown := o.String()
		if i := strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q is shown with %q", subject, shown[i:])
		}
		if strings.Count(shown, `" by "`) != 1 || !strings.HasSuffix(shown, `" by "Ann Other <ann@example.com>" (tree 4b825dc642cb, no parent)`) {
			t.Errorf("%q passes for what it is not: %s", subject, shown)
		}
	}
	for _, message := range []string{"\nthe real one\n", "\n\n \t\n\nthe real one", "\r\n\nthe real one\n"} {
		if o, err := Parse([]byte(commit + message)); err != nil || o.Subject != "the real one" {
			t.Errorf("%q has the subject %q, %v", message, o.Subject, err)
		}
	}
	o, err := Parse([]byte(commit + strings.Repeat("long ", 1000)))
	if err != nil || len(o.String()) > 400 || !strings.Contains(o.String(), "…") {
		t.Errorf("a long subject is shown as %s, %v", o, err)
	}
}

// What git itself makes is taken, byte for byte.
func TestParseTakesWhatGitMakes(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=Ann Other", "-c", "user.email=ann@example.com"}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %v: %v", args, err)
		}
		return out
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("checkout", "-q", "-b", "side")
	git("commit", "-q", "--allow-empty", "-m", "two")
	git("tag", "-a", "-m", "a tag", "v1")
	git("checkout", "-q", "main")
	git("-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "--allow-empty", "-m", "gr\xfc\xdfe", "-m", "more")
	git("merge", "-q", "--no-ff", "-m", "merge", "v1") // a mergetag
	for ref, want := range map[string]string{"main": "merge", "main~1": "gr\xfc\xdfe", "side": "two", "v1": "a tag"} {
		payload := git("cat-file", "-p", ref)
		o, err := Parse(payload)
		if err != nil || o.Subject != want {
			t.Errorf("%s: %q, %v\n%s", ref, o.Subject, err, payload)
		}
	}
	if _, err := Parse(git("cat-file", "-p", "main^{tree}")); err == nil {
		t.Error("a tree is signed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(commit + "m"))
	f.Add([]byte(tag + "m"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		o, err := Parse(payload)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(payload, []byte("tree ")) && !bytes.HasPrefix(payload, []byte("object ")) || bytes.IndexByte(payload, 0) >= 0 {
			t.Errorf("%q is taken", payload)
		}
		if i := strings.IndexFunc(o.String(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q is shown as %q", payload, o.String())
		}
	})
}
