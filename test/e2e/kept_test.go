package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/modelserver"
)

// keeping is a profile that keeps a cache, one that it only reads, and some of the agent's home.
const keeping = `version = 1
extends = "shell"
[agent]
keep = ["~/.agent/sessions"]
seed = ["~/.agent/NOTES.md"]
[workspace]
caches = ["npm", "go-build:ro"]
`

// keeper gives a box with a home directory of its own: the one of whoever runs the tests is not for them to write to.
func keeper(t *testing.T) *box {
	t.Helper()
	b := newBox(t)
	home := filepath.Join(filepath.Dir(b.repo), "home")
	must(t, os.MkdirAll(filepath.Join(home, ".agent"), 0o700))
	must(t, os.WriteFile(filepath.Join(home, ".agent", "NOTES.md"), []byte("mine\n"), 0o600))
	if user, err := os.UserHomeDir(); err == nil { // Podman's store stays where it is
		b.setenv("XDG_DATA_HOME", filepath.Join(user, ".local", "share"))
	}
	b.setenv("HOME", home)
	b.profile("one", keeping)
	b.profile("two", keeping)
	return b
}

func (b *box) under(profile, script string) result {
	b.t.Helper()
	return b.agentbox("run", profile, "-q", "--", "sh", "-c", script)
}

// What is kept is there in the next run of the same profile in the same repository, and nowhere else.
func TestWhatIsKeptIsThereInTheNextRunAndNowhereElse(t *testing.T) {
	b := keeper(t)
	const look = `cat ~/.npm/_cacache/made ~/.agent/sessions/made ~/.cache/go-build/made 2>/dev/null; cat ~/.agent/NOTES.md; ls -A ~/.npm ~/.agent`
	b.under("one", `echo cached > ~/.npm/_cacache/made; echo kept > ~/.agent/sessions/made; echo x > ~/.npm/other; echo y > ~/.agent/other
echo theirs >> ~/.agent/NOTES.md; echo no > ~/.cache/go-build/made; chmod 0 ~/.npm/_cacache; env | grep ^npm_config_cache=`).
		exits(0).says("Read-only file system").prints("npm_config_cache=" + filepath.Join(filepath.Dir(b.repo), "home", ".npm") + "\n")
	r := b.under("one", look).exits(0)
	if !strings.HasPrefix(r.out, "cached\nkept\nmine\n") || strings.Contains(r.out, "other") {
		t.Errorf("the next run: %q", r.out)
	}
	if r := b.under("two", look).exits(0); !strings.HasPrefix(r.out, "mine\n") || strings.Contains(r.out, "made") {
		t.Errorf("another profile: %q", r.out)
	}
	other := *b
	other.repo = filepath.Join(filepath.Dir(b.repo), "other")
	other.initRepo()
	if r := other.under("one", look).exits(0); !strings.HasPrefix(r.out, "mine\n") {
		t.Errorf("another repository: %q", r.out)
	}
	if notes, err := os.ReadFile(filepath.Join(filepath.Dir(b.repo), "home", ".agent", "NOTES.md")); err != nil || string(notes) != "mine\n" {
		t.Errorf("the person's own file: %q, %v", notes, err)
	}
	b.refusesWhatIsStrange()
}

// refusesWhatIsStrange replaces a cache by a link to the person's files: no run mounts what it leads to, and gc removes neither.
func (b *box) refusesWhatIsStrange() {
	b.t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(b.repo), "cache", "agentbox", "caches", "*", "one", "npm", "*"))
	must(b.t, err)
	if len(found) != 2 {
		b.t.Fatalf("caches: %q", found)
	}
	victim := filepath.Join(filepath.Dir(b.repo), "home")
	for _, dir := range found {
		must(b.t, os.Rename(dir, dir+".was"))
		must(b.t, os.Symlink(victim, dir))
	}
	b.under("one", "cat ~/.npm/_cacache/.agent/NOTES.md").exits(126).says("is to be kept between runs, and is a link", "hint: ")
	b.agentbox("gc", "--caches", "--state").exits(0)
	if _, err := os.Lstat(filepath.Join(victim, ".agent", "NOTES.md")); err != nil {
		b.t.Errorf("gc followed the link: %v", err)
	}
	if _, err := os.Lstat(found[0]); !errors.Is(err, fs.ErrNotExist) {
		b.t.Errorf("the link is there still: %v", err)
	}
}

// canary is what a run writes wherever it can. It is spelled inside, so that the command's own record does not hold it.
const (
	canary  = "c4n4ry-that-nobody-may-find"
	spelled = "c=c4n4ry; c=$c-that-nobody-may-find\n"
)

