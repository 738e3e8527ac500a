package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/test/registry"
)

// gallery is a site with a registry that its Podman trusts.
type gallery struct {
	*site
	*registry.Registry
}

func newGallery(t *testing.T, login bool) gallery {
	t.Helper()
	g := gallery{newSite(t), registry.Start(t, login)}
	g.setenv("SSL_CERT_FILE", g.Trusted())
	return g
}

// use makes a profile that runs in an image; what the image brings to the store goes with the test.
func (g gallery) use(profile string, p registry.Pushed) {
	g.t.Helper()
	g.profile(profile, `version = 1
[agent]
command = ["sh"]
image = "`+p.Ref+`"
[workspace]
caches = ["npm"]
[network]
default = "deny"
[[network.rule]]
action = "allow"
host = "`+secureHost+`"
`)
	g.t.Cleanup(func() { _ = exec.Command("podman", "rmi", "-f", p.Ref).Run() }) // it may never have come
}

// hostileImage has what an image may have and what a careless mount would follow, run, or be written through.
func (g gallery) hostileImage(stolen string) registry.Image {
	g.t.Helper()
	client := filepath.Join(g.t.TempDir(), "goclient")
	build := exec.Command("go", "build", "-o", client, "../clients/goclient")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		g.t.Fatalf("building the client: %v\n%s", err, out)
	}
	program, err := os.ReadFile(client)
	must(g.t, err)
	links := map[string]string{"etc/resolv.conf": "../run/systemd/resolve/stub.conf", "etc/passwd": stolen, "etc/hosts": stolen, "etc/group": "/proc/1/environ",
		"etc/mtab": "../proc/self/mounts", "etc/ssl/certs": "../pki/tls/certs", "etc/pki/tls/certs/ca-bundle.crt": "/etc/pki/ca-trust/own.pem", "etc/nsswitch.conf": "/"}
	files := append(g.Shell("sh", "cat", "id", "touch", "grep", "test", "mkdir", "ls"), registry.File{Path: "tools/"}, registry.File{Path: "tools/goclient", Content: program})
	for _, d := range []string{"etc/", "etc/ssl/", "etc/pki/", "etc/pki/tls/", "etc/pki/tls/certs/", "etc/pki/ca-trust/", "data/", "tmp/", "run/", "home/", "home/left/", "usr/", "usr/bin/"} {
		files = append(files, registry.File{Path: d})
	}
	for path, target := range links {
		files = append(files, registry.File{Path: path, Link: target})
	}
	files = append(files, registry.File{Path: "etc/pki/ca-trust/own.pem", Content: g.CA()}, registry.File{Path: "etc/motd", Content: []byte("own"), Mode: 0o644},
		registry.File{Path: "etc/shadow", Content: []byte("root:x"), Mode: 0o644}, registry.File{Path: "etc/secret", Content: []byte("x"), Mode: 0o600},
		registry.File{Path: "etc/ld.so.preload", Content: []byte("/x.so")}, registry.File{Path: "run/left", Content: []byte("x")}, registry.File{Path: "tmp/left", Content: []byte("x")},
		registry.File{Path: "usr/bin/up", Content: []byte("#!/bin/sh\n"), Mode: 0o4755})
	return registry.Image{Layers: [][]registry.File{files}, Docker: true, Config: map[string]any{
		"Env":  []string{"PATH=/tools:relative:/bin", "HTTPS_PROXY=http://203.0.113.1:1", "http_proxy=http://203.0.113.1:1", "SSL_CERT_FILE=/x", "SSL_CERT_DIR=/x", "JAVA_HOME=/x", "LD_PRELOAD=/x.so", "HOME=/root"},
		"User": "0:0", "Entrypoint": []string{"/bin/false"}, "Cmd": []string{"/bin/false"}, "WorkingDir": "/nowhere",
		"Volumes": map[string]any{"/data": map[string]any{}}, "Labels": map[string]string{"agentbox.run": "none"},
		"Healthcheck": map[string]any{"Test": []string{"CMD", "/bin/false"}, "Interval": 1_000_000_000}}}
}

