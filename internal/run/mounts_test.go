package run

import (
	"reflect"
	"strings"
	"testing"
)

// TestReadOnlyReachesMountsBelow: /usr was read-only and /usr/local/go, a mount of its own, was not.
func TestReadOnlyReachesMountsBelow(t *testing.T) {
	info := `22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
30 22 254:0 /go /usr/local/go rw - ext4 /dev/vda rw
31 30 254:0 /x /usr/local/go/a\040b rw - ext4 /dev/vda rw
32 22 0:30 / /usrx rw - tmpfs tmpfs rw
33 22 0:31 / /home/me/repo/sub rw - tmpfs tmpfs rw
`
	in := []Mount{
		{Type: "bind", Source: "/usr", Target: "/usr", ReadOnly: true},
		{Type: "bind", Source: "/home/me/repo", Target: "/home/me/repo"},
		{Type: "tmpfs", Target: "/tmp"},
	}
	want := []Mount{in[0],
		{Type: "bind", Source: "/usr/local/go", Target: "/usr/local/go", ReadOnly: true},
		{Type: "bind", Source: "/usr/local/go/a b", Target: "/usr/local/go/a b", ReadOnly: true},
		in[1], in[2]}
	got, err := SealSubmounts(in, strings.NewReader(info))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}
