package rootfs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// newHost lays a small merged-usr host and returns the directory that stands for its root.
func newHost(t *testing.T, files map[string]string) string {
	t.Helper()
	h := t.TempDir()
	put(t, h, map[string]string{
		"/usr/bin/bash": "x", "/usr/lib/libc.so": "x", "/usr/share/zoneinfo/UTC": "tz", "/usr/local/bin/.keep": "",
		"/etc/services": "http 80/tcp\n", "/etc/shadow": "root:hash", "/etc/alternatives/vi": "->/usr/bin/vim", "/tmp/.keep": "",
		"/bin": "->usr/bin", "/sbin": "->usr/sbin", "/lib": "->usr/lib", "/etc/localtime": "->/usr/share/zoneinfo/UTC",
		"/home/ada/.ssh/id": "key", "/var/lib/x": "x",
		"/etc/ssl/certs/ca-certificates.crt": string(newCA(t, "System Root")),
	})
	put(t, h, files)
	return h
}

// put writes files; a content "->x" is a link to x, one that starts with "#!" is executable.
func put(t *testing.T, h string, files map[string]string) {
	t.Helper()
	for p, content := range files {
		p = filepath.Join(h, p)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		for d := filepath.Dir(p); len(d) > len(h); d = filepath.Dir(d) {
			must(t, os.Chmod(d, 0o755)) // whatever the umask
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(target, p))
			continue
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(content, "#!") || strings.HasPrefix(content, "\x7fELF") {
			mode = 0o755
		}
		must(t, os.WriteFile(p, []byte(content), mode))
		must(t, os.Chmod(p, mode))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newCA(t testing.TB, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Agent  Box"}},
		NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func options(t *testing.T, h string) Options {
	return Options{
		Host: h, Hostname: "agentbox", CA: newCA(t, "agentbox run"),
		User: User{UID: 4242, GID: 4242, Name: "ada", Group: "ada", Home: "/home/ada"},
	}
}

func build(t *testing.T, opt Options) Tree {
	t.Helper()
	tree, err := Build(filepath.Join(t.TempDir(), "skeleton"), opt)
	must(t, err)
	return tree
}

// view resolves paths as a process in the container would: a path belongs to the deepest mount above it.
type view struct{ tree Tree }

func (v view) source(p string) string {
	at, source := "/", v.tree.Root
	for _, m := range v.tree.Mounts {
		if within(p, m.Target) && (at == "/" || within(m.Target, at)) {
			at, source = m.Target, m.Source
			if m.Type == "tmpfs" {
				source = filepath.Join(v.tree.Root, m.Target) // tmpcopyup
			}
		}
	}
	return filepath.Join(source, strings.TrimPrefix(p, at))
}

func (v view) read(p string) ([]byte, error) {
	real, err := v.resolve(p)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(v.source(real))
}

func (v view) resolve(p string) (string, error) {
	todo, at := components(p), "/"
	for n := 0; len(todo) > 0; {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		info, err := os.Lstat(v.source(next))
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if n++; n > 40 {
			return "", errTooManyLinks
		}
		target, err := os.Readlink(v.source(next))
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(components(target), todo...)
	}
	return at, nil
}

func text(t *testing.T, v view, p string) string {
	t.Helper()
	data, err := v.read(p)
	must(t, err)
	return string(data)
}

func TestBuildShowsOnlyWhatIsListed(t *testing.T) {
	h := newHost(t, map[string]string{
		"/etc/sudoers": "secret", "/etc/npmrc": "secret", "/etc/ssl/private/key.pem": "secret",
		"/root/x": "secret", "/home/bob/x": "secret", "/srv/x": "secret", "/etc/ssh/key": "secret", "/opt/t/bin/x": "secret",
		"/etc/profile": "secret", "/etc/unknown.conf": "secret", "/var/lib/db": "secret",
	})
	opt := options(t, h)
	opt.Repo = "/home/ada/src/app"
	v := view{build(t, opt)}
	for _, p := range []string{
		"/etc/shadow", "/etc/sudoers", "/etc/npmrc", "/etc/ssl/private/key.pem", "/root/x", "/root", "/home/bob",
		"/srv", "/etc/ssh", "/etc/profile", "/etc/unknown.conf", "/var/lib/db", "/home/ada/.ssh", "/opt",
	} {
		if _, err := v.read(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is visible: %v", p, err)
		}
	}
	for p, want := range map[string]string{
		"/bin/bash": "x", "/etc/services": "http 80/tcp\n", "/etc/localtime": "tz", "/lib/libc.so": "x",
	} {
		if got := text(t, v, p); got != want {
			t.Errorf("%s is %q", p, got)
		}
	}
	if target, err := os.Readlink(v.source("/etc/alternatives/vi")); err != nil || target != "/usr/bin/vim" {
		t.Errorf("alternatives: %q, %v", target, err)
	}
}

func TestBuildMakesEveryMountPoint(t *testing.T) {
	h := newHost(t, map[string]string{"/home/ada/.nvm/x": "", "/home/ada/.local/bin/tool": "", "/home/ada/src/app/.git/config": ""})
	opt := options(t, h)
	opt.Roots = []string{"/home/ada/.nvm", "/home/ada/.local/bin"}
	opt.Repo = "/home/ada/src/app"
	opt.Points = []Point{{"/run/agentbox/shim", false}, {"/run/agentbox/sock", true}}
	opt.Files = []File{{Path: "~/.claude.json", Content: []byte("{}")}, {Path: "~/.config/x/y", Content: []byte("z"), Mode: 0o644}}
	tree := build(t, opt)
	targets := []string{"/proc", "/sys", "/dev", "/run/agentbox/shim", "/run/agentbox/sock", opt.Repo}
	for _, m := range tree.Mounts {
		targets = append(targets, m.Target)
	}
	for _, p := range targets {
		if p == "/dev/shm" { // in the engine's own /dev
			continue
		}
		if _, err := os.Lstat(filepath.Join(tree.Root, p)); err != nil {
			t.Errorf("no mount point: %v", err)
		}
	}
	v := view{tree}
	if got := text(t, v, "/home/ada/.config/x/y"); got != "z" {
		t.Errorf("seeded %q", got)
	}
	info, err := os.Stat(filepath.Join(tree.Home, ".claude.json"))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("seeded with mode %v", info.Mode())
	}
	dir := filepath.Dir(tree.Root)
	must(t, os.RemoveAll(dir))
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestBuildMountsInOrderAndReadOnly(t *testing.T) {
	h := newHost(t, map[string]string{"/home/ada/.nvm/x": ""})
	opt := options(t, h)
	opt.Roots = []string{"/home/ada/.nvm"}
	opt.Sizes.Tmp = 1 << 20
	var targets []string
	for _, m := range build(t, opt).Mounts {
		for _, earlier := range targets {
			if m.Target != earlier && within(earlier, m.Target) {
				t.Errorf("%s would hide %s", m.Target, earlier)
			}
		}
		targets = append(targets, m.Target)
		if m.Type == "bind" && (!m.ReadOnly || !slices.Contains(m.Options, "ro")) {
			t.Errorf("%s may be written", m.Target)
		}
		if m.Type == "tmpfs" && !slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "size=") }) {
			t.Errorf("%s is not bounded", m.Target)
		}
		if m.Target == "/tmp" && !slices.Contains(m.Options, "size=1048576") {
			t.Errorf("/tmp: %v", m.Options)
		}
	}
	for _, p := range []string{"/usr", "/tmp", "/var/tmp", "/home/ada", "/run", "/dev/shm", "/home/ada/.nvm", "/etc/hosts", "/etc/resolv.conf"} {
		if !slices.Contains(targets, p) {
			t.Errorf("%s is not mounted", p)
		}
	}
}