const insideImage = `bad() { echo "bad: $*"; }
[ "$(id -u)" = UID ] || bad uid
[ "$PATH" = /tools:/bin ] && [ "$JAVA_HOME" = /x ] && [ "$LD_PRELOAD" = /x.so ] && [ "$HOME" != /root ] || bad what of the environment is taken
[ "$HTTPS_PROXY$http_proxy" = http://127.0.0.1:3128http://127.0.0.1:3128 ] && [ -z "$SSL_CERT_DIR" ] || bad what is agentbox\'s
[ "$PWD" = REPO ] || bad directory
[ "$(cat /etc/motd)" = own ] || bad its etc
for f in /etc/shadow /etc/secret /etc/ld.so.preload /run/left /tmp/left /home/left /usr/bin/python3 /usr/lib /run/systemd; do [ ! -e $f ] || bad $f is there; done
for d in / /etc /data /tools /usr/bin; do touch $d/x 2>/dev/null && bad $d can be written to; done
for d in /tmp /run/user/UID /var/tmp ~ .; do touch $d/x || bad $d cannot be written to; done
grep -q 'nameserver 127.0.0.1' /etc/resolv.conf && grep -q ":UID:" /etc/passwd && grep -q agentbox /etc/hosts || bad the names
for b in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-bundle.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do [ "$(grep -c BEGIN $b)" = 2 ] || bad bundle $b; done
grep -q ' / / ro\| / overlay ro\|overlay / overlay ro' /proc/mounts || bad root
touch ~/.npm/_cacache/x || bad cache
[ -e .env ] && [ ! -s .env ] || bad a hidden file
goclient https://HOST/image || bad a listed name
goclient https://unlisted.example.org/ 2>/dev/null && bad an unlisted name
echo done >made
`

// An image is a root like the host's own: the same boundary, and nothing that it says about how to run it counts.
func TestRunInAnImage(t *testing.T) {
	g := newGallery(t, true)
	stolen := filepath.Join(g.conf, "stolen")
	g.write(".env", "SECRET=x\n")
	p := g.Push("team/tools", g.hostileImage(stolen))
	g.use("inside", p)
	g.setenv("REGISTRY_AUTH_FILE", g.Login(registry.Password))
	script := strings.NewReplacer("UID", fmt.Sprint(os.Getuid()), "REPO", g.repo, "HOST", secureHost).Replace(insideImage)

	before := g.agentbox("run", "inside", "--dry-run", "--json").exits(0).out
	g.agentbox("run", "inside", "--", "-c", script).exits(0).prints("hello /image\n").says("pulling "+p.Ref, "pulled "+p.Ref)
	g.takeAll()
	if g.read("made") != "done\n" {
		t.Error("what was written in the repository did not come back")
	}
	if _, err := os.Lstat(stolen); err == nil {
		t.Error("a link of the image was followed on the host")
	}
	all := g.events()
	if pulled := ofKind(all, event.ImagePulled); len(pulled) != 1 || pulled[0].Path != p.Ref || pulled[0].Detail["digest"] != p.Digest || pulled[0].Size == 0 || pulled[0].Detail["id"] == "" {
		t.Errorf("events of the pull: %+v", pulled)
	}
	for _, e := range all {
		if text, err := json.Marshal(e); err != nil || strings.Contains(string(text), registry.Password) {
			t.Errorf("an event holds the registry's password: %v", err)
		}
	}
	if tested := ofKind(all, event.RunSelfTest); len(tested) != 1 || tested[0].Detail["checks"] != "16" {
		t.Errorf("the self-test is not that of every run: %+v", tested)
	}
	g.planned(before, p)
	g.Asked()
	// It is there now, so that nobody is asked; and what it does not have is not the host's.
	g.agentbox("run", "inside", "-q", "--pull", "never", "--", "-c", "exit 7").exits(7)
	g.profile("without", "version = 1\n[agent]\ncommand = [\"python3\"]\nimage = \""+p.Ref+"\"\n[network]\ndefault = \"deny\"\n")
	g.agentbox("run", "without", "--pull", "never").exits(127).says(`"python3" is not found`, "in the image", "nothing of this machine")
	if asked := g.Asked(); len(asked) != 0 {
		t.Errorf("of an image that is here: the registry was asked for %q", asked)
	}
	g.agentbox("run", "inside", "-q", "--pull", "newer", "--", "-c", "true").exits(0)
	if asked := g.Asked(); !slices.Contains(asked, "GET /v2/team/tools/manifests/"+p.Digest) || slices.Contains(asked, "GET /v2/team/tools/blobs/"+p.Layers[0]) {
		t.Errorf("--pull newer asks for %q", asked)
	}
}

// planned checks what plans say of the image, before and after it is here: the same grants.
func (g gallery) planned(before string, p registry.Pushed) {
	g.t.Helper()
	var was, is plan.Plan
	must(g.t, json.Unmarshal([]byte(before), &was))
	must(g.t, json.Unmarshal([]byte(g.agentbox("run", "inside", "--dry-run", "--json").exits(0).out), &is))
	if was.Hash != is.Hash || was.Binding.Image.ID != "" || was.Binding.Image.Digest != p.Digest {
		g.t.Errorf("the plan before: %s %+v", was.Hash, was.Binding.Image)
	}
	i := is.Binding.Image
	if i.Name != p.Ref || i.Digest != p.Digest || i.ID == "" || i.Size == 0 || i.Arch != runtime.GOARCH || !slices.Equal(i.Env, []string{"JAVA_HOME", "LD_PRELOAD"}) {
		g.t.Errorf("the plan says of the image %+v", i)
	}
	for _, word := range []string{"USER 0:0", "ENTRYPOINT and CMD", "VOLUME /data", "HEALTHCHECK", "ENV HTTPS_PROXY"} {
		if !slices.Contains(i.Ignored, word) {
			g.t.Errorf("the plan does not say that %s is ignored: %q", word, i.Ignored)
		}
	}
}

