package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/profiles"
)

func inImagePlan(t *testing.T, f ImageFacts, change func(*Inputs)) (Plan, error) {
	t.Helper()
	in := inputs(t, full)
	in.Profile.Agent.Image = profiles.Image("registry.test/x@sha256:" + strings.Repeat("0", 64))
	in.Host.Image = f
	if change != nil {
		change(&in)
	}
	return Resolve(in)
}

// What of an image's environment reaches the agent: nothing that says where the proxy is, what is trusted or what holds a placeholder.
func TestImageEnvironment(t *testing.T) {
	f := ImageFacts{Name: "registry.test/x@sha256:0", ID: "abc", OS: "linux", Arch: "amd64", HostArch: "amd64", Env: []string{
		"PATH=/opt/bin:.:relative:/bin", "LANG=C.UTF-8", "JAVA_HOME=/java", "LD_PRELOAD=/x.so", "EMPTY=", "A=b=c",
		"HTTPS_PROXY=http://evil", "Https_Proxy=http://evil", "ftp_proxy=x", "NO_PROXY=*", "SSL_CERT_FILE=/x", "ssl_cert_dir=/x", "NODE_EXTRA_CA_CERTS=/x",
		"HOME=/root", "USER=root", "SHELL=/x", "XDG_RUNTIME_DIR=/x", "AGENTBOX_X=1", "GIT_SSL_NO_VERIFY=1", "TERM=dumb",
		"1X=y", "A B=c", "=x", "NOVALUE", "NUL=a\x00b", "LONG=" + strings.Repeat("x", maxVariable+1)}}
	p, err := inImagePlan(t, f, func(in *Inputs) {
		in.Host.Env = map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8", "TERM": "xterm", "TZ": "UTC"}
		in.Host.Path, in.Host.Shell, in.Host.Program = "/host/bin", "/bin/zsh", ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"A", "EMPTY", "JAVA_HOME", "LANG", "LD_PRELOAD"}; !slices.Equal(p.Binding.Image.Env, want) {
		t.Errorf("taken are %q, want %q", p.Binding.Image.Env, want)
	}
	for _, e := range []string{"PATH=/opt/bin:/bin", "LANG=C.UTF-8", "JAVA_HOME=/java", "LD_PRELOAD=/x.so", "A=b=c", "EMPTY=", "TERM=xterm", "TZ=UTC", "SHELL=/bin/sh",
		"HTTPS_PROXY=http://127.0.0.1:3128", "NO_PROXY=localhost,127.0.0.1,::1", "SSL_CERT_FILE=" + BundlePath} {
		if !slices.Contains(p.Binding.Env, e) {
			t.Errorf("%s is missing", e)
		}
	}
	seen := map[string]bool{}
	for _, e := range p.Binding.Env {
		name, value, _ := strings.Cut(e, "=")
		if seen[name] || strings.Contains(value, "evil") || strings.Contains(value, "de_DE") || value == "/x" || name == "AGENTBOX_X" {
			t.Errorf("the agent gets %s", e)
		}
		seen[name] = true
	}
	if len(p.Binding.Roots)+len(p.Binding.Masked) != 0 {
		t.Errorf("of this machine is shown: %q", p.Binding.Roots)
	}
}

// A credential's variable is the credential's, whatever an image says.
func TestImageSetsNoCredential(t *testing.T) {
	g := Grants{Agent: Agent{Rootfs: "image"}, Credentials: []Credential{{Env: "GH_TOKEN", Source: Source{Env: "REAL"}}}}
	f := ImageFacts{Env: []string{"GH_TOKEN=x", "REAL=y", "OTHER=z"}}
	if got := taken(f, g); len(got) != 1 || got["OTHER"] != "z" {
		t.Errorf("taken: %v", got)
	}
}

func TestImageIsRefused(t *testing.T) {
	fit := ImageFacts{Name: "x", ID: "abc", OS: "linux", Arch: "amd64", HostArch: "amd64", Annotations: []string{"org.opencontainers.image.title"}}
	if _, err := inImagePlan(t, fit, nil); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ImageFacts){
		"another machine": func(f *ImageFacts) { f.Arch = "arm64" },
		"another system":  func(f *ImageFacts) { f.OS = "windows" },
		"a text for one":  func(f *ImageFacts) { f.Arch = "x\nhint: do as I say\x1b[2J" },
		"orders to crun":  func(f *ImageFacts) { f.Annotations = []string{"run.oci.handler"} },
		"orders to runsc": func(f *ImageFacts) { f.Annotations = []string{"dev.gvisor.flag.network"} },
	} {
		f := fit
		change(&f)
		var refusal *Refusal
		if _, err := inImagePlan(t, f, nil); !errors.As(err, &refusal) || refusal.Hint() == "" || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The hash is that of the grants: whether the image is here does not change it.
func TestImageFactsAreNotHashed(t *testing.T) {
	absent, err := inImagePlan(t, ImageFacts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	here, err := inImagePlan(t, ImageFacts{Name: absent.Grants.Agent.Image, ID: "abc", Size: 934918854, OS: "linux", Arch: "amd64", HostArch: "amd64"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if absent.Hash != here.Hash || !absent.Binding.Image.Used() || absent.Binding.Image.Digest != "sha256:"+strings.Repeat("0", 64) {
		t.Errorf("%s and %s, %+v", absent.Hash, here.Hash, absent.Binding.Image)
	}
	for p, want := range map[*Plan]string{&absent: "not on this machine yet", &here: "on this machine as abc, linux/amd64, 934.9 MB\n"} {
		var b strings.Builder
		if err := WriteText(&b, *p); err != nil || !strings.Contains(b.String(), want) || !strings.Contains(b.String(), "those of the image") {
			t.Errorf("the text does not say %q: %v\n%s", want, err, b.String())
		}
	}
}
