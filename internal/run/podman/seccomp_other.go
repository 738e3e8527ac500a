//go:build !linux

package podman

import "errors"

// seccompProfile is made of Podman's default one, which is part of agentbox for Linux alone. Without it nothing is run.
func seccompProfile() ([]byte, error) {
	return nil, errors.New("making the filter of system calls: only agentbox for Linux has one")
}
