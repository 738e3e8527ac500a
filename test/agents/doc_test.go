// Package agents_test runs the real coding agents, pinned by package-lock.json and installed by the script beside it,
// directly on this machine: from an empty home, with nothing but what their profile seeds, through a proxy that
// refuses every host that the profile does not allow. It shows that the profiles are enough by themselves, before any
// container comes into play. It owns the processes and directories that it makes.
package agents_test
