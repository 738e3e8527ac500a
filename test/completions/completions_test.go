// Package completions drives agentbox's completions in the real shells: bash and zsh at a terminal, fish through its own
// engine. There is no PowerShell to drive: of its script only what it asks agentbox is tested.
package completions

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
)

// world is a home, a repository and a PATH with agentbox on it.
type world struct {
	t    *testing.T
	home string
	repo string
	env  []string
}

func newWorld(t *testing.T) world {
	t.Helper()
	dir := t.TempDir()
	w := world{t: t, home: filepath.Join(dir, "home"), repo: filepath.Join(dir, "repo")}
	bin := filepath.Join(dir, "bin")
	for _, d := range []string{w.home, bin, filepath.Join(w.repo, ".git"), filepath.Join(w.repo, ".agentbox"), filepath.Join(dir, "run")} {
		w.must(os.MkdirAll(d, 0o700))
	}
	w.must(os.Symlink(agentbox(t), filepath.Join(bin, "agentbox")))
	w.env = []string{"HOME=" + w.home, "PATH=" + bin + ":" + os.Getenv("PATH"), "TERM=dumb", "LANG=C.UTF-8", "INPUTRC=/dev/null",
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"), "GORACE=" + os.Getenv("GORACE")}
	w.write(".agentbox/billing.toml", "version = 1\n")
	return w
}

func (w world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w world) write(name, content string) {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(w.repo, name), []byte(content), 0o600))
}

func agentbox(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("AGENTBOX_BIN")
	if bin == "" {
		bin = "../../bin/agentbox"
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("there is no agentbox to complete for (make build): %v", err)
	}
	return bin
}

func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../completions/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func shell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("the completions are tested in the real %s: install it (%v)", name, err)
	}
	return path
}

// terminal is a shell at a terminal.
type terminal struct {
	t    *testing.T
	file *os.File
	seen bytes.Buffer // since the last expect
}

// start runs a shell with the commands in setup typed first.
func (w world) start(name string, args []string, setup ...string) *terminal {
	w.t.Helper()
	cmd := exec.Command(shell(w.t, name), args...)
	cmd.Env, cmd.Dir = w.env, w.repo
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 200})
	w.must(err)
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill() // an interactive shell outlives a hang-up that a job of it ignores
		_ = cmd.Wait()
		_ = file.Close()
	})
	term := &terminal{t: w.t, file: file}
	for _, line := range setup {
		term.enter(line)
	}
	return term
}

// enter types a line and waits until it was carried out; it returns what came on the screen.
func (s *terminal) enter(line string) string {
	s.t.Helper()
	s.send(line + "\necho over\"\"now\n")
	out := s.expect("overnow")
	return out
}

func (s *terminal) send(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.file, keys); err != nil {
		s.t.Fatal(err)
	}
}

// expect reads until want is on the screen. go test's own limit ends one that never comes.
func (s *terminal) expect(want string) string {
	s.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(s.seen.String(), want) {
		n, err := s.file.Read(buf)
		s.seen.Write(buf[:n])
		if err != nil {
			s.t.Fatalf("the shell ended before %q was seen: %v\n%s", want, err, s.seen.String())
		}
	}
	out := s.seen.String()
	s.seen.Reset()
	return out
}

// tab types the start of a line and Tab, waits for want, and clears the line; it returns what came on the screen.
func (s *terminal) tab(line, want string) string {
	s.t.Helper()
	s.send(line + "\t")
	out := s.expect(want)
	s.send("\x15") // Ctrl-U: the line is gone
	return out + s.enter("")
}

// silent is tab for a line with nothing to complete.
func (s *terminal) silent(line string) string {
	s.t.Helper()
	s.send(line + "\t\t\x15")
	return s.enter("")
}

func (w world) bash(more ...string) *terminal {
	return w.start("bash", []string{"--noprofile", "--norc", "-i"}, append([]string{
		"bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; bind 'set show-all-if-ambiguous on'; PS1='$ '",
		"source " + script(w.t, "agentbox.bash")}, more...)...)
}

func (w world) zsh(more ...string) *terminal {
	return w.start("zsh", []string{"-f", "-i"}, append([]string{
		"unset zle_bracketed_paste; unsetopt beep prompt_cr prompt_sp; PROMPT='$ '; LISTMAX=1000; fpath=(" + filepath.Dir(script(w.t, "_agentbox")) + " $fpath)",
		"autoload -Uz compinit && compinit -u -D"}, more...)...)
}

// fish asks fish's own completion engine; a line of the answer is a candidate, behind a tab its description.
func (w world) fish(line string) (candidates []string, complaint string) {
	w.t.Helper()
	cmd := exec.Command(shell(w.t, "fish"), "--no-config", "--command", "source $COMPLETIONS; complete --do-complete $LINE")
	cmd.Env, cmd.Dir = append(w.env, "LINE="+line, "COMPLETIONS="+script(w.t, "agentbox.fish")), w.repo
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	w.must(cmd.Run())
	for l := range strings.Lines(out.String()) {
		name, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
		candidates = append(candidates, name)
	}
	return candidates, complaints.String()
}

