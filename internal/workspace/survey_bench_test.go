//go:build linux

package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	builtin "agentbox/profiles"
)

// BenchmarkLook walks 100,000 files: with no pattern, and with the list of what every profile hides.
func BenchmarkLook(b *testing.B) {
	root := b.TempDir()
	for dir := range 1000 {
		at := filepath.Join(root, "src", fmt.Sprintf("module%d", dir%50), fmt.Sprintf("package%d", dir))
		if err := os.MkdirAll(at, 0o755); err != nil {
			b.Fatal(err)
		}
		for file := range 100 {
			if err := os.WriteFile(filepath.Join(at, fmt.Sprintf("file%d.go", file)), nil, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	}
	repo := Repo{Root: root, Git: filepath.Join(root, ".git"), Directory: root}
	for name, patterns := range map[string][]string{"none": nil, "every": builtin.Hidden()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Look(repo, patterns); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