func TestBuildGeneratesIdentity(t *testing.T) {
	opt := options(t, newHost(t, nil))
	opt.Hosts = []HostLine{{"api.example.com", netip.MustParseAddr("127.70.0.1")}}
	v := view{build(t, opt)}
	for p, want := range map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nada:x:4242:4242:ada:/home/ada:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"/etc/group":         "root:x:0:\nada:x:4242:\ntty:x:5:\nnogroup:x:65534:\n",
		"/etc/hosts":         "127.0.0.1\tlocalhost\n127.0.0.1\tagentbox\n::1\tip6-localhost ip6-loopback\n127.70.0.1\tapi.example.com\n",
		"/etc/resolv.conf":   "nameserver 127.0.0.1\noptions timeout:3 attempts:2\n",
		"/etc/hostname":      "agentbox\n",
		"/run/.containerenv": "",
	} {
		if got := text(t, v, p); got != want {
			t.Errorf("%s is\n%s", p, got)
		}
	}
	if !strings.Contains(text(t, v, "/etc/nsswitch.conf"), "\nhosts: files dns\n") {
		t.Error("nsswitch.conf names other sources of hosts")
	}
}

func TestBuildRefuses(t *testing.T) {
	h := newHost(t, map[string]string{
		"/srv/home": "->/home", "/evil": "->/home/ada", "/home/ada/.nvm/x": "", "/usr/home/ada/x": "",
		"/u": "->/usr/home",
	})
	key := []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	for name, change := range map[string]func(*Options){
		"a root that is home":            func(o *Options) { o.Roots = []string{"/home/ada"} },
		"a root above home":              func(o *Options) { o.Roots = []string{"/home"} },
		"a root that links to home":      func(o *Options) { o.Roots = []string{"/evil"} },
		"a root that links above home":   func(o *Options) { o.Roots = []string{"/srv/home"} },
		"the whole host":                 func(o *Options) { o.Roots = []string{"/"} },
		"a relative root":                func(o *Options) { o.Roots = []string{"x"} },
		"an unclean root":                func(o *Options) { o.Roots = []string{"/opt/../home"} },
		"a root in /etc":                 func(o *Options) { o.Roots = []string{"/etc/shadow"} },
		"a repo in /proc":                func(o *Options) { o.Repo = "/proc/1/root" },
		"home as the repo":               func(o *Options) { o.Repo = "/home/ada" },
		"a missing root":                 func(o *Options) { o.Roots = []string{"/opt/gone"} },
		"root":                           func(o *Options) { o.User.UID = 0 },
		"a name with a line":             func(o *Options) { o.User.Name = "ada\nroot" },
		"a name with a field":            func(o *Options) { o.User.Name = "ada:x:0" },
		"a host name with a line":        func(o *Options) { o.Hostname = "x\n1.2.3.4 y" },
		"a home that is shown whole":     func(o *Options) { o.User.Home = "/usr/home/ada" },
		"a home that links there":        func(o *Options) { o.User.Home = "/u/ada" },
		"a key beside the certificate":   func(o *Options) { o.CA = append(o.CA, key...) },
		"no certificate":                 func(o *Options) { o.CA = nil },
		"a hosts line off loopback":      func(o *Options) { o.Hosts = []HostLine{{"x.test", netip.MustParseAddr("10.0.0.1")}} },
		"a hosts line with a line":       func(o *Options) { o.Hosts = []HostLine{{"x\ny", netip.MustParseAddr("127.1.0.1")}} },
		"a seed outside home":            func(o *Options) { o.Files = []File{{Path: "~/../bob/x"}} },
		"a seed in the system":           func(o *Options) { o.Files = []File{{Path: "/etc/passwd"}} },
		"a seed in what is read-only":    func(o *Options) { o.Roots = []string{"/home/ada/.nvm"}; o.Files = []File{{Path: "~/.nvm/x"}} },
		"a seed that is a directory too": func(o *Options) { o.Files = []File{{Path: "~/a/b"}, {Path: "~/a"}} },
	} {
		opt := options(t, h)
		change(&opt)
		if tree, err := Build(filepath.Join(t.TempDir(), "s"), opt); err == nil {
			t.Errorf("%s: built %v", name, tree.Mounts)
		}
	}
}

