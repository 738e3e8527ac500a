package changes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkList lists 10 changed files among 100,000: one in each of ten directories, of which the overlay has copies.
func BenchmarkList(b *testing.B) {
	st := newStage(b, Overlay)
	for dir := range 1000 {
		path := filepath.Join(st.root, fmt.Sprintf("pkg%d/sub%d", dir/10, dir%10))
		must(b, os.MkdirAll(path, 0o755))
		for file := range 100 {
			must(b, os.WriteFile(filepath.Join(path, fmt.Sprintf("f%d.go", file)), []byte("package x\n\nfunc f() {}\n"), 0o644))
		}
	}
	st.begin()
	for i := range 10 {
		put(b, st.upper, fmt.Sprintf("pkg%d/sub3/f%d.go", i*7, i), "package x\n\nfunc g() {}\n")
	}
	for b.Loop() {
		list, err := st.source().List(context.Background())
		if err != nil || len(list) != 10 {
			b.Fatal(len(list), err)
		}
	}
}
