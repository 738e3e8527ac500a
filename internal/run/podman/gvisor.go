package podman

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// FindGVisor finds runsc. When it can't be used, path is "" and problem says why and what to do.
func FindGVisor(ctx context.Context) (path, problem string) {
	path, err := exec.LookPath("runsc")
	if err != nil {
		return "", "runsc is not installed"
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Sprintf("runsc --version says: %v", err)
	}
	year := releaseYear(string(out))
	if year == "" || year < oldestGVisor {
		return "", fmt.Sprintf("this runsc is too old (%s): releases before %s fail at listing directories",
			strings.SplitN(strings.TrimSpace(string(out)), "\n", 2)[0], oldestGVisor)
	}
	return path, ""
}

const oldestGVisor = "2023"

// releaseYear reads "runsc version release-20221102.1" and "runsc version 0.0~20240729.0".
func releaseYear(version string) string {
	m := regexp.MustCompile(`version \S*?(20\d\d)\d{4}`).FindStringSubmatch(version)
	if m == nil {
		return ""
	}
	return m[1]
}

// WrapGVisor writes an OCI runtime to dir that is runsc with what a rootless container without a network needs: no
// network stack of its own, and the unix socket that is bound into the container.
func WrapGVisor(runsc, dir string) (string, error) {
	wrapper := filepath.Join(dir, "runsc")
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' --network=none --host-uds=open --ignore-cgroups \"$@\"\n", strings.ReplaceAll(runsc, "'", `'\''`))
	if err := os.WriteFile(wrapper, []byte(text), 0o700); err != nil {
		return "", fmt.Errorf("writing the gVisor runtime: %w", err)
	}
	return wrapper, nil
}
