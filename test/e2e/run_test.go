package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/event"
)

func TestThePodmanUnderTestIsTheOneMeant(t *testing.T) {
	want := os.Getenv("AGENTBOX_E2E_PODMAN")
	b := newBox(t)
	if got := b.podman("version", "--format", "{{.Client.Version}}"); want != "" && !strings.HasPrefix(got, want+".") {
		t.Errorf("podman is %s, want %s", got, want)
	}
}

func TestExitCodeIsTheAgents(t *testing.T) {
	b := newBox(t)
	b.shell("exit 7").exits(7).says("the agent ended with exit code 7")
	b.shell("kill -TERM $$").exits(143)
	b.shell("true").exits(0)
}

func TestStreamsAreKeptApart(t *testing.T) {
	b := newBox(t)
	cmd := b.command("run", "shell", "-q", "--", "sh", "-c", "cat; echo oops >&2")
	cmd.Stdin = strings.NewReader("through\n")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	must(t, cmd.Run())
	if out.String() != "through\n" || errs.String() != "oops\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
}

func TestARunIsRecorded(t *testing.T) {
	b := newBox(t)
	b.shell("true").exits(0)
	events := b.events()
	if len(events) != 3 || events[0].Kind != event.RunStart || events[1].Kind != event.RunSelfTest || events[2].Kind != event.RunEnd {
		t.Fatalf("got %+v", events)
	}
	if code := events[2].ExitCode; code == nil || *code != 0 {
		t.Errorf("the end says %+v", events[2])
	}
}

func TestTheRepositoryIsThere(t *testing.T) {
	b := newBox(t)
	b.shell("pwd; cat README.md; echo new >made; git status --short").exits(0).prints(b.repo+"\n# a repository\n?? made\n").
		says("1 change, +1 -0, 4 B, is kept apart from your files", "agentbox apply")
	if _, err := os.Lstat(filepath.Join(b.repo, "made")); err == nil {
		t.Error("it is in the repository before anybody took it")
	}
	b.takeAll()
	if got := b.read("made"); got != "new\n" {
		t.Errorf("the file made inside holds %q", got)
	}
}
