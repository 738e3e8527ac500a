//go:build linux

package workspace

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var configs = []string{
	"", "\n", "# only\n; comments\n", "\xef\xbb\xbf[core]\n\tbare = false\n",
	"[core]\r\n\tbare = true\r\n\tx = a\\\r\nb\r\n",
	"[core]bare=true\n", "[core] bare = true ; c\n[core]\n x=1 # c\n",
	"[Core]\n\tBARE\n\tFileMode = YES\n",
	"[remote \"Ori gin\"]\n\turl = https://a/b\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
	"[a.B.c]\n\tk = 1\n[a.B \"D.e\"]\n\tk = 2\n[a \"\"]\n\tk = 3\n",
	"[a \"q\\\"u\\\\o\\te\"]\n\tk = v\n",
	"[a]\n\tk = \"  quoted ; not # comment \" tail  \n", "[a]\n\tk = a \"b\" c\\tt\\n\\b\\\\\\\"\n",
	"[a]\n\tk = one\\\n two\\\n\tthree\n", "[a]\n\tk = \"one\\\ntwo\"\n",
	"[a]\n\tk =\n\tl = \n\tm = \"\"\n\tn = \" \"\n", "[a]\n\tk = x   \"\"   \n\tl = \"\" y\n",
	"[a]\n\tk = x", "[a]\n\tk", "[a]k=1[b]\n", "[a]\nk-1 = 2\n", "[1]\nk=2\n", "[a-b]\nk=2\n",
	"[a]\n\tk = a;b\n", "[a]\n\tk = a#b\n", "[a]\n\tk = \\x\n", "[a]\n\tk = \"x\n", "[a\n", "[a \"x]\n", "[a 'x']\n",
	"[a \"x\" ]\n", "[a\"x\"]\n", "k = 1\n", "[a]\n\t1k = 2\n", "[a]\n\tk_x = 2\n", "[a]\n\tk x\n", "[a]\n=1\n", "[]\nk=1\n",
	"[a.]\nk=1\n", "[.a]\nk=1\n", "[a]\n\tk = x\\", "[a]\n\tk ; c\n", "[a]\n\tk # c\n", "[a]\r\tk = 1\n", "[a]\n k = 1\r",
	"[a]\n k = x\ry\n", "[a \"\tb\"]\nk=1\n", "[a\t\"b\"]\nk=1\n", "[a]\n k = \xff\xfe\n", "[a]\n\fk = 1\n", "[a]\n k = \f1\n",
}

// gitReads gives a configuration as git reads it, or false when git refuses it.
func gitReads(t *testing.T, text []byte) ([]string, bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "config", "--file", path, "--no-includes", "--list", "-z")
	cmd.Env = gitEnv(t)
	out, err := cmd.Output()
	if err != nil {
		return nil, false
	}
	return slices.DeleteFunc(strings.Split(string(out), "\x00"), func(s string) bool { return s == "" }), true
}

func weRead(text []byte) ([]string, bool) {
	entries, err := parseConfig(text)
	if err != nil {
		return nil, false
	}
	var out []string
	for _, e := range entries {
		if e.bare {
			out = append(out, e.name())
			continue
		}
		out = append(out, e.name()+"\n"+e.value)
	}
	return out, true
}

func compare(t *testing.T, text []byte) {
	t.Helper()
	theirs, theirOK := gitReads(t, text)
	ours, ourOK := weRead(text)
	// Versions of git differ in whether a tab inside a value stays one.
	for _, list := range [][]string{theirs, ours} {
		for i := range list {
			list[i] = strings.NewReplacer("\t", " ", "\r", " ").Replace(list[i])
		}
	}
	if theirOK != ourOK || !slices.Equal(theirs, ours) {
		t.Errorf("%q:\ngit  %v %q\nours %v %q", text, theirOK, theirs, ourOK, ours)
	}
	if !ourOK {
		return
	}
	entries, err := parseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	again, ok := weRead(formatConfig(entries))
	direct, _ := weRead(text)
	back, gitOK := gitReads(t, formatConfig(entries))
	if !ok || !gitOK || !slices.Equal(again, direct) || !slices.Equal(back, direct) {
		t.Errorf("%q: written as %q is read as %q by us and %q by git", text, formatConfig(entries), again, back)
	}
}

func TestConfigIsReadAsGitReadsIt(t *testing.T) {
	for i, text := range configs {
		t.Run(fmt.Sprint(i), func(t *testing.T) { compare(t, []byte(text)) })
	}
}

