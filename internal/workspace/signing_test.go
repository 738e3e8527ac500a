//go:build linux

package workspace

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

// What signs is said by the person's own files: what lies in the repository, and what such a file includes, says nothing.
func TestSettingsAreThePersonsOwn(t *testing.T) {
	repo := newRepo(t)
	home := filepath.Dir(repo.Root)
	write(t, filepath.Join(home, ".gitconfig"), `[user]
	signingkey = K
[gpg]
	program = /usr/bin/gpg
[includeIf "gitdir:~/re po/"]
	path = work
[include]
	path = "`+repo.Root+`/shared"
[include]
	path = "`+repo.Git+`/config"
`)
	write(t, filepath.Join(home, "work"), "[user]\n\tsigningkey = WORK\n[gpg \"ssh\"]\n\tprogram = /opt/sign\n")
	write(t, filepath.Join(home, "evil"), "[user]\n\tsigningkey = EVIL\n")
	write(t, filepath.Join(repo.Root, "shared"), "[gpg]\n\tprogram = /evil\n[include]\n\tpath = "+home+"/evil\n")
	write(t, filepath.Join(repo.Git, "config"), "[gpg]\n\tprogram = /evil\n")
	got, err := Settings(repo, ConfigFiles(home, filepath.Join(home, ".config"))[1:], []string{"user.signingkey", "gpg.program", "gpg.ssh.program"})
	want := map[string]string{"user.signingkey": "WORK", "gpg.program": "/usr/bin/gpg", "gpg.ssh.program": "/opt/sign"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestGitInsideSignsOnlyWhereItMay(t *testing.T) {
	for _, c := range []struct {
		signs Signs
		want  []string
	}{
		{Signs{GPG: "/g", SSH: "/s"}, []string{"commit.gpgsign\nfalse", "tag.gpgsign\nfalse", "tag.forcesignannotated\nfalse", "gpg.program\n/g", "gpg.ssh.program\n/s"}},
		{Signs{On: true, Format: "ssh", PublicKey: "ssh-ed25519 A", GPG: "/g", SSH: "/s"}, []string{"commit.gpgsign\ntrue", "tag.gpgsign\nfalse", "tag.forcesignannotated\ntrue", "gpg.program\n/g",
			"gpg.ssh.program\n/s", "gpg.format\nssh", "user.signingkey\nkey::ssh-ed25519 A"}},
	} {
		if got, _ := gitReads(t, SignInside(c.signs)); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
