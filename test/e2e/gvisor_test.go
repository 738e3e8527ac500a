package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/event"
)

const gvisorProfile = `version = 1
description = "Whatever command is asked for, on gVisor's kernel"

[agent]
command = ["env", "--"]

[[agent.file]]
path = "~/.seeded"
content = "seeded for {user}"

[workspace]
mode = "direct"
hide = [".env"]
caches = ["npm", "go-build:ro"]

[network]
default = "deny"

[[network.rule]]
action = "allow"
host = "` + secureHost + `"

[isolation]
runtime = "gvisor"
`

// gvisor gives a site whose profile asks for gVisor, or nil where the machine has none that works. There the run must
// be refused with the reason: it may not fall back to a weaker boundary.
func gvisor(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.profile("gv", gvisorProfile)
	if os.Getenv("AGENTBOX_E2E_PODMAN") == "5.4" {
		return s
	}
	r := s.agentbox("run", "gv", "--", "true")
	if r.code == 0 {
		return s // a machine of somebody's own, which has it
	}
	r.exits(126).says("gvisor", "cannot be used here")
	return nil
}

func TestOnGVisor(t *testing.T) {
	s := gvisor(t)
	if s == nil {
		return
	}
	s.write(".env", "SECRET=1\n")
	r := s.agentbox("run", "gv", "--", "sh", "-c", `
cat ~/.seeded; echo; cat .env; id -un; uname -r | cut -d. -f1-2
echo made inside >made
curl -sS -o /dev/null -w "proxy %{http_code}\n" https://`+secureHost+`/
curl -sS --noproxy "*" -o /dev/null -w "direct %{http_code}\n" https://`+secureHost+`/
curl -sS --noproxy "*" https://unlisted.example.org/ 2>/dev/null || echo "no unlisted"
curl -sS --noproxy "*" --max-time 3 https://192.0.2.1/ 2>/dev/null || echo "no literal"
(echo x >.git/hooks/pre-commit) 2>/dev/null || echo "no hook"
(echo x >/usr/x) 2>/dev/null || echo "no change"
echo cached >~/.npm/_cacache/x && touch ~/.npm/y ~/.cache/z && echo kept
(echo x >~/.cache/go-build/x) 2>/dev/null || echo "no cache"
exit 5`).exits(5)
	want := "seeded for " + strings.TrimSpace(who(t)) + "\n" + strings.TrimSpace(who(t)) + "\n4.4\n" +
		"proxy 200\ndirect 200\nno unlisted\nno literal\nno hook\nno change\nkept\nno cache\n"
	r.prints(want)
	if found, err := filepath.Glob(filepath.Join(filepath.Dir(s.repo), "cache/agentbox/caches/*/gv/npm/*/x")); err != nil || len(found) != 1 {
		t.Errorf("the cache: %q, %v", found, err)
	}
	if got := s.read("made"); got != "made inside\n" {
		t.Errorf("the file made inside holds %q", got)
	}
	var vias []string
	for _, e := range ofKind(s.events(), event.NetRequest) {
		vias = append(vias, e.Host+" "+e.Via+" "+string(e.Decision))
	}
	if got := strings.Join(vias, ", "); got != secureHost+" proxy allow, "+secureHost+" direct allow" {
		t.Errorf("the requests recorded are %s", got)
	}
	if refused := ofKind(s.events(), event.DNSRefused); len(refused) != 1 || refused[0].Host != "unlisted.example.org" {
		t.Errorf("the refused names are %+v", refused)
	}
}

// TestPID1OnGVisor: gVisor has no dumpable flag that counts, so that what it does instead is looked at.
func TestPID1OnGVisor(t *testing.T) {
	s := gvisor(t)
	if s == nil {
		return
	}
	s.write("attack.py", `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for request in (16, 0x4206):
    if libc.ptrace(request, 1, 0, 0) == 0:
        print("traced PID 1")
try:
    open("/proc/1/mem", "rb")
    print("opened the memory of PID 1")
except OSError:
    pass
for n in os.listdir("/proc/1/fd") if os.access("/proc/1/fd", os.R_OK) else []:
    try:
        link = os.readlink("/proc/1/fd/" + n)
        fd = os.open("/proc/1/fd/" + n, os.O_RDWR)
    except OSError:
        continue
    if int(n) > 2:
        print("opened descriptor", n, link)
print("end")
`)
	s.agentbox("run", "gv", "--", "python3", "attack.py").exits(0).prints("end\n")
}

func TestKillingAgentboxOnGVisor(t *testing.T) {
	s := gvisor(t)
	if s == nil {
		return
	}
	l := s.launch("run", "gv", "--", "sh", "-c", "echo ready; exec sleep 1000")
	must(t, l.cmd.Process.Kill())
	_ = l.cmd.Wait() // it was killed
	s.agentbox("ps").exits(0)
	s.nothingLeft()
}

func who(t *testing.T) string {
	t.Helper()
	b := newBox(t)
	return b.shell("id -un").exits(0).out
}
