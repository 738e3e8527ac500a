package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// grpcHost is the name of the gRPC server.
const grpcHost = "grpc.example.com"

// What every gRPC client prints.
const grpcSays = "once one\nmany 1\nmany 2\nmany 3\ntrailer 3\nerror FAILED_PRECONDITION not today\n"

// gRPC clients call once, and over a stream in both directions whose every message waits for the one before to come
// back; trailers and errors arrive as they were sent.
func TestGRPCClients(t *testing.T) {
	w := newTown(t, nil)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{GetCertificate: w.certificate})),
		grpc.ForceServerCodec(plainCodec{}), grpc.UnknownServiceHandler(grpcEcho))
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	w.route(grpcHost, listener.Addr().String())
	w.lets(allow(grpcHost))
	w.program("grpcclient.js", "grpcclient.py")
	w.bring("@grpc", "@js-sdsl", "@protobufjs", "@types", "cliui", "emoji-regex", "escalade", "get-caller-file", "is-fullwidth-code-point", "lodash.camelcase", "long", "protobufjs",
		"require-directory", "string-width", "strip-ansi", "ansi-regex", "ansi-styles", "color-convert", "color-name", "undici-types", "wrap-ansi", "y18n", "yargs", "yargs-parser")
	w.allSay([]sentence{
		{"grpc of Python", "GRPC_VERBOSITY=NONE python3 grpcclient.py " + grpcHost + ":443", grpcSays},
		{"grpc-js of Node", "node grpcclient.js " + grpcHost + ":443", grpcSays},
		{"grpc-go", w.ownClient("grpc") + " " + grpcHost + ":443", grpcSays},
	})
}

// plainCodec carries bytes as they are.
type plainCodec struct{}

func (plainCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (plainCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (plainCodec) Name() string { return "plain" }

// grpcEcho sends each message back, and says at the end how many there were.
func grpcEcho(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	if strings.HasSuffix(method, "/Fail") {
		return status.Error(codes.FailedPrecondition, "not today")
	}
	for n := 0; ; n++ {
		var message []byte
		if err := stream.RecvMsg(&message); errors.Is(err, io.EOF) {
			stream.SetTrailer(metadata.Pairs("x-count", strconv.Itoa(n)))
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

// grpcClient is the client of grpc-go.
func grpcClient(args []string) error {
	conn, err := grpc.NewClient(args[0], grpc.WithTransportCredentials(credentials.NewTLS(nil)), grpc.WithDefaultCallOptions(grpc.ForceCodec(plainCodec{})))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	in, out := []byte("one"), []byte(nil)
	if err := conn.Invoke(ctx, "/echo.Echo/Once", &in, &out); err != nil {
		return err
	}
	fmt.Println("once", string(out))
	if err := grpcMany(ctx, conn); err != nil {
		return err
	}
	problem, _ := status.FromError(conn.Invoke(ctx, "/echo.Echo/Fail", &in, &out))
	fmt.Println("error", map[codes.Code]string{codes.FailedPrecondition: "FAILED_PRECONDITION"}[problem.Code()], problem.Message())
	return nil
}

func grpcMany(ctx context.Context, conn *grpc.ClientConn) error {
	call, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/echo.Echo/Many")
	if err != nil {
		return err
	}
	for i := range 3 {
		in, out := []byte(strconv.Itoa(i+1)), []byte(nil)
		if err := errors.Join(call.SendMsg(&in), call.RecvMsg(&out)); err != nil {
			return err
		}
		fmt.Println("many", string(out))
	}
	if err := call.CloseSend(); err != nil {
		return err
	}
	if err := call.RecvMsg(&[]byte{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("a message too many (%w)", err)
	}
	fmt.Println("trailer", strings.Join(call.Trailer().Get("x-count"), ","))
	return nil
}

// HTTP/2 requests of one connection run side by side.
func TestHTTP2ClientOfNode(t *testing.T) {
	w := newTown(t, map[string]http.Handler{secureHost: http.HandlerFunc(hello)})
	w.lets(allow(secureHost))
	w.program("http2client.js")
	w.run("node http2client.js https://" + secureHost + " /a /b /c").exits(0).prints("200 hello /a\n200 hello /b\n200 hello /c\n")
	w.only(w.visits(), "GET "+secureHost+"/a", "GET "+secureHost+"/b", "GET "+secureHost+"/c")
}

// Programs that speak neither TLS nor HTTP, where a rule of the person's own names host, port and protocol.
func TestRawClients(t *testing.T) {
	w := newTown(t, nil)
	w.route("redis.example.com", w.redis())
	w.route("db.example.com", w.postgres())
	w.route("ssh.example.com", w.sshd())
	for host, port := range map[string]int{"redis.example.com": 6379, "db.example.com": 5432, "ssh.example.com": 22} {
		w.lets(w.rules + allow(host, fmt.Sprintf("ports = [%d]", port), `protocol = "tcp"`))
	}
	w.program("connect.py")
	const ssh = "ssh -F none -i key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
	w.allSay([]sentence{
		{"redis-cli", "redis-cli -h redis.example.com set k works && redis-cli -h redis.example.com get k", "OK\nworks\n"},
		{"psql", `psql -XAtq "host=db.example.com user=someone dbname=any sslmode=prefer" -c "select 'works'"`, "works\n"},
		{"ssh", ssh + " ssh.example.com echo works", "works\n"},
		{"ssh through CONNECT", ssh + ` -o 'ProxyCommand=python3 connect.py %h:%p' ssh.example.com echo works`, "works\n"},
	})
	w.run("python3 connect.py redis.example.com:5432 </dev/null; python3 connect.py redis.example.com:443 </dev/null; python3 connect.py db.example.com:22 </dev/null").exits(1)
	w.recorded(slices.Concat(denied("redis.example.com", 5432), denied("redis.example.com", 443), denied("db.example.com", 22)))
}

// freePort is a port that nothing listens on, for servers that cannot say which one they took.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, listener.Close()) }()
	return portOf(t, listener.Addr().String())
}

// daemon starts a server of the test's own and waits until it accepts connections.
func (w *town) daemon(port int, name string, args ...string) string {
	w.t.Helper()
	background(w.t, name, args...)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for {
		conn, err := net.Dial("tcp4", addr)
		if err == nil {
			must(w.t, conn.Close())
			return addr
		}
		pause()
	}
}

func (w *town) redis() string {
	port := freePort(w.t)
	return w.daemon(port, "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--dir", filepath.Dir(w.repo))
}

// sshd runs as whoever runs the tests, and lets in the key that lies in the repository.
func (w *town) sshd() string {
	w.t.Helper()
	dir, port := filepath.Join(filepath.Dir(w.repo), "sshd"), freePort(w.t)
	must(w.t, os.Mkdir(dir, 0o700))
	for _, key := range []string{filepath.Join(dir, "host"), filepath.Join(w.repo, "key")} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			w.t.Fatalf("making a key: %v\n%s", err, out)
		}
	}
	must(w.t, os.Rename(filepath.Join(w.repo, "key.pub"), filepath.Join(dir, "authorized")))
	config := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n", port, filepath.Join(dir, "host"), filepath.Join(dir, "authorized"))
	must(w.t, os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	return w.daemon(port, "/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config"))
}
