package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// noProxy unsets what tells programs of the proxy.
const noProxy = "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy; "

// program puts programs of test/clients/inside into the repository.
func (b *box) program(names ...string) {
	b.t.Helper()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("..", "clients", "inside", name))
		must(b.t, err)
		b.write(name, string(text))
	}
}

// Programs and libraries that agents use, unmodified, each with and without the proxy variables, over HTTP/1.1 and
// over HTTP/2 where they have it.
func TestHTTPClients(t *testing.T) {
	w := newTown(t, map[string]http.Handler{secureHost: http.HandlerFunc(hello), "http://" + plainHost: http.HandlerFunc(hello)})
	w.lets(allow(secureHost) + allow(plainHost, "ports = [80]"))
	w.program("Fetch.java", "httpxclient.py", "http2client.js")
	const url = "https://" + secureHost
	w.allSay([]sentence{
		{"curl, HTTP/1.1", "curl -sS --http1.1 -w '%{http_version}\n' " + url + "/a", "hello /a\n1.1\n"},
		{"curl, HTTP/2", "curl -sS --http2 -w '%{http_version}\n' " + url + "/a", "hello /a\n" + curlSays + "\n"},
		{"curl, plain", "curl -sS http://" + plainHost + "/a", "hello /a\n"},
		{"curl, no proxy", "curl -sS --noproxy '*' " + url + "/a", "hello /a\n"},
		{"curl, no proxy, plain", "curl -sS --noproxy '*' http://" + plainHost + "/a", "hello /a\n"},
		{"wget", "wget -q -O - " + url + "/a", "hello /a\n"},
		{"requests", `python3 -c 'import requests; r = requests.get("` + url + `/a"); print(r.status_code, r.text, end="")'`, "200 hello /a\n"},
		{"requests, a session", `python3 -c 'import requests; s = requests.Session(); print(s.get("` + url + `/a").text + s.post("` + url + `/b", data=b"x" * 1000000).text, end="")'`, "hello /a\nhello /b\n"},
		{"httpx, HTTP/1.1", "python3 httpxclient.py 1 " + url + "/a " + url + "/b", "HTTP/1.1 200 hello /a\nHTTP/1.1 200 hello /b\n"},
		{"httpx, HTTP/2", "python3 httpxclient.py 2 " + url + "/a " + url + "/b", httpxSays + " 200 hello /a\n" + httpxSays + " 200 hello /b\n"},
		{"node fetch", `node -e 'fetch("` + url + `/a").then(r => r.text()).then(t => process.stdout.write(t))'`, "hello /a\n"},
		{"node https", `node -e 'require("https").get("` + url + `/a", r => r.pipe(process.stdout))'`, "hello /a\n"},
		{"Java", "java -XX:TieredStopAtLevel=1 Fetch.java " + url + "/a", javaSays + " 200 hello /a\n"},
		{"git over HTTP/2", "GIT_CURL_VERBOSE=0 git -c http.version=HTTP/2 ls-remote " + url + "/nothing 2>&1 | tail -1", "fatal: " + url + "/nothing/info/refs not valid: is this a git repository?\n"},
	})
	for _, v := range w.visits() {
		if v.host != secureHost && v.host != plainHost {
			t.Errorf("a server saw %+v", v)
		}
	}
}

// sentence is a command of a client inside, and what it must print.
type sentence struct{ name, command, prints string }

// allSay runs clients one after the other, all in one run with the variables that tell of the proxy and all in one
// without, and checks what each prints and that nothing was refused.
func (w *town) allSay(clients []sentence) {
	w.t.Helper()
	const mark = "\x1e"
	var script strings.Builder
	for _, c := range clients {
		fmt.Fprintf(&script, "%s || echo \"exit $?\"; printf '\\036'\n", c.command)
	}
	for way, prefix := range map[string]string{"with variables": "", "without variables": noProxy} {
		r := w.run("exec 2>&1\n" + prefix + script.String()).exits(0)
		said := strings.Split(r.out, mark)
		if len(said) != len(clients)+1 {
			w.t.Fatalf("%s: %d answers of %d clients:\n%.4000s", way, len(said)-1, len(clients), r.out)
		}
		for i, c := range clients {
			w.t.Run(c.name+" "+way, func(t *testing.T) {
				if said[i] != c.prints {
					t.Errorf("it prints %.2000q, want %.2000q", said[i], c.prints)
				}
			})
		}
		if refused := w.refusals(); len(refused) > 0 {
			w.t.Errorf("%s: refused: %q", way, refused)
		}
	}
}

// Streams that go both ways stay open and hold nothing back.
func TestWebSocketClients(t *testing.T) {
	w := newTown(t, map[string]http.Handler{secureHost: websocket.Server{Handler: echo}})
	w.lets(allow(secureHost))
	w.program("wsclient.js", "wsclient.py")
	w.bring("ws")
	const words = " wss://" + secureHost + "/echo one two $(head -c 70000 /dev/zero | tr '\\0' x)"
	back := "one\ntwo\n" + strings.Repeat("x", 70000) + "\n"
	w.allSay([]sentence{
		{"ws of Node", "node wsclient.js" + words, back},
		{"websockets of Python", "python3 wsclient.py" + words, back},
		{"golang.org/x/net", w.ownClient("websocket") + words, back},
	})
	w.only(w.visits(), "GET "+secureHost+"/echo")
}

// echo sends each message back.
func echo(c *websocket.Conn) {
	var message string
	for websocket.Message.Receive(c, &message) == nil && websocket.Message.Send(c, message) == nil {
	}
}

// What clients say of the protocol that they spoke where they offer HTTP/2.
const (
	curlSays  = "2"
	httpxSays = "HTTP/2"
	javaSays  = "HTTP_2"
)
