package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"agentbox/internal/event"
)

// text is a codec of gRPC for strings.
type text struct{}

func (text) Marshal(v any) ([]byte, error) { return []byte(*v.(*string)), nil }
func (text) Name() string                  { return "proto" }
func (text) Unmarshal(data []byte, v any) error {
	*v.(*string) = string(data)
	return nil
}

// echoService has a method that answers once, one that streams both ways, and one that fails.
var echoService = grpc.ServiceDesc{
	ServiceName: "echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Once", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var s string
		if err := decode(&s); err != nil {
			return nil, err
		}
		if s == "fail" {
			return nil, status.Error(codes.DataLoss, "it is lost")
		}
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-behind", "trailer"))
		s = "echo " + s
		return &s, nil
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Both", ServerStreams: true, ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
		for {
			var s string
			if err := stream.RecvMsg(&s); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&s); err != nil {
				return err
			}
		}
	}}},
}

// grpcServer serves echoService, with TLS where there is a certificate, and gives its address.
func grpcServer(t *testing.T, cert *tls.Certificate) string {
	t.Helper()
	return grpcServerOf(t, cert, &echoService)
}

func grpcServerOf(t *testing.T, cert *tls.Certificate, service *grpc.ServiceDesc) string {
	t.Helper()
	options := []grpc.ServerOption{grpc.ForceServerCodec(text{})}
	if cert != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}})))
	}
	s := grpc.NewServer(options...)
	s.RegisterService(service, nil)
	li, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(li) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return li.Addr().String()
}

func (l *lab) grpcClient(authority string, roots *x509.CertPool) *grpc.ClientConn {
	l.t.Helper()
	creds := insecure.NewCredentials()
	if roots != nil {
		creds = credentials.NewTLS(&tls.Config{RootCAs: roots})
	}
	conn, err := grpc.NewClient("passthrough:///"+authority, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodec(text{})),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.connect(authority), nil }))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestGRPC(t *testing.T) {
	for _, way := range []string{"TLS", "plain"} {
		t.Run(way, func(t *testing.T) {
			l := newLab(t, nil, func(c *Config) {
				a := newAuthority(t)
				c.ExtraRoots = append(c.ExtraRoots, a.pem()...)
				cert := a.issue(t, time.Now().Add(time.Hour), "good.test")
				c.Fixed[mustHost(t, "good.test")] = grpcServer(t, &cert)
				c.Fixed[mustHost(t, "plain.test")] = grpcServer(t, nil)
			})
			conn := l.grpcClient("plain.test:80", nil)
			if way == "TLS" {
				conn = l.grpcClient("good.test:443", l.roots)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			in, out := "hello", ""
			var trailer metadata.MD
			if err := conn.Invoke(ctx, "/echo/Once", &in, &out, grpc.Trailer(&trailer)); err != nil || out != "echo hello" || len(trailer["x-behind"]) != 1 {
				t.Fatalf("got %q, %v, %v", out, trailer, err)
			}
			in = "fail"
			if err := conn.Invoke(ctx, "/echo/Once", &in, &out); status.Code(err) != codes.DataLoss {
				t.Errorf("the server's own failure: %v", err)
			}
			stream, err := conn.NewStream(ctx, &echoService.Streams[0], "/echo/Both")
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{"one", "two", strings.Repeat("three", 100_000)} { // each answer comes before the next message is sent
				if err := stream.SendMsg(&s); err != nil {
					t.Fatal(err)
				}
				var back string
				if err := stream.RecvMsg(&back); err != nil || back != s {
					t.Fatalf("got %d bytes, %v", len(back), err)
				}
			}
			_ = stream.CloseSend()
			if err := stream.RecvMsg(&out); !errors.Is(err, io.EOF) {
				t.Errorf("the end: %v", err)
			}
			_ = conn.Close()
			for _, e := range l.only(6) {
				if e.Method != "POST" || e.Kind == event.NetResponse && (e.Status != 200 || e.BytesUp == 0) {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

// gRPC's clients are told in gRPC's own words, which they neither retry nor take for a broken server.
func TestGRPCRefusals(t *testing.T) {
	l, _ := newWireLab(t, limited(t, rule(t, "allow", "good.test", true, 443), "", "/open/**"))
	conn := l.grpcClient("good.test:443", l.roots)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	in, out := "x", ""
	err := conn.Invoke(ctx, "/echo/Once", &in, &out)
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "no rule for good.test") || !strings.Contains(err.Error(), "retrying will not help") {
		t.Errorf("denied: %v", err)
	}
	broken := newLab(t, nil, func(c *Config) { c.Fixed[mustHost(t, "good.test")] = "127.0.0.1:1" })
	err = broken.grpcClient("good.test:443", broken.roots).Invoke(ctx, "/echo/Once", &in, &out)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "refused the connection") {
		t.Errorf("failed: %v", err)
	}
}
