//go:build linux

package transport_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/internal/shimwire"
	"agentbox/internal/transport"
	"agentbox/internal/transport/transporttest"
)

// hostSockets are listeners in this very network: what a lying shim would most like agentbox to serve.
func hostSockets(t *testing.T) ([]*os.File, []shimwire.Listen) {
	t.Helper()
	var files []*os.File
	var listen []shimwire.Listen
	add := func(network, addr string, f *os.File, err error) {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		files, listen = append(files, f), append(listen, shimwire.Listen{Network: network, Addr: addr})
	}
	for range 2 {
		var plain net.ListenConfig
		plain.SetMultipathTCP(false) // another protocol would give it away
		ln, err := plain.Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		f, err := ln.(*net.TCPListener).File()
		add("tcp4", ln.Addr().String(), f, err)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	f, err := conn.(*net.UDPConn).File()
	add("udp4", conn.LocalAddr().String(), f, err)
	return files, listen
}

// deceive runs one lie and returns what Accept made of it, with the number of descriptors before.
func deceive(t *testing.T, mode shimwire.Mode, lie string) (*transport.Link, *exec.Cmd, error) {
	t.Helper()
	files, listen := hostSockets(t)
	if lie == "same twice" || lie == "duplicate" {
		listen[1] = listen[0] // so that nothing but its identity is wrong
	}
	dir := transporttest.RunDir(t)
	endpoint, err := transport.New(mode).Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Close() })
	liar := transporttest.Liar(dir, lie)
	liar.ExtraFiles = files
	if err := liar.Start(); err != nil {
		t.Fatal(err)
	}
	link, err := endpoint.Accept(transporttest.Context(t), shimwire.Config{Listen: listen})
	if err != nil {
		left, globErr := filepath.Glob(filepath.Join(dir, "*.sock"))
		if globErr != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, globErr)
		}
	}
	return link, liar, err
}

// openFiles counts this process's descriptors; what this function opens is among them each time.
func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestLyingShimIsRefused(t *testing.T) {
	lies := map[shimwire.Mode][]string{
		shimwire.Pass:  append(transporttest.Lies(), transporttest.PassLies()...),
		shimwire.Relay: transporttest.Lies(),
	}
	warmUp(t)
	for mode, all := range lies {
		for _, lie := range all {
			before := openFiles(t)
			t.Run(fmt.Sprintf("%s/%s", mode, lie), func(t *testing.T) {
				link, liar, err := deceive(t, mode, lie)
				if err == nil {
					t.Errorf("it is believed")
					_ = link.Close()
				}
				t.Logf("refused: %v", err)
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it is refused by the clock only: %v", err)
				}
				if err := liar.Wait(); err != nil {
					t.Errorf("the lie was not told: %v", err)
				}
			})
			if after := openFiles(t); after != before {
				t.Errorf("%s/%s: %d descriptors are open, there were %d", mode, lie, after, before)
			}
		}
	}
}

// warmUp opens what this process keeps for good, the poller's descriptors and /dev/null among them.
func warmUp(t *testing.T) {
	t.Helper()
	link, liar, err := deceive(t, shimwire.Pass, "the truth")
	if err != nil {
		t.Fatalf("the truth is refused: %v", err)
	}
	if err := errors.Join(link.Close(), liar.Wait()); err != nil {
		t.Error(err)
	}
}

func TestLaterLiesEndTheRun(t *testing.T) {
	warmUp(t)
	for _, lie := range []string{"again", "rights beside the self-test"} {
		before := openFiles(t)
		t.Run(lie, func(t *testing.T) {
			link, liar, err := deceive(t, shimwire.Pass, lie)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := link.Ready(transporttest.Context(t)); !errors.Is(err, transport.ErrProtocol) {
				t.Errorf("the self-test gives %v", err)
			}
			if _, ok := <-link.Messages(); ok {
				t.Error("a message came")
			}
			if err := liar.Wait(); err != nil { // it has been hung up on, before Close
				t.Error(err)
			}
			if err := link.Close(); err != nil {
				t.Error(err)
			}
		})
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d descriptors are open, there were %d", lie, after, before)
		}
	}
}

func TestAcceptWorksOnce(t *testing.T) {
	dir := transporttest.RunDir(t)
	endpoint, err := transport.New(shimwire.Pass).Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	liar := transporttest.Liar(dir, "hang up")
	if err := liar.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := endpoint.Accept(transporttest.Context(t), shimwire.Config{}); err == nil {
			t.Error("it is accepted")
		}
	}
	if err := errors.Join(liar.Wait(), endpoint.Close()); err != nil {
		t.Error(err)
	}
}

