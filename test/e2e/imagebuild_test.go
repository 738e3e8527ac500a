package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/event"
	"agentbox/test/registry"
)

// clientBinary is the test's client, for images: it knows no proxy.
func clientBinary(t *testing.T) []byte {
	t.Helper()
	client := filepath.Join(t.TempDir(), "goclient")
	build := exec.Command("go", "build", "-o", client, "../clients/goclient")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the client: %v\n%s", err, out)
	}
	program, err := os.ReadFile(client)
	must(t, err)
	return program
}

// base pushes what builds begin with: a small system with the client.
func (g gallery) base(name string, config map[string]any) registry.Pushed {
	g.t.Helper()
	files := append(g.Shell("sh", "cat", "id", "ls", "grep", "sleep", "touch", "env", "nc", "test"), registry.File{Path: "bin/goclient", Content: clientBinary(g.t)},
		registry.File{Path: "etc/"}, registry.File{Path: "tmp/"})
	return g.Push(name, registry.Image{Layers: [][]registry.File{files}, Docker: true, Config: config})
}

// hostileSteps try what a build must not be able to do. Each ends the build where it can.
const hostileSteps = `FROM BASE
RUN goclient https://HOST/built > /got || exit 10
RUN goclient https://unlisted.example.org/ && exit 11; \
    goclient http://127.0.0.1:PORT/ && exit 12; \
    nc -w 2 127.0.0.1 PORT < /dev/null | grep . && exit 13; \
    goclient http://169.254.169.254/ && exit 14; true
# nothing of the person's, and nothing of agentbox's but its PID 1 and the certificates
RUN [ ! -e REPO ] && [ ! -e STATE ] && ! env | grep -q 'GIVEN' || exit 15
RUN ls /proc/1/root/ 2>/dev/null && exit 16; cat /proc/1/mem 2>/dev/null && exit 17; grep -q 'Seccomp:.2' /proc/self/status || exit 18
COPY . /repo/
RUN ls -a /repo > /files && [ ! -e /repo/.env ] && [ ! -e /repo/.git ] && [ ! -e /repo/ignored.log ] && [ ! -e /repo/away ] || exit 19
# the control groups of the person's session, which a step could end
RUN ls /sys/fs/cgroup | grep . && exit 20; touch /sys/fs/cgroup/x 2>/dev/null && exit 21; true
# a link in a volume's place, which the engine would follow on the host
VOLUME /v/kept
RUN [ ! -e /v ] || busybox mv /v /w; busybox ln -s VICTIM /v || exit 22
RUN [ ! -e /v/kept/key ] || exit 23
ENTRYPOINT ["/bin/false"]
`

// A repository's Containerfile is nothing until the person says so, and asks again when it is another. Built, it had the
// network of its profile and nothing else; unchanged, it is not built again.
func TestARootThatIsBuilt(t *testing.T) {
	g := newGallery(t, false)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() { // a service of the host
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			_, _ = c.Write([]byte("the host\n"))
			_ = c.Close()
		}
	}()
	base := g.base("team/base", nil)
	victim := t.TempDir()
	must(t, os.Mkdir(filepath.Join(victim, "kept"), 0o700))
	must(t, os.WriteFile(filepath.Join(victim, "kept", "key"), []byte("SECRET"), 0o600))
	_, port, _ := net.SplitHostPort(l.Addr().String())
	steps := strings.NewReplacer("BASE", base.Ref, "HOST", secureHost, "PORT", port, "REPO", g.repo, "STATE", g.conf, "GIVEN", "KEY-OF-THIS-TEST", "VICTIM", victim).Replace(hostileSteps)
	g.setenv("SOME_TOKEN", "KEY-OF-THIS-TEST")
	g.write("build/Containerfile", steps)
	g.write(".env", "SECRET")
	g.write(".agentbox-build-script", "FROM scratch\n") // agentbox called its own so
	g.write(".gitignore", "*.log\n")
	g.write("ignored.log", "x")
	must(t, os.Symlink(g.conf, filepath.Join(g.repo, "away")))
	g.write(".agentbox/built.toml", "version = 1\nextends = \"shell\"\n[agent]\ncontainerfile = \"build/Containerfile\"\n"+
		"[[network.rule]]\naction = \"allow\"\nhost = \""+secureHost+"\"\n[[credential]]\nname = \"c\"\nsource = { env = \"SOME_TOKEN\" }\nhosts = [\""+secureHost+"\"]\nheader = \"X-Key: {token}\"\nenv = \"GIVEN_KEY\"\n")
	t.Cleanup(func() {
		g.agentbox("image", "prune", "--all").exits(0)
		_ = exec.Command("podman", "rmi", "-f", base.Ref).Run()
	})

	g.alone("run", "built", "--", "true").exits(126).says("runs the steps of build/Containerfile", "not trusted")
	g.alone("image", "build", "built").exits(1).says("runs the steps of build/Containerfile", "not trusted")
	if asked := g.Asked(); len(asked) > 0 || g.podman("images", "-q", "--filter", "label=agentbox.build") != "" {
		t.Fatalf("before anybody agreed, the registry was asked for %q", asked)
	}
	g.terminal("trust").expect("runs the steps of build/Containerfile").expect("[y/N]").send("y\r").ends(0)

	g.agentbox("run", "built", "--", "cat", "/got", "/files").exits(0).prints("hello /built\n.\n..\n.agentbox\n.agentbox-build-script\n.gitignore\nREADME.md\nbuild\n").
		says("build/Containerfile:2  RUN goclient", " of the build refused: agentbox events", "away leads out of the repository")
	g.builtEvents()
	again := g.agentbox("run", "built", "-q", "--", "cat", "/got").exits(0).prints("hello /built\n")
	if strings.Contains(again.err, "RUN goclient") {
		t.Errorf("the same was built again:\n%s", again.err)
	}
	g.builtImage()

	g.write("build/Containerfile", steps+"RUN touch /more\n")
	g.alone("run", "built", "--", "true").exits(126).says("runs other steps to build the image: build/Containerfile has changed")
}

