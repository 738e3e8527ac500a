//go:build ignore

// Command releaseconfig reads .goreleaser.yaml with GoReleaser's own reader, which knows every key and refuses any other. All
// of GoReleaser takes many minutes to compile, this a few seconds: `hack/goreleaser check` says what is deprecated too.
//
//	go run -modfile=tools/goreleaser.mod tools/releaseconfig.go
package main

import (
	"fmt"
	"os"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
)

func main() {
	if _, err := config.Load(".goreleaser.yaml"); err != nil {
		fmt.Fprintln(os.Stderr, ".goreleaser.yaml:", err)
		os.Exit(1)
	}
}
