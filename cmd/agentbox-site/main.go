// Command agentbox-site makes a website of this repository's documentation: agentbox-site DIRECTORY, run at its top. It takes
// away what was in DIRECTORY when that is a site it made before, and refuses any other that is not empty.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"agentbox/internal/site"
)

// made is the file by which a site is known that may be replaced.
const made = "search.js"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: agentbox-site DIRECTORY")
		os.Exit(2)
	}
	if err := build(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "agentbox-site: %s\n", err)
		os.Exit(1)
	}
}

func build(dir string) error {
	docs, err := site.Read(os.DirFS("."))
	if err != nil {
		return err
	}
	files, err := docs.Build()
	if err != nil {
		return err
	}
	if err := empty(dir); err != nil {
		return err
	}
	for name, content := range files {
		place := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), os.WriteFile(place, content, 0o644)); err != nil {
			return fmt.Errorf("writing the site: %w", err)
		}
	}
	fmt.Printf("%d pages: %s\n", len(docs.Pages), filepath.Join(dir, "index.html"))
	return nil
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at where the site goes: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, made)); err != nil {
		return fmt.Errorf("%s is not empty, and no site: name another directory", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("taking away the site that was there: %w", err)
	}
	return nil
}
