package layerfiles

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mine stands for root in tests that cannot make root's files: what this user owns may, and what root owns.
func mine(uid uint32) bool { return uid == 0 || int(uid) == os.Getuid() }

func policyTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	return put(t, root, "etc/agentbox/policy.toml", "version = 1\n")
}

func TestPolicyIsRead(t *testing.T) {
	path := policyTree(t)
	if data, err := readOwned(path, mine); err != nil || string(data) != "version = 1\n" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestAbsentPolicy(t *testing.T) {
	path := policyTree(t)
	for _, p := range []string{filepath.Join(filepath.Dir(path), "other.toml"), filepath.Join(filepath.Dir(path), "no", "policy.toml")} {
		if _, err := readOwned(p, mine); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestPolicyThatOthersCouldHaveWritten(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"file open to all":        func(t *testing.T, path string) { must(t, os.Chmod(path, 0o646)) },
		"file open to a group":    func(t *testing.T, path string) { must(t, os.Chmod(path, 0o664)) },
		"directory open to all":   func(t *testing.T, path string) { must(t, os.Chmod(filepath.Dir(path), 0o757)) },
		"directory open to group": func(t *testing.T, path string) { must(t, os.Chmod(filepath.Dir(path), 0o775)) },
		"directory two above":     func(t *testing.T, path string) { must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o777)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := policyTree(t)
			spoil(t, path)
			_, err := readOwned(path, mine)
			wantError(t, err, "other users can write it")
			// Nor does "absent" count where others could have removed it.
			if name != "file open to all" && name != "file open to a group" {
				must(t, os.Remove(path))
				_, err := readOwned(path, mine)
				wantError(t, err, "other users can write it")
			}
		})
	}
}

func TestPolicyThatIsNoFile(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, path string){
		"FIFO":           func(t *testing.T, path string) { must(t, unix.Mkfifo(path, 0o600)) },
		"directory":      func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o755)) },
		"leads nowhere":  func(t *testing.T, path string) { must(t, os.Symlink("nowhere.toml", path)) },
		"more than 16 l": func(t *testing.T, path string) { must(t, os.Symlink(filepath.Base(path), path)) },
		"more than 4194": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o644))
			must(t, os.Truncate(path, MaxFile+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := policyTree(t)
			must(t, os.Remove(path))
			plant(t, path)
			_, err := readOwned(path, mine)
			wantError(t, err, name)
		})
	}
}

// A link of root's to root's file will do, absolute or not; each directory behind it counts as those before it.
func TestPolicyBehindALink(t *testing.T) {
	path := policyTree(t)
	etc := filepath.Dir(filepath.Dir(path))
	stored := put(t, filepath.Dir(etc), "store/v2/policy.toml", "behind")
	for _, target := range []string{stored, "../../store/v2/policy.toml"} {
		must(t, os.Remove(path))
		must(t, os.Symlink(target, path))
		if data, err := readOwned(path, mine); err != nil || string(data) != "behind" {
			t.Errorf("%s: %q, %v", target, data, err)
		}
	}
	must(t, os.Remove(path))
	must(t, os.Remove(filepath.Dir(path)))
	must(t, os.Symlink(filepath.Dir(stored), filepath.Dir(path)))
	if data, err := readOwned(path, mine); err != nil || string(data) != "behind" {
		t.Errorf("a directory behind a link: %q, %v", data, err)
	}
	must(t, os.Chmod(filepath.Dir(filepath.Dir(stored)), 0o777))
	_, err := readOwned(path, mine)
	wantError(t, err, "other users can write it", "store")
}

func TestPolicyOfAnotherUser(t *testing.T) {
	path := policyTree(t)
	me := uint32(os.Getuid())
	notMine := func(uid uint32) bool { return uid == 0 && me != 0 }
	if me != 0 {
		_, err := readOwned(path, notMine)
		wantError(t, err, "another user")
		return
	}
	for _, at := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		must(t, os.Chown(at, 4242, 4242))
		_, err := ReadPolicy(path)
		wantError(t, err, "another user (uid 4242)", at)
		must(t, os.Chown(at, 0, 0))
	}
	must(t, os.Rename(path, path+".real"))
	must(t, os.Symlink(path+".real", path))
	if _, err := ReadPolicy(path); err != nil {
		t.Errorf("a link of root's: %v", err)
	}
	must(t, os.Lchown(path, 4242, 4242))
	_, err := ReadPolicy(path)
	wantError(t, err, "a link of another user's (uid 4242)")
}

// The real function on the machine's real files.
func TestReadPolicyOfTheSystem(t *testing.T) {
	if data, err := ReadPolicy("/etc/passwd"); err != nil || len(data) == 0 {
		t.Errorf("root's file: %d bytes, %v", len(data), err)
	}
	if _, err := ReadPolicy("/etc/agentbox-no-such-directory/policy.toml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent directory: %v", err)
	}
	_, err := ReadPolicy("/dev/null")
	wantError(t, err, "device")
	_, err = ReadPolicy("policy.toml")
	wantError(t, err, "depends on where")
	if os.Getuid() != 0 {
		_, err := ReadPolicy(policyTree(t))
		wantError(t, err, "another user")
		_, err = ReadPolicy("/etc/shadow")
		wantError(t, err, "permission denied")
	}
}