// builtEvents holds the log of the build against what its steps tried.
func (g gallery) builtEvents() {
	g.t.Helper()
	logs, err := filepath.Glob(filepath.Join(filepath.Dir(g.conf), "state", "agentbox", "sessions", "*", "events.jsonl"))
	must(g.t, err)
	var all []event.Event
	for _, name := range logs {
		f, err := os.Open(name)
		must(g.t, err)
		if events := decode(g.t, f); len(events) > 0 && events[0].Detail["build"] != "" {
			all = append(all, events...)
		}
		must(g.t, f.Close())
	}
	allowed, refused := 0, 0
	for _, e := range ofKind(all, event.NetRequest) {
		if e.Host == secureHost && e.Decision == event.Allow && e.Path == "/built" {
			allowed++
		}
		if e.Credential != "" {
			g.t.Errorf("a credential took part in a build: %+v", e)
		}
	}
	for _, e := range all {
		if e.Decision == event.Deny {
			refused++
		}
	}
	if allowed != 1 || refused < 1 {
		g.t.Errorf("the build's log has %d allowed and %d refused requests:\n%+v", allowed, refused, all)
	}
}

// builtImage looks at what is kept of a build: neither what is for the steps alone nor what the image says of itself.
func (g gallery) builtImage() {
	g.t.Helper()
	var rows []struct{ ID, Profile, File string }
	must(g.t, json.Unmarshal([]byte(g.agentbox("image", "list", "--json").exits(0).out), &rows))
	if len(rows) != 1 || rows[0].Profile != "built" || rows[0].File != "build/Containerfile" {
		g.t.Fatalf("image list says %+v", rows)
	}
	config := g.podman("image", "inspect", "--format", "{{json .Config}}", rows[0].ID)
	for _, word := range []string{"127.0.0.1:3128", "agentbox-build", "SSL_CERT"} {
		if strings.Contains(config, word) {
			g.t.Errorf("the image's configuration has %q: %s", word, config)
		}
	}
	g.agentbox("image", "prune").exits(0).says("0 images removed")
}

// What fails, is refused or is killed is told of by its place, and nothing of it goes on.
func TestBuildsThatEnd(t *testing.T) {
	g := newGallery(t, false)
	base := g.base("team/base", nil)
	hostile := g.base("team/onbuild", map[string]any{"OnBuild": []string{"RUN --network=host touch /pwned"}})
	t.Cleanup(func() { _ = exec.Command("podman", "rmi", "-f", base.Ref, hostile.Ref).Run() })
	build := func(text string) *exec.Cmd {
		g.write("C", text)
		return g.command("image", "build", "--file", "C")
	}
	finish(t, build("FROM "+base.Ref+"\n\nRUN true && \\\n  echo this is why >&2; exit 3\n")).exits(1).says("this is why", "C:3: the step failed: exit status 3")
	finish(t, build("FROM "+hostile.Ref+"\n")).exits(1).says("C:1:", "ONBUILD")
	finish(t, build("FROM "+base.Ref+"\nRUN --network=host id\n")).exits(1).says("C:2: RUN --network is not supported")

	for _, how := range []os.Signal{os.Interrupt, os.Kill} {
		cmd := build("FROM " + base.Ref + "\nRUN echo begun-$((1+1)); sleep 31536000\n")
		out, err := cmd.StderrPipe()
		must(t, err)
		must(t, cmd.Start())
		for s := bufio.NewScanner(out); s.Scan() && !strings.Contains(s.Text(), "begun-2"); {
		}
		must(t, cmd.Process.Signal(how))
		_ = cmd.Wait()
		for steps(t) != "" { // the test's own time is the limit
			pause()
		}
		g.agentbox("ps").exits(0) // tidies after what was killed
		g.nothingLeft()
	}
}

// steps are processes of a build that goes on.
func steps(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	var found strings.Builder
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), "sleep\x0031536000") {
			fmt.Fprintln(&found, name)
		}
	}
	return found.String()
}
