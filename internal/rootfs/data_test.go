package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEtcListIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range etcEntries() {
		if !slices.Contains([]verb{lay, generate, skip, never}, e.verb) {
			t.Errorf("unknown verb %q", e.verb)
		}
		if _, err := filepath.Match(e.path, "x"); err != nil || e.why == "" || seen[e.path] {
			t.Errorf("%s: a bad pattern, no reason, or listed twice", e.path)
		}
		if !within(e.path, "/etc") && !within(e.path, "/var") {
			t.Errorf("%s is neither in /etc nor in /var", e.path)
		}
		seen[e.path] = true
	}
}

// The list is the audit: whoever adds a line meets this.
func TestEtcListLaysNothingSecret(t *testing.T) {
	secrets := []string{
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssh/ssh_host_rsa_key",
		"/etc/ssl/private/key.pem", "/etc/pki/tls/private/k", "/etc/krb5.keytab", "/etc/gitconfig", "/etc/npmrc",
		"/etc/pip.conf", "/etc/apt/auth.conf", "/etc/wgetrc", "/etc/netrc", "/etc/maven/settings.xml", "/etc/profile",
		"/etc/environment", "/etc/profile.d/x.sh", "/etc/ld.so.preload", "/etc/fstab", "/etc/subuid", "/etc/passwd-",
		"/etc/machine-info", "/etc/R/Renviron.site", "/etc/docker/daemon.json", "/etc/kubernetes/admin.conf",
		"/etc/NetworkManager/x", "/etc/wireguard/wg0.conf", "/etc/mysql/debian.cnf", "/etc/agentbox/policy.toml",
		"/etc/letsencrypt/live/x", "/etc/credstore/x", "/etc/security/opasswd", "/etc/cups/x", "/etc/resolv.conf.bak",
		"/var/lib/AccountsService/x", "/var/lib/docker", "/var/log/auth.log", "/var/spool/cron/root", "/etc/zsh/zshenv",
	}
	for _, e := range etcEntries() {
		if e.verb != lay {
			continue
		}
		for _, s := range secrets {
			if matchesAbove(e.path, s) {
				t.Errorf("%s shows %s", e.path, s)
			}
		}
		for _, n := range etcEntries() {
			if n.verb == never && (matchesAbove(e.path, n.path) || matchesAbove(n.path, e.path)) {
				t.Errorf("%s shows some of %s, which is never shown", e.path, n.path)
			}
		}
	}
}

// On the machine that the tests run on: every link of /usr into /etc or /var that works outside works inside,
// or is listed as not needed.
func TestEveryLinkOfThisHostResolves(t *testing.T) {
	opt := options(t, "")
	v := view{build(t, opt)}
	n := 0
	err := filepath.WalkDir("/usr", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return skipUnreadable(err)
		}
		if d.Type() != fs.ModeSymlink {
			return nil
		}
		hops, ok := leadsOut(p)
		if !ok {
			return nil
		}
		n++
		if _, err := v.resolve(p); err != nil && !slices.ContainsFunc(hops, notNeeded) {
			t.Errorf("%s leads nowhere inside: %v", p, err)
		}
		return nil
	})
	must(t, err)
	if n == 0 {
		t.Error("found no link of /usr into /etc: nothing was tried")
	}
}

func skipUnreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fs.SkipDir
	}
	return err
}

// leadsOut reports whether a link works on the host and passes through /etc or /var, and where.
func leadsOut(p string) ([]string, bool) {
	real, hops, err := host("/").resolve(p)
	if err != nil {
		return nil, false
	}
	all := append(hops[1:], real)
	ok := slices.ContainsFunc(all, func(h string) bool { return within(h, "/etc") || within(h, "/var") })
	return all, ok
}

func notNeeded(p string) bool {
	e, ok := classify(etcEntries(), p)
	return ok && (e.verb == skip || e.verb == never)
}

// What of this machine is shown from /etc and /var belongs to root and is no secret, all the way down.
func TestWhatIsShownOfThisHostIsPublic(t *testing.T) {
	n := 0
	for _, m := range build(t, options(t, "")).Mounts {
		if !within(m.Source, "/etc") && !within(m.Source, "/var") {
			continue
		}
		n++
		err := filepath.WalkDir(m.Source, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return skipUnreadable(err)
			}
			return public(t, p, d)
		})
		must(t, err)
	}
	if n == 0 {
		t.Error("nothing of /etc is shown: nothing was tried")
	}
}

func public(t *testing.T, p string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if owner(info) != 0 {
		t.Errorf("%s does not belong to root", p)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o004 == 0 || info.Size() > 1<<20 {
		return nil
	}
	data, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	if strings.Contains(string(data), "PRIVATE KEY-----\n") {
		t.Errorf("%s holds a key", p)
	}
	return nil
}

func TestRootsListIsWellFormed(t *testing.T) {
	secret, shared := privateDirs()
	for _, r := range knownRoots() {
		all := append([]root{r}, r.with...)
		for _, x := range all {
			rel, inHome := strings.CutPrefix(x.path, "~/")
			if !inHome && !filepath.IsAbs(x.path) {
				t.Errorf("%s is neither absolute nor below ~", x.path)
			}
			if strings.Contains(filepath.Dir(x.path), "*") {
				t.Errorf("%s: a pattern before the last component", x.path)
			}
			for _, d := range slices.Concat(secret, shared) {
				if inHome && within(d, rel) {
					t.Errorf("%s would show %s", x.path, d)
				}
			}
			for _, d := range secret {
				if inHome && within(rel, d) {
					t.Errorf("%s lies in %s", x.path, d)
				}
			}
		}
	}
}