// Everything that is not kept is wiped: what a run writes to every place that it can write to is nowhere below what is
// agentbox's own or Podman's, and gc says what remains.
func TestEverythingElseIsWipedAndGcProvesIt(t *testing.T) {
	b := keeper(t)
	wrote := b.under("one", spelled+`for d in $(awk '$4 ~ /^rw/ && $2 !~ "^/(proc|sys)" {print $2}' /proc/mounts | xargs -I{} find {} -xdev -type d 2>/dev/null); do
  case $d in "$PWD"*|*/.npm/_cacache*|*/.agent/sessions*) continue;; esac
  echo $c > "$d/$c" 2>/dev/null && echo "wrote $d"
done; true`).exits(0)
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/run/user/", filepath.Join(filepath.Dir(b.repo), "home")} {
		if !strings.Contains(wrote.out, "wrote "+dir) {
			t.Errorf("%s was not written to: %q", dir, wrote.out)
		}
	}
	b.under("one", spelled+`echo $c > ~/.npm/_cacache/x`).exits(0)
	r := b.agentbox("gc", "--json").exits(0)
	var report struct {
		Removed, Remains, Failed []struct{ Kind, Path, Name string }
	}
	must(t, json.Unmarshal([]byte(r.out), &report))
	kinds := map[string]int{}
	for _, i := range report.Remains {
		kinds[i.Kind]++
	}
	if len(report.Failed) != 0 || kinds["log"] != 2 || kinds["cache"] != 2 || kinds["state"] != 1 || kinds["run"]+kinds["container"]+kinds["runtime"]+kinds["changes"] != 0 {
		t.Errorf("%s", r.out)
	}
	if found := b.grep(canary); len(found) != 1 || !strings.Contains(found[0], "/caches/") {
		t.Errorf("the canary is in %q", found)
	}
	if r := b.agentbox("gc", "--caches", "--state").exits(0); !strings.HasPrefix(r.out, "removed:\n  cache") || !strings.Contains(r.out, "~/.agent/sessions") {
		t.Errorf("%s", r.out)
	}
	if found := b.grep(canary); len(found) != 0 {
		t.Errorf("after gc it is in %q", found)
	}
	strange := filepath.Join(filepath.Dir(b.repo), "cache", "agentbox", "caches", "strange")
	must(t, os.WriteFile(strange, nil, 0o600))
	if r := b.agentbox("gc", "--caches").exits(1); !strings.Contains(r.out, "should not be there:\n  cache") || !strings.Contains(r.out, strange) {
		t.Errorf("%s", r.out)
	}
}

// grep lists the files that hold a text, or have it in their names, below agentbox's own directories, its runtime directory,
// and all of Podman's.
func (b *box) grep(text string) (found []string) {
	b.t.Helper()
	root := filepath.Dir(b.repo)
	places := []string{filepath.Join(root, "state"), filepath.Join(root, "cache"), filepath.Join(root, "home")}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		places = append(places, dir)
	}
	out, err := exec.Command("podman", "info", "--format", "{{.Store.GraphRoot}}\n{{.Store.RunRoot}}\n{{.Store.VolumePath}}").Output()
	must(b.t, err)
	for _, place := range append(places, strings.Fields(string(out))...) {
		err := filepath.WalkDir(place, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // of another uid, or gone since
				return nil
			}
			if err != nil {
				return err
			}
			if strings.Contains(e.Name(), text) {
				found = append(found, path)
				return nil
			}
			if e.Type().IsRegular() {
				if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(text)) {
					found = append(found, path)
				}
			}
			return nil
		})
		must(b.t, err)
	}
	return found
}

// A conversation goes on in the next run where a profile keeps the directory that the agent writes it to.
func TestAConversationGoesOnInTheNextRun(t *testing.T) {
	for _, c := range []struct {
		agent, keep string
		first, next []string
	}{
		{"claude", "~/.claude/projects", []string{"-p", "begin with 81537"}, []string{"--continue", "-p", "and on"}},
		{"codex", "~/.codex/sessions", []string{"exec", "begin with 81537"}, []string{"exec", "resume", "--last", "and on"}},
	} {
		t.Run(c.agent, func(t *testing.T) {
			b := keeper(t)
			b.agentsPath()
			server := b.model(modelserver.Config{})
			b.profile("mine", "version = 1\nextends = \""+c.agent+"\"\n[agent]\nkeep = [\""+c.keep+"\"]\n")
			b.agentbox(append([]string{"run", "mine", "-q", "--"}, c.first...)...).exits(0)
			before := len(server.Requests())
			b.agentbox(append([]string{"run", "mine", "-q", "--"}, c.next...)...).exits(0)
			remembered := 0
			for _, r := range server.Requests()[before:] {
				if bytes.Contains(r.Body, []byte("81537")) && bytes.Contains(r.Body, []byte("and on")) {
					remembered++
				}
			}
			if remembered == 0 {
				t.Errorf("none of %d requests tells of the run before", len(server.Requests())-before)
			}
			if found := b.grep("real-k3y"); len(found) != 0 {
				t.Errorf("the real key is in %q", found)
			}
		})
	}
}
