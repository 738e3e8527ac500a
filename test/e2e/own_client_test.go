package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/websocket"
)

// clientVariable makes this test's own binary a client inside, in place of a test: what it is linked with need not be
// built twice.
const clientVariable = "AGENTBOX_TEST_CLIENT"

func TestMain(m *testing.M) {
	name := os.Getenv(clientVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := ownClients()[name](os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func ownClients() map[string]func(args []string) error {
	return map[string]func([]string) error{"websocket": webSocketClient, "grpc": grpcClient, "echoes": echoesClient, "fetch": fetchClient}
}

// ownClient puts this test's binary into the repository, and gives the command that makes it the client.
func (b *box) ownClient(name string) string {
	b.t.Helper()
	const file = "ownclient"
	if _, err := os.Stat(filepath.Join(b.repo, file)); err != nil {
		b.copyOwnBinary(filepath.Join(b.repo, file))
	}
	return "env " + clientVariable + "=" + name + " ./" + file
}

func (b *box) copyOwnBinary(to string) {
	b.t.Helper()
	from, err := os.Open("/proc/self/exe")
	must(b.t, err)
	defer func() { must(b.t, from.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	must(b.t, err)
	_, err = io.Copy(out, from)
	must(b.t, err)
	must(b.t, out.Close())
}

// webSocketClient sends words, one when the one before has come back, and prints what comes back.
func webSocketClient(args []string) error {
	conn, err := websocket.Dial(args[0], "", "https://example.com")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, word := range args[1:] {
		var back string
		if err := websocket.Message.Send(conn, word); err != nil {
			return err
		}
		if err := websocket.Message.Receive(conn, &back); err != nil {
			return err
		}
		fmt.Println(back)
	}
	return nil
}

// fetchClient prints what a URL answers.
func fetchClient(args []string) error {
	resp, err := http.Get(args[0])
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
