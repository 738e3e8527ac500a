//go:build linux

package shim

import (
	"strings"
	"testing"

	"agentbox/internal/shimwire"
)

func TestMountsThatNobodyAskedFor(t *testing.T) {
	e := shimwire.Expect{
		Mounts:   []string{"/usr", "/tmp", "/home/me", "/work/my repo", "/work/my repo/.git/config"},
		Trees:    []string{"/usr", "/work/my repo"},
		Writable: []string{"/tmp", "/home/me", "/work/my repo"},
	}
	fine := `1 0 0:1 / / ro - tmpfs tmpfs rw
2 1 8:1 /usr /usr ro - ext4 /dev/a rw
3 2 8:2 /go /usr/local/go rw - ext4 /dev/b rw
30 3 8:2 /go /usr/local/go ro - ext4 /dev/b rw
4 1 0:2 / /tmp rw - tmpfs tmpfs rw
5 1 8:1 /r /work/my\040repo rw - ext4 /dev/a rw
6 5 8:1 /c /work/my\040repo/.git/config ro - ext4 /dev/a rw
7 1 0:3 / /proc rw - proc proc rw
8 1 0:4 / /dev rw - tmpfs tmpfs rw
9 1 0:5 / /run/.containerenv ro - tmpfs tmpfs rw
`
	if err := judgeMounts(fine, e); err != nil {
		t.Errorf("what was asked for: %v", err)
	}
	for line, want := range map[string]string{
		"10 30 8:2 /y /usr/local/go/y rw - ext4 /dev/b rw\n": "/usr/local/go/y can be written to",
		"10 2 8:2 /x /usr/local/x rw - ext4 /dev/b rw\n":     "/usr/local/x can be written to",
		"10 1 8:1 /s /run/secrets ro - tmpfs tmpfs ro\n":     "/run/secrets is mounted and nobody asked for it",
		"10 4 8:1 /s /tmp/secrets ro - ext4 /dev/a rw\n":     "/tmp/secrets is mounted and nobody asked for it",
		"10 1 8:1 /home /home ro - ext4 /dev/a rw\n":         "/home is mounted and nobody asked for it",
		"10 0 8:1 / / rw - ext4 /dev/a rw\n":                 "/ can be written to",
		"10 1 0:9 / /dev/shm rw - tmpfs tmpfs rw\n":          "/dev/shm can be written to",
		"10 1 8:1 /x /work/my\\040repox ro - ext4 /dev/a rw": "/work/my repox is mounted",
		"nonsense\n": "makes no sense",
	} {
		err := judgeMounts(fine+line, e)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}