func TestListenWantsAPrivateDirectory(t *testing.T) {
	dir := transporttest.RunDir(t)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.New(shimwire.Pass).Listen(dir); err == nil {
		t.Error("a directory that others can enter is taken")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.New("carrier pigeon").Listen(dir); err == nil {
		t.Error("an unknown mode is taken")
	}
	endpoint, err := transport.New(shimwire.Relay).Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host.sock", "relay.sock"} {
		if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if err := endpoint.Close(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.sock")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// relayedLink is a Link in Relay mode, and the path of its relay socket, which the agent can reach.
func relayedLink(t *testing.T) (*transport.Link, string) {
	t.Helper()
	dir := transporttest.RunDir(t)
	endpoint, err := transport.New(shimwire.Relay).Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	liar := transporttest.Liar(dir, "the truth")
	if err := liar.Start(); err != nil {
		t.Fatal(err)
	}
	link, err := endpoint.Accept(transporttest.Context(t), shimwire.Config{Listen: []shimwire.Listen{
		{Network: "tcp4", Addr: "127.0.0.1:3128"}, {Network: "tcp4", Addr: "0.0.0.0:443"}, {Network: "udp4", Addr: "127.0.0.1:53"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(link.Close(), liar.Wait()); err != nil {
			t.Error(err)
		}
	})
	return link, filepath.Join(dir, "relay.sock")
}

func TestForgedRelayHeadersReachNobody(t *testing.T) {
	link, socket := relayedLink(t)
	for _, header := range []string{
		`{"network":"tcp4","local":"127.0.0.1:3129","remote":"127.0.0.1:1"}`,
		`{"network":"tcp4","local":"127.0.0.2:3128","remote":"127.0.0.1:1"}`,
		`{"network":"tcp4","local":"127.0.0.1:53","remote":"127.0.0.1:1"}`,
		`{"network":"tcp4","local":"0.0.0.0:443x","remote":"127.0.0.1:1"}`,
		`{"network":"tcp6","local":"127.0.0.1:3128","remote":"127.0.0.1:1"}`,
		`{"network":"tcp4","local":"[::1]:443","remote":"127.0.0.1:1"}`,
		`{"network":"tcp4","local":"[::ffff:127.0.0.1]:443","remote":"127.0.0.1:1"}`,
		`{"network":"tcp4","local":"127.0.0.1:3128","remote":"[::1]:1"}`,
		`{"network":"tcp4","local":"127.0.0.1:3128","remote":"good.test:1"}`,
		`{"network":"tcp4","local":"127.0.0.1:3128","remote":"0.0.0.0:1"}`,
		`{"network":"tcp4","local":"127.0.0.1:3128","remote":""}`,
		`{"network":"tcp4","local":"127.0.0.1:3128","remote":"127.0.0.1:1","x":1}`,
		`{"network":"udp4","local":"127.0.0.1:3128","remote":"127.0.0.1:1"}`,
		`{"network":"udp4","local":"127.0.0.2:53","remote":"127.0.0.1:1"}`,
		`CONNECT good.test:443 HTTP/1.1`, strings.Repeat("x", 10*shimwire.MaxHeader), ``,
	} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, header+"\n") // it may be hung up before the end
		if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: %d bytes, %v", header, n, err)
		}
		_ = c.Close()
	}
	honest, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = honest.Close() }()
	if _, err := io.WriteString(honest, `{"network":"tcp4","local":"127.5.5.5:443","remote":"127.0.0.1:7"}`+"\nafter"); err != nil {
		t.Fatal(err)
	}
	c, err := link.Listeners()[1].TCP.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	text := make([]byte, 5)
	if _, err := io.ReadFull(c, text); err != nil || string(text) != "after" {
		t.Errorf("%q, %v", text, err)
	}
	if c.LocalAddr().String() != "127.5.5.5:443" || c.RemoteAddr().String() != "127.0.0.1:7" {
		t.Errorf("%v to %v", c.RemoteAddr(), c.LocalAddr())
	}
}

// TestNewerFlowTakesTheOlderOnesPlace: two relayed connections for one client address, as an agent may forge.
func TestNewerFlowTakesTheOlderOnesPlace(t *testing.T) {
	link, socket := relayedLink(t)
	conn := link.Listeners()[2].UDP
	buf := make([]byte, 100)
	var flows []net.Conn
	for i := range 2 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		flows = append(flows, c)
		text := fmt.Sprintf("question %d", i)
		frame := append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)
		if _, err := fmt.Fprintf(c, "{\"network\":\"udp4\",\"local\":\"127.0.0.1:53\",\"remote\":\"127.0.0.1:7\"}\n%s", frame); err != nil {
			t.Fatal(err)
		}
		n, from, err := conn.ReadFrom(buf)
		if err != nil || string(buf[:n]) != text || from.String() != "127.0.0.1:7" {
			t.Fatalf("%q from %v, %v", buf[:n], from, err)
		}
	}
	if _, err := flows[0].Read(buf); err != io.EOF {
		t.Errorf("the older is still there: %v", err)
	}
	if _, err := conn.WriteTo([]byte("answer"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(flows[1]).Peek(8); err != nil || string(got) != "\x00\x06answer" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := conn.WriteTo([]byte("answer"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 7}); err != nil {
		t.Errorf("an answer to nobody: %v", err)
	}
}