// What is not to be had, or is not what was asked for, is said in words, and no agent is started.
func TestImagesThatAreRefused(t *testing.T) {
	g := newGallery(t, true)
	small := [][]registry.File{g.Shell("sh", "true")}
	slow := g.Push("team/slow", registry.Image{Layers: [][]registry.File{{{Path: "slow", Content: []byte("slow")}}}})
	good := g.Push("team/a", registry.Image{Layers: small, Annotations: map[string]string{"org.opencontainers.image.title": "x"}})
	other := g.Push("team/b", registry.Image{Layers: small, Arch: "s390x"})
	index := g.Index("team/b", map[string]registry.Pushed{"s390x": other})
	ordering := g.Push("team/c", registry.Image{Layers: small, Annotations: map[string]string{"run.oci.keep_original_groups": "1"}})
	nowhere := registry.Pushed{Ref: g.Addr + "/team/a@sha256:" + strings.Repeat("0", 64)}
	wrong, right := g.Login("wr0ng"), g.Login(registry.Password)
	t.Run("a repository that nobody trusts", func(t *testing.T) {
		layer := filepath.Join(g.repo, "agentbox.toml")
		must(t, os.WriteFile(layer, []byte("version = 1\n[agent]\nimage = \""+good.Ref+"\"\n"), 0o600))
		for _, args := range [][]string{{"--dry-run"}, {"--pull", "newer", "--", "true"}} {
			g.alone(append([]string{"run", "shell"}, args...)...).exits(126).says("agentbox trust", good.Ref)
		}
		if asked := g.Asked(); len(asked) != 0 {
			t.Errorf("its registry was asked for %q", asked)
		}
		must(t, os.Remove(layer))
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		g.use("inside", slow)
		held := g.Hold(slow.Layers[0])
		cmd := g.command("run", "inside")
		cmd.Env = append(slices.Clone(cmd.Env), "REGISTRY_AUTH_FILE="+right)
		finishWith(t, cmd, func() {
			<-held
			_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		}).exits(130).says("before the agent started")
	})
	for _, c := range []struct {
		name  string
		p     registry.Pushed
		login string
		args  []string
		code  int
		says  string
	}{
		{"not here", good, right, []string{"--pull", "never"}, 126, "podman pull"},
		{"no login", good, "", nil, 125, "podman login " + g.Addr},
		{"a wrong password", good, wrong, nil, 125, "podman login " + g.Addr},
		{"no such digest", nowhere, right, nil, 125, "has no image with this digest"},
		{"another machine", other, right, nil, 126, "is for linux/s390x"},
		{"an index for another machine", index, right, nil, 126, "that of an index"},
		{"orders for the runtime", ordering, right, nil, 126, "run.oci.keep_original_groups"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.use("inside", c.p)
			env := g.env
			defer func() { g.env = env }()
			if c.login != "" {
				g.setenv("REGISTRY_AUTH_FILE", c.login)
			}
			r := g.agentbox(append([]string{"run", "inside"}, append(c.args, "--", "-c", "true")...)...).exits(c.code).says(c.says)
			if strings.Contains(r.err+r.out, registry.Password) || strings.Contains(r.err+r.out, "wr0ng") {
				t.Errorf("a password is shown:\n%s", r.err)
			}
		})
	}
}

// Links where mounts belong take them nowhere: either the run is as always, or it is none.
func TestImagesWithLinksWhereMountsBelong(t *testing.T) {
	g := newGallery(t, false)
	for _, c := range []struct {
		link, target string
		runs         bool
	}{
		{"var/tmp", "/tmp", true}, {"etc", "usr/etc", false}, {"home", "/etc", false}, {"run", "/tmp", false}, {"tmp", "/proc/1/root/tmp", false},
	} {
		t.Run(c.link, func(t *testing.T) {
			files := append(g.Shell("sh", "true"), registry.File{Path: "var/"}, registry.File{Path: "usr/"}, registry.File{Path: "usr/etc/"}, registry.File{Path: c.link, Link: c.target})
			g.use("inside", g.Push("team/"+c.link, registry.Image{Layers: [][]registry.File{files}}))
			r := g.agentbox("run", "inside", "--", "-c", "echo ran")
			switch {
			case c.runs:
				r.exits(0).prints("ran\n")
			case r.code != 125 && r.code != 126 || r.out != "":
				t.Errorf("exit code %d, stdout %q\n%s", r.code, r.out, r.err)
			}
		})
	}
}