// protocol asks what the scripts ask, PowerShell's too.
func (w world) protocol(words ...string) []string {
	w.t.Helper()
	cmd := exec.Command(agentbox(w.t), append([]string{"__complete"}, words...)...)
	cmd.Env, cmd.Dir = w.env, w.repo
	out, err := cmd.Output()
	w.must(err)
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestBash(t *testing.T) {
	w := newWorld(t)
	s := w.bash()
	s.tab("agentbox ver", "agentbox version ")
	s.tab("agentbox run bil", "agentbox run billing ")
	s.tab("agentbox run ope", "agentbox run opencode ")
	s.tab("agentbox run claude --work", "--workspace")
	s.tab("agentbox run claude --workspace=read", "--workspace=readonly ")
	s.tab("agentbox secret set ant", "agentbox secret set anthropic ")
	if out := s.tab("agentbox run ", "opencode"); !strings.Contains(out, "billing") || !strings.Contains(out, "shell") {
		t.Errorf("a list of profiles lacks some: %q", out)
	}
	s.tab("cd / && agentbox run gem", "agentbox run gemini ")
	w.write("a-file.txt", "")
	s.tab("agentbox run shell -- cat a-fi", "a-file.txt ")
}

func TestZsh(t *testing.T) {
	w := newWorld(t)
	s := w.zsh()
	s.tab("agentbox ver", "version ")
	s.tab("agentbox run bil", "billing ")
	s.tab("agentbox run claude --workspace=read", "readonly ")
	s.tab("agentbox secret set ant", "anthropic ")
	if out := s.tab("agentbox ", "Print the version"); !strings.Contains(out, "doctor") {
		t.Errorf("a list of verbs lacks some: %q", out)
	}
	w.write("a-file.txt", "")
	s.tab("agentbox run shell -- cat a-fi", "a-file.txt ")
}

func TestFish(t *testing.T) {
	w := newWorld(t)
	w.write("a-file.txt", "")
	for line, want := range map[string]string{
		"agentbox ver": "version", "agentbox run bil": "billing", "agentbox run claude --workspace=read": "--workspace=readonly",
		"agentbox secret set ant": "anthropic", "agentbox run shell -- cat a-fi": "a-file.txt",
	} {
		if got, complaint := w.fish(line); !slices.Contains(got, want) || complaint != "" {
			t.Errorf("%q: got %q, %q, want %q", line, got, complaint, want)
		}
	}
}

// Hosts come from rules, of a profile's own sets too, and from what the latest run here was refused; runs from their
// records. A host in a log is what an agent asked for: only what is a name is offered.
func TestHostsAndRuns(t *testing.T) {
	w := newWorld(t)
	for i, run := range []struct{ id, repo string }{{"20260102-150405-aaaa", w.repo}, {"20260103-150405-bbbb", "/elsewhere"}} {
		dir := filepath.Join(w.home, ".local", "state", "agentbox", "sessions", run.id)
		w.must(os.MkdirAll(dir, 0o700))
		w.must(os.WriteFile(filepath.Join(dir, "meta.json"), []byte(fmt.Sprintf(`{"id":%q,"profile":"claude","repo":%q,"started":"2026-01-0%dT15:04:05Z"}`, run.id, run.repo, i+2)), 0o600))
		w.must(os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
		w.must(os.WriteFile(filepath.Join(dir, "events.jsonl"), []byte(fmt.Sprintf(`{"decision":"deny","host":"refused-%d.example.com"}
{"decision":"deny","host":"$(touch run-by-tab).example.com"}
{"decision":"allow","host":"allowed.example.com"}
not an event
`, i)), 0o600))
	}
	if got := w.protocol("why", "claude", ""); !slices.Equal(got, []string{"https://api.anthropic.com/", "https://refused-0.example.com/", ":6"}) {
		t.Errorf("hosts: got %q", got)
	}
	if got := w.protocol("events", ""); !slices.Equal(got, []string{"20260103-150405-bbbb\tclaude", "20260102-150405-aaaa\tclaude", ":4"}) {
		t.Errorf("runs: got %q", got)
	}
	if got := w.protocol("stop", ""); !slices.Equal(got, []string{":4"}) {
		t.Errorf("runs that live: got %q", got)
	}
	w.bash().tab("agentbox why claude https://ref", "https://refused-0.example.com/")
	w.zsh().tab("agentbox why claude https://ref", "refused-0.example.com/")
	if got, complaint := w.fish("agentbox why claude https://ref"); !slices.Equal(got, []string{"https://refused-0.example.com/"}) || complaint != "" {
		t.Errorf("fish: got %q, %q", got, complaint)
	}
}

// What a person has typed is not theirs alone: a README says what to paste, and a Tab comes before the Enter.
func TestNothingOnTheLineIsRun(t *testing.T) {
	w := newWorld(t)
	mark := filepath.Join(w.repo, "run-by-tab")
	lines := []string{
		"agentbox run shell -- sh -c 'a; touch run-by-tab; b' ",
		`agentbox run shell -- sh -c "a; touch run-by-tab; b" `,
		"agentbox run $(touch run-by-tab) ",
		"agentbox run `touch run-by-tab` ",
		"agentbox run --workspace=$(touch run-by-tab)x=",
		"agentbox why claude https://x/$(touch run-by-tab)",
	}
	bash, zsh := w.bash(), w.zsh()
	for _, line := range lines {
		bash.silent(line)
		if strings.HasSuffix(line, " ") { // zsh and fish themselves expand the word that Tab is pressed in
			zsh.silent(line)
		}
		if !strings.ContainsAny(line, "`(") {
			w.fish(line)
		}
		if _, err := os.Lstat(mark); err == nil {
			t.Errorf("a Tab behind %q ran what stands on the line", line)
			w.must(os.Remove(mark))
		}
	}
}

// A repository chooses names of files. Those that are no names of profiles are not offered; none is opened or run.
func TestHostileNamesAreNotOffered(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.repo, ".agentbox")
	for _, name := range []string{"$(touch run-by-tab).toml", "`touch run-by-tab`.toml", "a;touch run-by-tab.toml", "\x1b[2Jcleared.toml", "tab\tbed.toml", "-rf.toml", "..toml", "UPPER.toml", "new\nline.toml"} {
		w.must(os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	w.must(unix.Mkfifo(filepath.Join(dir, "fifo.toml"), 0o600))
	w.must(os.Symlink("/etc/passwd", filepath.Join(dir, "link.toml")))
	w.must(os.Mkdir(filepath.Join(dir, "directory.toml"), 0o700))

	want := append((profiles.Files{BuiltIn: builtin.Files()}).Names(), "billing")
	slices.Sort(want)
	want = append(want, ":4")
	if got := w.protocol("run", ""); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	out := w.bash().tab("agentbox run ", "shell") + w.zsh().tab("agentbox run ", "shell")
	fish, _ := w.fish("agentbox run ")
	for _, bad := range []string{"\x1b[2J", "touch", "fifo", "link", "directory", "cleared", "UPPER"} {
		if strings.Contains(out, bad) || strings.Contains(strings.Join(fish, " "), bad) {
			t.Errorf("%q is offered: %q, %q", bad, out, fish)
		}
	}
	if _, err := os.Lstat(filepath.Join(w.repo, "run-by-tab")); err == nil {
		t.Error("a name was run")
	}
}

// In place of .agentbox, a link and a FIFO are neither followed nor waited for.
func TestOddDirectoriesHaveNoNames(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink("/etc", path) },
		"fifo": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		w := newWorld(t)
		dir := filepath.Join(w.repo, ".agentbox")
		w.must(os.RemoveAll(dir))
		w.must(put(dir))
		if got := w.protocol("run", ""); !slices.Contains(got, "claude") || slices.Contains(got, "billing") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// Whatever is broken, Tab says nothing.
func TestTabNeverComplains(t *testing.T) {
	w := newWorld(t)
	w.write(".agentbox/broken.toml", "this is = = not TOML")
	own := filepath.Join(w.home, ".config", "agentbox", "profiles")
	w.must(os.MkdirAll(own, 0o700))
	w.must(os.WriteFile(filepath.Join(own, "mine.toml"), []byte("also = = not"), 0o600))
	if got := w.protocol("run", ""); !slices.Contains(got, "mine") || !slices.Contains(got, "broken") {
		t.Errorf("a name is a name, whatever is in the file: got %q", got)
	}
	bash := w.bash()
	zsh := w.zsh()
	out := bash.silent("agentbox secret rm nothing-of-this-name") + bash.silent("agentbox run a b c --no-such-flag ") + bash.silent("agentbox nothing ") +
		zsh.silent("agentbox run a b c --no-such-flag ") + zsh.silent("agentbox nothing ")
	bash.enter("PATH=/nowhere")
	zsh.enter("path=(/nowhere)")
	out += bash.silent("agentbox run cl") + zsh.silent("agentbox run cl")
	for _, word := range []string{"not found", "rror", "usage", "unknown", "directive", "completion"} {
		if strings.Contains(out, word) {
			t.Errorf("a completion says %q: %q", word, out)
		}
	}
	for _, line := range []string{"agentbox nothing ", "agentbox run a b c --no-such-flag "} {
		if _, complaint := w.fish(line); complaint != "" {
			t.Errorf("%q: fish says %q", line, complaint)
		}
	}
	w.env = append(w.env, "PATH=/nowhere")
	if _, complaint := w.fish("agentbox run cl"); complaint != "" {
		t.Errorf("without an agentbox, fish says %q", complaint)
	}
}

func TestPowerShellAsksTheSame(t *testing.T) {
	data, err := os.ReadFile(script(t, "agentbox.ps1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Register-ArgumentCompleter -CommandName 'agentbox'", "$Program __complete $Arguments"} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("agentbox.ps1 lacks %q", want)
		}
	}
	w := newWorld(t)
	if got := w.protocol("run", "bi"); !slices.Contains(got, "billing") || got[len(got)-1] != ":4" {
		t.Errorf("got %q", got)
	}
}
