//go:build linux

package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// On an overlay git finds every file as its index says, so that the first status reads none; and it does not look through
// directories again in which nothing changed, but sees what did.
func TestStatusInAReviewReadsNothingTwice(t *testing.T) {
	repo := newRepo(t)
	for _, name := range []string{"sub/b", "sub/deep/c", "other/d"} {
		write(t, filepath.Join(repo.Root, name), name+"\n")
	}
	git(t, repo.Root, "add", ".")
	git(t, repo.Root, "commit", "-qm", "second")
	old := time.Now().Add(-time.Hour) // what is as new as the index git looks at again in any case
	for _, name := range []string{"a", "sub/b", "sub/deep/c", "other/d", "sub/deep", "sub", "other", "."} {
		if err := os.Chtimes(filepath.Join(repo.Root, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	git(t, repo.Root, "update-index", "--refresh")
	work := realTemp(t)
	shown, err := inReview(t, repo, Layer{Backend: Overlay, Work: work}, Survey{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the kernel's own directories would not let themselves be removed
		for _, layer := range []string{"tree", "git"} {
			if err := os.Chmod(filepath.Join(work, layer, "work", "work"), 0o700); err != nil {
				t.Error(err)
			}
		}
	})
	out, err := enter(t, shown.Mounts, `set -e
echo "stale: $(git diff-files --name-only)."
git status --porcelain; git status --porcelain
echo "again: $(GIT_TRACE2_PERF=1 git status --porcelain 2>&1 | grep -o 'opendir:.*')."
echo new >sub/deep/new; rm other/d
echo "seen: $(git status --porcelain | tr '\n' ,)"
rm sub/deep/new
echo "gone: $(git status --porcelain | tr '\n' ,)"
git config core.untrackedcache`)
	want := "stale: .\nagain: opendir:0.\nseen:  D other/d,?? sub/deep/new,\ngone:  D other/d,\ntrue\n"
	if err != nil || out != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	if after := strings.TrimSpace(git(t, repo.Root, "status", "--porcelain")); after != "" {
		t.Errorf("outside: %s", after)
	}
}
