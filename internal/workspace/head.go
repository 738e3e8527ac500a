package workspace

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"

	"agentbox/internal/layerfiles"
)

// Head is the commit that HEAD names, "" for none. The host's git is asked only where its files do not tell.
func Head(ctx context.Context, repo Repo) string {
	text, err := readRegular(filepath.Join(repo.Git, "HEAD"), maxText)
	if err != nil {
		return ""
	}
	head := strings.TrimSpace(string(text))
	ref, symbolic := strings.CutPrefix(head, "ref: ")
	if !symbolic {
		return commitName(head)
	}
	if strings.HasPrefix(ref, "refs/") && filepath.IsLocal(ref) {
		if text, err := readRegular(filepath.Join(repo.Common, ref), maxText); err == nil {
			return commitName(strings.TrimSpace(string(text)))
		}
	}
	if packed, err := readRegular(filepath.Join(repo.Common, "packed-refs"), maxText); err == nil {
		for line := range bytes.Lines(packed) {
			if name, of, ok := strings.Cut(strings.TrimSpace(string(line)), " "); ok && of == ref {
				return commitName(name)
			}
		}
	}
	return askHead(ctx, repo)
}

func askHead(ctx context.Context, repo Repo) string {
	cmd, err := layerfiles.GitCommand(ctx, repo.Root, "--git-dir="+repo.Git, "rev-parse", "--verify", "-q", "HEAD^{commit}")
	if err != nil {
		return ""
	}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return commitName(strings.TrimSpace(string(out)))
}

// commitName is s if it can name a commit.
func commitName(s string) string {
	if (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == "" {
		return s
	}
	return ""
}
