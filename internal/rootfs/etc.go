package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// copied is the size in bytes up to which a file is copied rather than bound: a mount costs more.
const copied = 64 << 10

// RuntimeDir is XDG_RUNTIME_DIR inside.
func RuntimeDir(u User) string { return "/run/user/" + strconv.Itoa(u.UID) }

func (b *builder) etc() error {
	for _, e := range b.entries {
		if e.verb != lay {
			continue
		}
		for _, p := range b.host.glob(e.path) {
			if err := b.lay(p); err != nil {
				return fmt.Errorf("laying %s: %w", p, err)
			}
		}
	}
	if err := b.generated(); err != nil {
		return err
	}
	if err := os.Symlink("/proc/mounts", filepath.Join(b.root, "etc/mtab")); err != nil {
		return err
	}
	// the engine writes the host's into these, unless they are mounts
	for _, p := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv"} {
		b.mounts = append(b.mounts, bindMount(filepath.Join(b.root, p), p))
	}
	return b.certificates()
}

// lay shows one path of the list, when the host has it and it is fit to be seen.
func (b *builder) lay(p string) error {
	real, hops, err := b.host.resolve(p)
	if err != nil {
		return nil // the host has it not, or as a link to nowhere
	}
	if len(hops) > 0 && withinAny(real, b.binds) {
		return b.symlink(real, p)
	}
	if err := b.fit(p, real); err != nil {
		b.warnings = append(b.warnings, fmt.Sprintf("%s is not shown: %v", p, err))
		return nil
	}
	info, err := b.host.lstat(real)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Size() > copied {
		return b.layBind(real, p, info.IsDir())
	}
	content, err := os.ReadFile(b.host.real(real))
	if err != nil {
		return err
	}
	if err := b.parent(p); err != nil {
		return err
	}
	return b.file(p, content, 0o644)
}

// fit refuses a link of the list that leads to something that is not on the list itself.
func (b *builder) fit(p, real string) error {
	if real != p {
		if e, ok := classify(b.entries, real); ok && e.verb == never {
			return fmt.Errorf("it leads to %s", real)
		}
	}
	return b.host.audited(real)
}

func (b *builder) layBind(real, p string, dir bool) error {
	if err := b.parent(p); err != nil {
		return err
	}
	if err := b.make(p, dir); err != nil {
		return err
	}
	b.binds = append(b.binds, p)
	b.mounts = append(b.mounts, bindMount(b.host.real(real), p))
	return nil
}

func (b *builder) parent(p string) error {
	return os.MkdirAll(filepath.Join(b.root, filepath.Dir(p)), 0o755)
}

func (b *builder) symlink(target, p string) error {
	if err := b.parent(p); err != nil {
		return err
	}
	return os.Symlink(target, filepath.Join(b.root, p))
}

