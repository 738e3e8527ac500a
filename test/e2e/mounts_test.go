package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// What a person's own profile names is there beside the repository, read-only unless it says otherwise, without what is
// hidden; with it a repository that borrows objects is whole. Nothing else of what is around is there.
func TestMountsBesideTheRepository(t *testing.T) {
	b := newBox(t)
	around := filepath.Dir(b.repo)
	b.git("clone", "-q", "--bare", ".", "../lender.git")
	b.git("repack", "-adq")
	must(t, os.RemoveAll(filepath.Join(b.repo, ".git/objects/pack")))
	b.write(".git/objects/info/alternates", filepath.Join(around, "lender.git/objects")+"\n")
	for name, text := range map[string]string{"shared/data": "data\n", "shared/.env": "SECRET\n", "out/old": "old\n", "beside/secret": "SECRET\n"} {
		b.write("../"+name, text)
	}
	b.git("init", "-q", "../out/lib")
	b.profile("work", fmt.Sprintf("version = 1\nextends = \"shell\"\n[[mount]]\nsource = \"%s\"\n", b.conf))
	b.agentbox("run", "work", "--", "true").refused(b, 126, "work.toml:3", "agentbox's own directory")
	b.profile("work", fmt.Sprintf(`version = 1
extends = "shell"
[workspace]
mode = "review"
hide = [".env"]
[[mount]]
source = "%[1]s/lender.git/objects"
[[mount]]
source = "%[1]s/shared"
target = "/shared"
[[mount]]
source = "%[1]s/out"
write = true
`, around))
	r := b.agentbox("run", "work", "-q", "--", "sh", "-c", fmt.Sprintf(`git log --format=%%s -1; git fsck --no-dangling 2>/dev/null && echo whole
cat /shared/data; cat /shared/.env; (echo x >/shared/data) 2>/dev/null || echo read-only
echo new >%[1]s/out/new; (touch %[1]s/out/lib/.git/hooks/post-commit) 2>/dev/null || echo guarded
(touch %[1]s/lender.git/objects/x) 2>/dev/null || echo lent; ls -d %[1]s/beside %[1]s/shared %[1]s/lender.git/config 2>/dev/null; true`, around))
	r.exits(0).prints(b.git("log", "--format=%s", "-1") + "whole\ndata\nread-only\nguarded\nlent\n")
	if text, err := os.ReadFile(filepath.Join(around, "out/new")); err != nil || string(text) != "new\n" {
		t.Errorf("what was written is %q (%v)", text, err)
	}
}