func TestBuildKeepsAnExistingDirectory(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"/kept": "x"})
	if _, err := Build(dir, options(t, newHost(t, nil))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("built in a directory that was there: %v", err)
	}
}

func TestBuildMasksCredentials(t *testing.T) {
	h := newHost(t, map[string]string{
		"/home/ada/.nvm/.npmrc": "token", "/home/ada/.nvm/private/key": "token", "/home/ada/.nvm/link": "->.npmrc", "/home/ada/.nvm/node": "ok",
	})
	opt := options(t, h)
	opt.Roots = []string{"/home/ada/.nvm"}
	opt.Masked = []string{"/home/ada/.nvm/link", "/home/ada/.nvm/private", "/home/ada/.nvm/gone"}
	v := view{build(t, opt)}
	if got := text(t, v, "/home/ada/.nvm/.npmrc"); got != "" {
		t.Errorf("read %q", got)
	}
	if _, err := v.read("/home/ada/.nvm/private/key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read a masked directory: %v", err)
	}
	if got := text(t, v, "/home/ada/.nvm/node"); got != "ok" {
		t.Errorf("node is %q", got)
	}
}

func TestBuildLeavesOutWhatIsNotRoots(t *testing.T) {
	h := newHost(t, map[string]string{"/etc/timezone": "x", "/etc/inputrc": "x", "/etc/mailcap": "->/etc/shadow", "/etc/magic": "->/srv/m", "/srv/m": "x"})
	must(t, os.Chmod(filepath.Join(h, "etc/timezone"), 0o640))
	must(t, os.Chmod(filepath.Join(h, "etc/inputrc"), 0o666))
	must(t, os.Chmod(filepath.Join(h, "srv/m"), 0o600))
	tree := build(t, options(t, h))
	for _, p := range []string{"/etc/timezone", "/etc/inputrc", "/etc/mailcap", "/etc/magic"} {
		if _, err := (view{tree}).read(p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is visible: %v", p, err)
		}
	}
	if len(tree.Warnings) != 4 {
		t.Errorf("warned %q", tree.Warnings)
	}
}

