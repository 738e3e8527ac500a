//go:build linux

package shim

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/shimwire"
)

// mounts insists that everything which is mounted here was asked for, or is the kernel's own, and that nothing else
// than what may be written can be: an engine's configuration may add mounts of its own, and "read-only" of a bind does
// not reach the mounts below it.
func mounts(e shimwire.Expect) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	return judgeMounts(string(text), e)
}

func judgeMounts(mountinfo string, e shimwire.Expect) error {
	const most = 5
	all, err := parseMounts(mountinfo)
	if err != nil {
		return err
	}
	covered := map[string]bool{} // ids of mounts that another one on the same point hides
	for _, m := range all {
		covered[m.parent+" "+m.point] = true
	}
	var bad []string
	for _, m := range all {
		if reason := m.judge(e); reason != "" && !covered[m.id+" "+m.point] {
			bad = append(bad, m.point+" "+reason)
		}
	}
	if len(bad) > most {
		bad = append(bad[:most], fmt.Sprintf("and %d more", len(bad)-most))
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return nil
}

// mountLine is one line of /proc/self/mountinfo.
type mountLine struct {
	id, parent string
	point      string
	writable   bool
}

func parseMounts(mountinfo string) (all []mountLine, err error) {
	for line := range strings.Lines(mountinfo) {
		m, err := parseMount(line)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// parseMount reads "36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/x rw,errors=continue".
func parseMount(line string) (mountLine, error) {
	head, tail, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
	f, g := strings.Fields(head), strings.Fields(tail)
	if !ok || len(f) < 6 || len(g) < 3 {
		return mountLine{}, fmt.Errorf("a line of mountinfo makes no sense: %q", line)
	}
	return mountLine{id: f[0], parent: f[1], point: unescape(f[4]), writable: has(f[5], "rw") && has(g[2], "rw")}, nil
}

func has(options, word string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == word {
			return true
		}
	}
	return false
}

// judge gives the reason why a mount should not be there, or "".
func (m mountLine) judge(e shimwire.Expect) string {
	if m.point != "/" && kernels(m) {
		return ""
	}
	if m.writable && !atOrBelow(m.point, e.Writable) {
		return "can be written to"
	}
	asked := slices.Contains(e.Mounts, m.point) || atOrBelow(m.point, e.Trees)
	if m.point != "/" && !asked && !engines[m.point] {
		return "is mounted and nobody asked for it"
	}
	return ""
}

// kernels says whether a mount shows the kernel and not somebody's files. What of it may be used is the business of
// the capabilities, of which there are none.
func kernels(m mountLine) bool {
	return atOrBelow(m.point, []string{"/proc", "/sys", "/dev"}) && m.point != "/dev/shm"
}

// engines are files that an engine mounts whatever it is told.
var engines = map[string]bool{"/run/.containerenv": true, "/etc/hosts": true, "/etc/hostname": true, "/etc/resolv.conf": true}

func atOrBelow(point string, dirs []string) bool {
	for _, d := range dirs {
		if point == d || d != "/" && strings.HasPrefix(point, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}

// unescape turns mountinfo's octal escapes back.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
