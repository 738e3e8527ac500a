package logins

import (
	"strings"
	"testing"
)

func TestEveryLoginIsWhole(t *testing.T) {
	for _, l := range All() {
		found, ok := Find(l.Name)
		if !ok || found.Name != l.Name {
			t.Errorf("%s is not found", l.Name)
		}
		if l.How == "" || l.Client == "" || l.RefreshShape == "" || l.JWT != (l.AccessShape == "") || len(l.Access) == 0 || len(l.Refresh) == 0 || len(l.Locks) == 0 {
			t.Errorf("something is missing of %+v", l)
		}
		if !strings.HasPrefix(l.File, "~/") || !strings.HasPrefix(l.Endpoint, "/") || strings.ToLower(l.Endpoint) != l.Endpoint || strings.Contains(l.Host, "/") {
			t.Errorf("%s is in %q, and is refreshed at %q, %q", l.Name, l.File, l.Host, l.Endpoint)
		}
		for _, lock := range l.Locks {
			if !strings.HasPrefix(lock, "{dir}") {
				t.Errorf("%s has a lock at %q", l.Name, lock)
			}
		}
	}
	if _, ok := Find("nobody"); ok {
		t.Error("nobody has a login")
	}
}
