package policy

import (
	"strings"
	"testing"
)

// A push that cannot be read is never asked about: nobody could tell what is agreed to.
func TestAPushThatCannotBeReadIsDenied(t *testing.T) {
	h, err := ParseHost("good.test")
	if err != nil {
		t.Fatal(err)
	}
	set := Set{Default: Ask, Git: []GitRule{{Host: h, Repo: "acme/billing", Push: []string{"refs/heads/x"}}}}
	r := Request{Host: h, Port: 443, Scheme: "https", Method: "POST", Path: "/x", Git: &GitRequest{Op: GitPush, Repo: "acme/other"}}
	for _, d := range []Decision{set.Decide(r), set.Compile().Decide(r)} {
		if d.Action != Ask {
			t.Errorf("another repository: %s", d.Action)
		}
	}
	r.Git = &GitRequest{Op: GitPush, Flaw: "it breaks off"}
	for _, d := range []Decision{set.Decide(r), set.Compile().Decide(r)} {
		if d.Action != Deny || !strings.Contains(d.Reason(), "it breaks off") {
			t.Errorf("%s: %s", d.Action, d.Reason())
		}
	}
}
