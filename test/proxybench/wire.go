//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// What the server answers with.
const (
	smallPath  = "/api/v1/small"
	bigPath    = "/api/v1/big"
	streamPath = "/api/v1/stream"
	smallSize  = 1024
	bigSize    = 64 << 20
	blockSize  = 64 << 10
)

// Names of the server, which no name service knows.
const (
	inspectedName = "bench.test"
	splicedName   = "spliced.bench.test"
	manyNames     = "many.bench.test" // the parent of the distinct hosts
	loopbackName  = "localhost"       // for proxies that look names up themselves
)

// way is how the client reaches the server.
type way struct {
	Proxy     string // "ip:port" of a proxy; "" is no proxy
	Env       bool   // the proxy is that of the environment, as inside a container
	Authority string // what CONNECT names, "host:port"; without a proxy what is dialled
	Name      string // the server's name, for TLS and the Host header
	Header    string // a line more in each request's head, or ""
	Roots     string // PEM of the authorities that the client trusts; "" with Env: SSL_CERT_FILE's
}

// job is one measurement, or one step of it, that the client is asked for.
type job struct {
	Kind   string // a key of kinds
	Way    way
	Conns  int           // connections at the same time
	For    time.Duration // how long to go on
	Count  int           // or how often
	Offset int           // of the first of the distinct hosts
}

// outcome is what the client measured.
type outcome struct {
	Done   int
	Took   time.Duration
	Middle time.Duration // median of single requests
	Worked time.Duration // processor time of the client
	Errors int
	First  string // the first error
}

func (o outcome) perSecond() float64 { return float64(o.Done) / o.Took.Seconds() }

// err is what makes an outcome worth nothing: a failed request, or none.
func (o outcome) err() error {
	if o.Errors > 0 {
		return fmt.Errorf("%d of %d failed: %s", o.Errors, o.Errors+o.Done, o.First)
	}
	if o.Done == 0 || o.Took <= 0 {
		return errors.New("nothing was done")
	}
	return nil
}

// place is what a part tells when it serves.
type place struct {
	Addr   string
	CA     string // PEM of the authority that it signs with, or ""
	Header string // the line that carries the placeholder of its credential, or ""
}

func tell(out io.Writer, what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

// untilEnd waits for the end of what it reads.
func untilEnd(in io.Reader) error {
	_, err := io.Copy(io.Discard, in)
	return err
}

func readLine(in *bufio.Reader, into any) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}
