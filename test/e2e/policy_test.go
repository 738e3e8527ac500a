package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// organisation is a machine with an /etc/agentbox/policy.toml that is its root's: a root directory in a user namespace of
// the test's own, in which agentbox runs as somebody else.
type organisation struct {
	*box
	root string
}

func newOrganisation(t *testing.T) *organisation {
	t.Helper()
	b := newBox(t)
	o := &organisation{b, filepath.Join(filepath.Dir(b.repo), "root")}
	t.Cleanup(func() { must(t, exec.Command("podman", "unshare", "rm", "-rf", "--one-file-system", o.root).Run()) })
	for _, dir := range []string{"etc/agentbox", "usr", "proc", "dev", "tmp", "home/ann", "opt"} {
		must(t, os.MkdirAll(filepath.Join(o.root, dir), 0o755))
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+link, filepath.Join(o.root, link)))
	}
	must(t, os.WriteFile(filepath.Join(o.root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(o.root, "etc/group"), []byte("root:x:0:\nann:x:1000:\n"), 0o644))
	program, err := os.ReadFile(agentbox())
	must(t, err)
	must(t, os.WriteFile(filepath.Join(o.root, "opt/agentbox"), program, 0o755))
	return o
}

// policy writes the organisation's policy.
func (o *organisation) policy(text string) {
	o.t.Helper()
	must(o.t, os.WriteFile(filepath.Join(o.root, "etc/agentbox/policy.toml"), []byte(text), 0o644))
}

// asAnn runs agentbox as a person of that machine, after a line of shell as its root. Its mounts are in a namespace of
// their own: Podman's outlives the command.
func (o *organisation) asAnn(before string, args ...string) result {
	o.t.Helper()
	const outside = `set -eu
for d in usr proc dev; do mount --rbind "/$d" "$1/$d"; done
exec chroot "$@"`
	const inside = `set -eu
before=$1; shift
etc=/etc; home=/home/ann
rm -rf "$home"; mkdir -p "$home/repo" "$home/run"; git init -q "$home/repo"
eval "$before"
chown -R 1000:1000 "$home"; chmod 700 "$home/run"
cd "$home/repo"
exec setpriv --reuid=1000 --regid=1000 --clear-groups env -i PATH=/usr/bin:/bin HOME="$home" XDG_RUNTIME_DIR="$home/run" /opt/agentbox "$@"`
	argv := append([]string{"unshare", "unshare", "--mount", "--propagation", "private", "sh", "-c", outside, "sh", o.root, "sh", "-c", inside, "sh", before}, args...)
	return finish(o.t, exec.Command("podman", argv...))
}

// Nothing that a person or a repository writes loosens what the organisation's policy says.
func TestTheOrganisationsPolicyBindsEverybody(t *testing.T) {
	o := newOrganisation(t)
	o.policy("version = 1\n[network]\nonly = [\"api.anthropic.com\"]\n[budget]\ntime = \"1h\"\n[[network.rule]]\naction = \"deny\"\nhost = \"old.example.com\"\n")
	o.asAnn("", "why", "claude", "https://api.anthropic.com/").exits(0)
	loose := `mkdir -p $home/.config/agentbox; printf 'version = 1\n[network]\ndefault = "allow"\n' >$home/.config/agentbox/agentbox.toml`
	for _, host := range []string{"old.example.com", "evil.example.com"} {
		if r := o.asAnn(loose, "why", "claude", "https://"+host+"/").exits(1); !strings.Contains(r.out, "/etc/agentbox/policy.toml:") {
			t.Errorf("why does not name the policy:\n%s", r.out)
		}
	}
	if r := o.asAnn("", "profile", "show", "shell", "--origin").exits(0); !strings.Contains(r.out, "/etc/agentbox/policy.toml:5") {
		t.Errorf("the limit of the policy is not shown:\n%s", r.out)
	}
	long := `mkdir -p $home/.config/agentbox; printf 'version = 1\n[budget]\ntime = "2h"\n' >$home/.config/agentbox/agentbox.toml`
	o.asAnn(long, "run", "shell", "--", "true").exits(126).says("/etc/agentbox/policy.toml:5", "agentbox.toml:3", "2h")
	o.asAnn("", "run", "shell", "--timeout", "3h", "--", "true").exits(126).says("/etc/agentbox/policy.toml:5", "--timeout")
}

// A policy that others could have written, or that cannot be read, stops everything instead of nothing.
func TestAPolicyThatCannotBeBelievedRefusesTheRun(t *testing.T) {
	o := newOrganisation(t)
	o.policy("version = 1\n")
	o.asAnn("", "why", "shell", "https://good.example.com/").exits(1)
	for what, before := range map[string]string{
		"writable by all":      `chmod 666 $etc/agentbox/policy.toml`,
		"in a writable place":  `chmod 777 $etc/agentbox`,
		"a person's":           `chown 1000 $etc/agentbox/policy.toml`,
		"in a person's place":  `chown 1000 $etc/agentbox`,
		"a link to a person's": `echo version = 1 >$home/p; rm $etc/agentbox/policy.toml; ln -s $home/p $etc/agentbox/policy.toml`,
		"unreadable":           `rm $etc/agentbox/policy.toml; echo version = 1 >$etc/agentbox/policy.toml; chmod 600 $etc/agentbox/policy.toml`,
		"a directory":          `rm $etc/agentbox/policy.toml; mkdir $etc/agentbox/policy.toml`,
		"a FIFO":               `rm $etc/agentbox/policy.toml; mkfifo $etc/agentbox/policy.toml`,
		"wrong":                `rm $etc/agentbox/policy.toml; echo tier = 3 >$etc/agentbox/policy.toml`,
	} {
		t.Run(what, func(t *testing.T) {
			reset := `rm -rf $etc/agentbox; mkdir -m 755 $etc/agentbox; echo version = 1 >$etc/agentbox/policy.toml; chmod 644 $etc/agentbox/policy.toml; chown 0:0 $etc/agentbox $etc/agentbox/policy.toml; `
			r := o.asAnn(reset+before, "run", "shell", "--", "true")
			r.t = t
			r.exits(126).says("policy")
		})
	}
}
