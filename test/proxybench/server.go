//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// pattern is what bodies are made of: blocks of blockSize bytes, all alike, twice, so that a part of one that begins
// anywhere in the first can be had in one piece. Half of a block is like what is compressed, half like what a person reads.
func pattern() []byte {
	p := make([]byte, 0, 2*blockSize)
	for state := uint64(1); len(p) < blockSize/2; {
		state = state*6364136223846793005 + 1442695040888963407
		p = append(p, byte(state>>56))
	}
	for len(p) < blockSize {
		p = append(p, fmt.Sprintf("{\"id\": %d, \"name\": \"agentbox\", \"text\": \"a line of it,\\nand another one\"},\n", len(p))...)
	}
	p = p[:blockSize]
	return append(p, p...)
}

func smallBody() []byte { return pattern()[:smallSize] }

// serve is the server that all contenders lead to: TLS, HTTP/1.1.
func serve(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, serverCert), filepath.Join(dir, serverKey))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler: newHandler(), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		TLSConfig:   &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}},
	}
	go func() { _ = s.ServeTLS(l, "", "") }()
	defer func() { _ = s.Close() }()
	if err := tell(out, place{Addr: l.Addr().String()}); err != nil {
		return err
	}
	return untilEnd(in)
}

func newHandler() http.Handler {
	small, blocks := smallBody(), pattern()[:blockSize]
	mux := http.NewServeMux()
	mux.HandleFunc(smallPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(small)))
		_, _ = w.Write(small)
	})
	mux.HandleFunc(bigPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(bigSize))
		for range bigSize / blockSize {
			if _, err := w.Write(blocks); err != nil {
				return
			}
		}
	})
	mux.HandleFunc(streamPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: open\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	return mux
}