func TestAuditRefusesWhatIsNotRoots(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(p, nil, 0o644))
	if os.Geteuid() == 0 {
		must(t, os.Chown(p, 1, 1))
	}
	if err := host("/").audited(p); err == nil || !strings.Contains(err.Error(), "belong") {
		t.Errorf("a file of someone else is fit to be shown: %v", err)
	}
}

func TestBuildShowsSubmountsReadOnly(t *testing.T) {
	h := newHost(t, nil)
	put(t, h, map[string]string{
		"/usr/local/a b/x": "", "/proc/self/mountinfo": "1 2 0:1 / " + h + `/usr/local/a\040b rw - ext4 /dev/x rw` + "\n3 2 0:1 / /srv rw - ext4 x rw\n",
	})
	i := slices.IndexFunc(build(t, options(t, h)).Mounts, func(m Mount) bool { return m.Target == "/usr/local/a b" })
	if i < 0 {
		t.Fatal("what is mounted below /usr stays writable")
	}
}

func TestBuildFollowsTheHostsLinks(t *testing.T) {
	h := newHost(t, map[string]string{"/var/home/bea/.nvm": "->/data/nvm", "/data/nvm/node": "n", "/u": "->var/home"})
	opt := options(t, h)
	opt.User.Home = "/u/bea"
	opt.Repo = "/u/bea/app"
	opt.Roots = []string{"/u/bea/.nvm"}
	v := view{build(t, opt)}
	if got := text(t, v, "/u/bea/.nvm/node"); got != "n" {
		t.Errorf("node is %q", got)
	}
	if real, err := v.resolve("/u/bea/app"); err != nil || real != "/var/home/bea/app" {
		t.Errorf("the repo is at %q, %v", real, err)
	}
}

func TestBuildOnAHostThatIsNotMerged(t *testing.T) {
	h := t.TempDir()
	put(t, h, map[string]string{"/usr/bin/env": "x", "/bin/sh": "x", "/lib/ld-musl-x86_64.so.1": "x", "/etc/services": "x"})
	tree := build(t, options(t, h))
	if got := text(t, view{tree}, "/bin/sh"); got != "x" {
		t.Errorf("/bin/sh is %q", got)
	}
	if !slices.ContainsFunc(tree.Warnings, func(w string) bool { return strings.Contains(w, "certificate bundle") }) {
		t.Errorf("no word of the missing bundle: %q", tree.Warnings)
	}
}

func TestCertificates(t *testing.T) {
	h := newHost(t, map[string]string{
		"/usr/lib/jvm/a/lib/security/cacerts": "theirs", "/usr/lib/jvm/b/lib/security/cacerts": "->/etc/ssl/certs/java/cacerts",
		"/home/ada/.jdks/c/lib/security/cacerts": "theirs", "/etc/pki/tls/certs/x": "", "/etc/ssl/certs/java/cacerts": "theirs",
	})
	opt := options(t, h)
	opt.Roots = []string{"/home/ada/.jdks"}
	v := view{build(t, opt)}
	system, err := os.ReadFile(filepath.Join(h, bundlePath))
	must(t, err)
	for _, p := range []string{bundlePath, "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"} {
		if got := text(t, v, p); got != string(system)+string(opt.CA) {
			t.Errorf("%s is %q", p, got)
		}
	}
	if got := text(t, v, ownCAPath); got != string(opt.CA) {
		t.Errorf("the run's own is %q", got)
	}
	store := text(t, v, "/etc/ssl/certs/java/cacerts")
	for _, der := range certificates(append(system, opt.CA...)) {
		if !bytes.Contains([]byte(store), der) {
			t.Error("a certificate is missing from Java's key store")
		}
	}
	for _, p := range []string{"/usr/lib/jvm/a", "/usr/lib/jvm/b", "/home/ada/.jdks/c"} {
		if text(t, v, p+"/lib/security/cacerts") != store {
			t.Errorf("the JDK at %s does not know the run's CA", p)
		}
	}
}

// The subject is that of ISRG Root X1, the hash is what openssl x509 -subject_hash says.
func TestSubjectHash(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{
		Country: []string{"US"}, Organization: []string{"Internet Security Research Group"}, CommonName: "ISRG Root X1",
	}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	if got, err := subjectHash(cert); err != nil || got != "4042bcee" {
		t.Errorf("hash is %s, %v", got, err)
	}
}

func BenchmarkBuild(b *testing.B) {
	opt := Options{Hostname: "agentbox", CA: newCA(b, "agentbox run"), User: User{UID: 4242, GID: 4242, Name: "ada", Group: "ada", Home: "/home/ada"}}
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		_, err := Build(filepath.Join(dir, strconv.Itoa(i)), opt)
		must(b, err)
	}
}
