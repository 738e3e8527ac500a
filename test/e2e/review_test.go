package e2e

import (
	"os"
	"strings"
	"testing"
)

// review runs a script inside, in the review mode.
func (b *box) review(script string, more ...string) result {
	b.t.Helper()
	return b.agentbox(append(append([]string{"run", "shell", "--workspace", "review", "-q"}, more...), "--", "sh", "-c", script)...)
}

func TestReviewSmoke(t *testing.T) {
	b := newBox(t)
	r := b.review(`set -e
id; ls -lan . .git; echo new >new; echo more >>README.md; cat README.md; git status --short; git add -A; git commit -qm x; git log --oneline; grep overlay /proc/self/mountinfo; rm README.md; ls`)
	t.Log(r.code, r.out, r.err)
	e, _ := os.ReadDir(b.repo)
	t.Log(e, strings.TrimSpace(b.read("README.md")), b.git("status"))
	t.Fail()
}
