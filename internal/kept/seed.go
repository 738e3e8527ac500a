package kept

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"agentbox/internal/caches"
)

// maxSeed is how large a file may be that is copied in.
const maxSeed = 256 << 10

// Seed reads a file of the person's home directory, absolute, for an agent to have a copy of. A link is followed, and what it
// leads to held to the same rules: a file of the person's own (or the system's), of moderate size, that neither its name nor
// its content says to be a secret. No file there is no error, and nil. The error is a *Problem.
func Seed(home, file string) ([]byte, error) {
	real, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unseeded(file, err.Error())
	}
	if login := loginOf(home, real); login != "" {
		return nil, unseeded(file, fmt.Sprintf("it leads to %q, which may hold logins", real))
	}
	content, why := read(real)
	if why != "" {
		return nil, unseeded(file, why)
	}
	if line := secretIn(content); line > 0 {
		return nil, unseeded(file, fmt.Sprintf("line %d looks like a secret", line))
	}
	return content, nil
}

func loginOf(home, real string) string {
	if rel, err := filepath.Rel(home, real); err == nil && filepath.IsLocal(rel) {
		return caches.LoginFile(rel)
	}
	return caches.LoginFile(filepath.Base(real))
}

// read gives a file's content, or why it is not taken.
func read(path string) ([]byte, string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err.Error()
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err.Error()
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, "it is no file"
	case !ok || int(st.Uid) != os.Getuid() && st.Uid != 0:
		return nil, "it belongs to somebody else"
	case info.Size() > maxSeed:
		return nil, "it is larger than 256 KiB"
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSeed+1))
	if err != nil {
		return nil, err.Error()
	}
	if len(content) > maxSeed {
		return nil, "it is larger than 256 KiB"
	}
	return content, ""
}

func unseeded(file, why string) error {
	return &Problem{Err: fmt.Errorf("%q is not copied in: %s", file, why), Path: file,
		Tip: "take it out of agent.seed, or take the secret out of the file; a [[credential]] gives the agent a placeholder, and keeps the value outside"}
}

// secrets are what keys and tokens look like that say so themselves.
const secrets = `-----BEGIN [A-Z ]*PRIVATE KEY` +
	`|\bsk-ant-[A-Za-z0-9_-]{16}|\bsk-(proj-|svcacct-)?[A-Za-z0-9_-]{32}` + // Anthropic, OpenAI
	`|\bgh[pousr]_[A-Za-z0-9]{30}|\bgithub_pat_[A-Za-z0-9_]{30}|\bglpat-[A-Za-z0-9_-]{16}` +
	`|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30}|\bya29\.[A-Za-z0-9_-]{20}` + // Amazon, Google
	`|\bxox[abprs]-[A-Za-z0-9-]{10}|\bnpm_[A-Za-z0-9]{30}|\bpypi-[A-Za-z0-9_-]{30}|\bhf_[A-Za-z0-9]{30}|\bdop_v1_[a-f0-9]{30}|\b[rs]k_live_[A-Za-z0-9]{16}` +
	`|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.` + // a JSON Web Token
	`|://[^/\s:@"']+:[^/\s@"']{3,}@` + // a password in a URL
	`|(?i)\b(api[_-]?key|apikey|secret|password|passwd|auth[_-]?token|access[_-]?token|refresh[_-]?token|bearer)["']?\s*[:=]\s*["']?[A-Za-z0-9+/_.=-]{16}`

// secretIn gives the first line that looks like a secret; 0 is none. It errs on the side of seeing one.
func secretIn(content []byte) int {
	at := regexp.MustCompile(secrets).FindIndex(content)
	if at == nil {
		return 0
	}
	return 1 + bytes.Count(content[:at[0]], []byte("\n"))
}

// Rel names a file of a home directory as people write it.
func Rel(home, file string) string {
	if rest, ok := strings.CutPrefix(file, home+"/"); ok {
		return "~/" + rest
	}
	return file
}
