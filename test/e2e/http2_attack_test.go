package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// stream is an HTTP/2 request from inside, and what becomes of it.
type stream struct {
	name    string
	headers [][2]string
	want    string
	events  []string
}

// asks is a stream's headers: method, scheme, authority and path, and more as "name: value".
func asks(method, scheme, authority, path string, more ...string) [][2]string {
	out := [][2]string{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}}
	for _, m := range more {
		name, value, _ := strings.Cut(m, ": ")
		out = append(out, [2]string{name, value})
	}
	return out
}

// Each HTTP/2 stream is judged by itself: by its own :authority, method and path.
func TestAttacksOnStreams(t *testing.T) {
	w := attackedTown(t)
	fine := asks("GET", "https", good, "/fine")
	streams := []stream{
		{"as it should be", fine, "200", allowed(good, 443)},
		{"evil", asks("GET", "https", evil, "/"), "421", refused(good, 443)},
		{"good after evil", fine, "200", allowed(good, 443)},
		{"a sibling", asks("GET", "https", "a."+wild, "/"), "421", refused(good, 443)},
		{"another port", asks("GET", "https", good+":8443", "/"), "421", refused(good, 443)},
		{"Host evil beside :authority", asks("GET", "https", good, "/", "host: "+evil), "reset:1", nil},
		{"no :authority, Host evil", [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {"host", evil}}, "421", refused(good, 443)},
		{"another scheme", asks("GET", "http", good, "/"), "400", refused(good, 443)},
		{"two authorities", append(asks("GET", "https", good, "/"), [2]string{":authority", evil}), "reset:1", nil},
		{"CONNECT", [][2]string{{":method", "CONNECT"}, {":authority", evil + ":443"}}, "400", refused(good, 443)},
		{"a header of one hop", asks("GET", "https", good, "/", "connection: keep-alive"), "400", refused(good, 443)},
		{"a coding of transfer", asks("POST", "https", good, "/", "transfer-encoding: chunked"), "400", refused(good, 443)},
		{"a line end in a header", asks("GET", "https", good, "/", "x-a: 1\r\nhost: "+evil), "reset:1", nil},
		{"a line end in a path", asks("GET", "https", good, "/ HTTP/1.1\r\nHost: "+evil+"\r\n\r\n"), "reset:1", nil},
		{"an upper-case header", asks("GET", "https", good, "/", "X-A: 1"), "reset:1", nil},
		{"a URL for a path", asks("GET", "https", good, "https://"+evil+"/"), "reset:1", nil},
		{"good at last", fine, "200", allowed(good, 443)},
	}
	w.streamed(good+":443 tls", streams)
	w.arrived(slices.Repeat([]string{"GET " + good + "/fine"}, 3))
}

// The same where the connection is not encrypted.
func TestAttacksOnPlainStreams(t *testing.T) {
	w := attackedTown(t)
	w.streamed(plainHost+":80 plain", []stream{
		{"as it should be", asks("GET", "http", plainHost, "/fine"), "200", allowed(plainHost, 80)},
		{"evil", asks("GET", "http", evil, "/"), "421", refused(plainHost, 80)},
		{"another scheme", asks("GET", "https", plainHost, "/"), "400", refused(plainHost, 80)},
		{"good at last", asks("GET", "http", plainHost, "/fine"), "200", allowed(plainHost, 80)},
	})
	w.arrived(slices.Repeat([]string{"GET " + plainHost + "/fine"}, 2))
}

// streamed opens the streams, and checks what became of each and what is recorded.
func (w *town) streamed(to string, streams []stream) {
	w.t.Helper()
	var headers [][][2]string
	var want []string
	for _, s := range streams {
		headers = append(headers, s.headers)
		want = append(want, s.events...)
	}
	text, err := json.Marshal(headers)
	must(w.t, err)
	w.write("streams.json", string(text))
	w.program("h2attacker.py")
	r := w.run("python3 h2attacker.py " + to + " streams.json").exits(0)
	said := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	if len(said) != len(streams) {
		w.t.Fatalf("%d answers to %d streams:\n%s%s", len(said), len(streams), r.out, r.err)
	}
	for i, s := range streams {
		if said[i] != s.want {
			w.t.Errorf("%s: %s, want %s", s.name, said[i], s.want)
		}
	}
	w.recorded(want)
}
