package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version of agentbox and of what it is built on",
		Long:    "Prints the version of agentbox, of Go, and of the libraries that the boundary stands on.\n\nExit codes: 0 printed, 2 usage.",
		Example: "  agentbox version\n  agentbox version --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := versions()
			if asJSON {
				return json.NewEncoder(a.out).Encode(v)
			}
			_, err := fmt.Fprintf(a.out, "agentbox %s (%s, %s)\nPodman bindings %s, goproxy %s\n",
				v.Agentbox, v.Go, v.Platform, v.Podman, v.Goproxy)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type versionInfo struct {
	Agentbox string `json:"agentbox"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Podman   string `json:"podman_bindings"`
	Goproxy  string `json:"goproxy"`
}

func versions() versionInfo {
	v := versionInfo{Agentbox: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/containers/podman/v5":
			v.Podman = m.Version
		case "github.com/elazarl/goproxy":
			v.Goproxy = m.Version
		}
	}
	return v
}