func FuzzConfigIsReadAsGitReadsIt(f *testing.F) {
	for _, text := range configs {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if slices.Contains(text, 0) || len(text) > 4096 {
			return
		}
		compare(t, text)
	})
}

func TestURLsLoseTheirCredentials(t *testing.T) {
	cases := []struct {
		in, want string
		ok       bool
	}{
		{"https://github.com/a/b.git", "https://github.com/a/b.git", true},
		{"https://tok@github.com/a/b", "https://github.com/a/b", true},
		{"https://u:tok@github.com:8443/a", "https://github.com:8443/a", true},
		{"HTTPS://u:t@k@github.com/a", "HTTPS://github.com/a", true},
		{"https://u:pa/ss@github.com/a", "", false},
		{"https://github.com/a?private_token=tok#x", "https://github.com/a", true},
		{"https://[::1]:80/a", "https://[::1]:80/a", true},
		{"ssh://git@github.com/a/b", "ssh://git@github.com/a/b", true},
		{"ssh://git:tok@github.com/a/b", "ssh://git@github.com/a/b", true},
		{"git@github.com:a/b.git", "git@github.com:a/b.git", true},
		{"u:tok@github.com:a/b", "github.com:a/b", true},
		{"ftp://u:tok@h/a", "ftp://h/a", true},
		{"ext::sh -c tok", "ext::sh -c tok", true},
		{"gcrypt::https://tok@h/a", "", false},
		{"ext::tok", "", false},
		{"/srv/git/a@b", "/srv/git/a@b", true},
		{"../x", "../x", true},
		{"+refs/heads/*:refs/remotes/origin/*", "+refs/heads/*:refs/remotes/origin/*", true},
		{"Ann Example", "Ann Example", true},
	}
	for _, c := range cases {
		if got, ok := cleanURL(c.in); got != c.want || ok != c.ok {
			t.Errorf("%s: got %q %v, want %q %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

func TestFilterDropsWhatExecutesOrTells(t *testing.T) {
	text := `[core]
	filemode = true
	fsmonitor = evil
	sshCommand = evil
	hooksPath = evil
	pager = evil
	editor = evil
	attributesFile = /x
	worktree = /x
[alias]
	x = !evil
[filter "lfs"]
	clean = evil
[diff "x"]
	textconv = evil
	command = evil
	xfuncname = "^f"
[merge "x"]
	driver = evil
[include]
	path = /x
[includeIf "gitdir:/"]
	path = /x
[http]
	proxy = evil
	extraheader = evil
[http "https://a"]
	extraheader = evil
[credential]
	helper = evil
[remote "o"]
	url = https://a:evil@h/x
	uploadpack = evil
	vcs = evil
	proxy = evil
[remote "https://evil@h/"]
	fetch = x
[url "https://evil@h/"]
	insteadOf = https://b:evil@h/
[gpg]
	program = evil
[submodule "s"]
	update = !evil
	url = https://evil@h/s
[uploadpack]
	packObjectsHook = evil
[user]
	name = Ann
`
	entries, err := parseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, ok := gitReads(t, formatConfig(filterConfig(entries)))
	want := []string{
		"core.filemode\ntrue", "diff.x.xfuncname\n^f", "remote.o.url\nhttps://h/x", "url.https://h/.insteadof\nhttps://h/",
		"submodule.s.url\nhttps://h/s", "user.name\nAnn",
	}
	if !ok || !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestIdentityFollowsConditions(t *testing.T) {
	repo := newRepo(t)
	home := filepath.Dir(repo.Root)
	write(t, filepath.Join(home, ".gitconfig"), `[user]
	name = Ann
	email = ann@home.example
	signingkey = K
[credential]
	helper = store
[core]
	editor = vi
[includeIf "gitdir:~/re po/"]
	path = work
[includeIf "gitdir:/elsewhere/"]
	path = other
`)
	write(t, filepath.Join(home, "work"), "[user]\n\temail = ann@work.example\n")
	write(t, filepath.Join(home, "other"), "[user]\n\temail = ann@other.example\n")
	text, err := Identity(repo, ConfigFiles(home, filepath.Join(home, ".config"))[1:])
	if err != nil {
		t.Fatal(err)
	}
	got, _ := gitReads(t, text)
	want := []string{"user.name\nAnn", "user.email\nann@home.example", "user.email\nann@work.example"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