func (b *builder) generated() error {
	files, err := b.generatedFiles()
	if err != nil {
		return err
	}
	for p, content := range files {
		if err := b.file(p, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generatedFiles are those of /etc that are made for each run.
func (b *builder) generatedFiles() (map[string][]byte, error) {
	prompt := []byte("[ -z \"$PS1\" ] || PS1='agentbox:\\w\\$ '\n")
	id := sha256.Sum256(append([]byte(b.opt.Hostname+"\n"), b.opt.CA...))
	hosts, err := b.hosts()
	return map[string][]byte{
		"/etc/hosts":         hosts,
		"/etc/passwd":        b.passwd(),
		"/etc/group":         b.group(),
		"/etc/hostname":      []byte(b.opt.Hostname + "\n"),
		"/etc/resolv.conf":   []byte("nameserver 127.0.0.1\noptions timeout:3 attempts:2\n"),
		"/etc/nsswitch.conf": []byte(nsswitch),
		"/etc/host.conf":     []byte("multi on\n"),
		"/etc/machine-id":    []byte(hex.EncodeToString(id[:16]) + "\n"),
		"/etc/bash.bashrc":   prompt,
		"/etc/bashrc":        prompt,
	}, err
}

const nsswitch = `passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
`

func (b *builder) passwd() []byte {
	u := b.opt.User
	shell := u.Shell
	if shell == "" {
		shell = "/bin/sh"
		if _, _, err := b.host.resolve("/bin/bash"); err == nil {
			shell = "/bin/bash"
		}
	}
	s := "root:x:0:0:root:/root:/bin/sh\n"
	s += fmt.Sprintf("%s:x:%d:%d:%s:%s:%s\n", u.Name, u.UID, u.GID, u.Name, u.Home, shell)
	if u.UID != 65534 && u.Name != "nobody" {
		s += "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
	}
	return []byte(s)
}

func (b *builder) group() []byte {
	u := b.opt.User
	s := "root:x:0:\n"
	if u.GID != 0 {
		s += fmt.Sprintf("%s:x:%d:\n", u.Group, u.GID)
	}
	if u.GID != 5 && u.Group != "tty" {
		s += "tty:x:5:\n"
	}
	if u.GID != 65534 && u.Group != "nogroup" {
		s += "nogroup:x:65534:\n"
	}
	return []byte(s)
}

func (b *builder) hosts() ([]byte, error) {
	var s strings.Builder
	s.WriteString("127.0.0.1\tlocalhost\n")
	fmt.Fprintf(&s, "127.0.0.1\t%s\n", b.opt.Hostname)
	s.WriteString("::1\tip6-localhost ip6-loopback\n")
	for _, h := range b.opt.Hosts {
		if !h.Addr.IsLoopback() || h.Name == "localhost" || strings.ContainsFunc(h.Name, notInName) || h.Name == "" {
			return nil, fmt.Errorf("writing /etc/hosts: %q at %s is not a name at a loopback address", h.Name, h.Addr)
		}
		fmt.Fprintf(&s, "%s\t%s\n", h.Addr, h.Name)
	}
	return []byte(s.String()), nil
}

func notInName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._", r))
}

// certificates lays the host's bundle with the run's CA added, under every name that tools look for.
func (b *builder) certificates() error {
	if b.opt.Untrusting {
		return nil
	}
	own, err := ownCertificate(b.opt.CA)
	if err != nil {
		return err
	}
	bundle, err := b.host.hostBundle()
	if err != nil {
		return err
	}
	if len(bundle) == 0 {
		b.warnings = append(b.warnings, "the host has no certificate bundle: hosts that are not inspected cannot be verified")
	} else if bundle[len(bundle)-1] != '\n' {
		bundle = append(bundle, '\n')
	}
	bundle = append(bundle, b.opt.CA...)
	hash, err := subjectHash(own)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(b.root, "etc/ssl/certs"), 0o755); err != nil {
		return err
	}
	if err := errors.Join(b.file(bundlePath, bundle, 0o644), b.file(ownCAPath, b.opt.CA, 0o644)); err != nil {
		return err
	}
	if err := b.javaCertificates(bundle); err != nil {
		return err
	}
	return errors.Join(b.certificateLinks(hash), b.firefoxPolicies())
}

// firefoxPolicies hands the run's CA to Firefox, which has a database of its own in each of its profiles.
func (b *builder) firefoxPolicies() error {
	for _, d := range firefoxDirs() {
		p := d + "/policies/policies.json"
		if err := errors.Join(b.parent(p), b.file(p, []byte(firefoxPolicy), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// javaCertificates lays the same for Java, where a JDK of the distribution looks, when there may be a JDK.
func (b *builder) javaCertificates(bundle []byte) error {
	dirs := []string{"/etc/pki/java", "/etc/pki/ca-trust/extracted/java", "/etc/ca-certificates/extracted/java"}
	if !slices.ContainsFunc(append(dirs, "/etc/ssl/certs/java", "/usr/lib/jvm"), b.host.isDir) && len(b.opt.Roots) == 0 {
		return nil
	}
	if err := os.Mkdir(filepath.Join(b.root, "etc/ssl/certs/java"), 0o755); err != nil {
		return err
	}
	const store = "/etc/ssl/certs/java/cacerts"
	if err := b.file(store, javaKeyStore(certificates(bundle)), 0o644); err != nil {
		return err
	}
	for _, d := range dirs {
		if !b.host.isDir(d) {
			continue
		}
		if err := b.symlink(store, d+"/cacerts"); err != nil {
			return err
		}
	}
	b.javaStores(filepath.Join(b.root, store))
	return nil
}

// javaStores mounts the key store over those that JDKs bring along, which know nothing of the run's CA.
func (b *builder) javaStores(store string) {
	for _, dir := range javaDirs() {
		if rest, ok := strings.CutPrefix(dir, "~/"); ok {
			dir = filepath.Join(b.opt.User.Home, rest)
		}
		fixed, _, _ := strings.Cut(dir, "/*")
		if !withinAny(fixed, b.binds) && !slices.ContainsFunc(b.binds, func(p string) bool { return within(p, fixed) }) {
			continue
		}
		for _, p := range b.host.glob(dir + "/lib/security/cacerts") {
			real, _, err := b.host.resolve(p)
			if err == nil && withinAny(real, b.binds) && !b.mounted(real) {
				b.mounts = append(b.mounts, bindMount(store, real))
			}
		}
	}
}

func (b *builder) mounted(target string) bool {
	return slices.ContainsFunc(b.mounts, func(m Mount) bool { return m.Target == target })
}

// javaDirs is where JDKs are, as patterns.
func javaDirs() []string {
	return []string{
		"/usr/lib/jvm/*", "/usr/local/lib/jvm/*", "/opt/*", "/opt/*/*", "~/.jdks/*", "~/.sdkman/candidates/java/*",
		"~/.local/share/mise/installs/java/*", "~/.asdf/installs/java/*", "~/.jabba/jdk/*",
	}
}

// certificateLinks gives the bundle the names that the host's has, and OpenSSL's defaults.
func (b *builder) certificateLinks(hash string) error {
	if err := b.symlink(ownCAPath, "/etc/ssl/certs/"+hash+".0"); err != nil {
		return err
	}
	for _, d := range anchorDirs() {
		if !b.host.isDir(d) {
			continue
		}
		if err := b.symlink(ownCAPath, d+"/agentbox-ca.pem"); err != nil {
			return err
		}
	}
	for _, p := range append(bundlePaths(), bundleLinks()...) {
		dir := filepath.Dir(p)
		if p == bundlePath || !strings.HasPrefix(dir, "/etc/ssl") && !b.host.isDir(dir) {
			continue
		}
		if err := b.symlink(bundlePath, p); err != nil {
			return err
		}
	}
	return nil
}
