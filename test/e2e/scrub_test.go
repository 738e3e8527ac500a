package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/websocket"
)

const (
	tellingHost = "telling.example.com"
	ofMine      = "tok_Zq8stR+4vWxY/aB2cD3eF5gH6iJ7kQ-L9012"
)

// echoWays are how a server says what it was sent.
var echoWays = map[string]func(w http.ResponseWriter, sent string){
	"plain":   func(w http.ResponseWriter, sent string) { _, _ = io.WriteString(w, sent) },
	"chunked": func(w http.ResponseWriter, sent string) { byteByByte(w, sent) },
	"events": func(w http.ResponseWriter, sent string) {
		w.Header().Set("Content-Type", "text/event-stream")
		byteByByte(w, "data: "+sent+"\n\n")
	},
	"gzip": func(w http.ResponseWriter, sent string) { packed(w, "gzip", sent, gzip.NewWriter) },
	"deflate": func(w http.ResponseWriter, sent string) {
		packed(w, "deflate", sent, zlib.NewWriter)
	},
	"br": func(w http.ResponseWriter, sent string) { packed(w, "br", sent, brotli.NewWriter) },
	"zstd": func(w http.ResponseWriter, sent string) {
		packed(w, "zstd", sent, func(out io.Writer) *zstd.Encoder { e, _ := zstd.NewWriter(out); return e })
	},
	"header": func(w http.ResponseWriter, sent string) { w.Header().Set("X-Echo", sent) },
	"trailer": func(w http.ResponseWriter, sent string) {
		w.Header().Set("Trailer", "X-Behind")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Behind", sent)
	},
	"redirect": func(w http.ResponseWriter, sent string) {
		w.Header().Set("Location", "https://"+tellingHost+"/?token="+url.QueryEscape(sent))
		w.WriteHeader(http.StatusFound)
	},
	"error": func(w http.ResponseWriter, sent string) {
		http.Error(w, "no such token: "+sent, http.StatusUnauthorized)
	},
	"encoded": func(w http.ResponseWriter, sent string) {
		_, _ = fmt.Fprintf(w, "%s %x %s %s %s", sent, sent, url.QueryEscape(sent), strings.ReplaceAll(sent, "/", `\/`), base64.StdEncoding.EncodeToString([]byte("user:"+sent)))
	},
}

func byteByByte(w http.ResponseWriter, text string) {
	for _, b := range []byte(text) {
		_, _ = w.Write([]byte{b})
		w.(http.Flusher).Flush()
	}
}

func packed[W io.WriteCloser](w http.ResponseWriter, coding, text string, pack func(io.Writer) W) {
	var buf bytes.Buffer
	out := pack(&buf)
	_, _ = io.WriteString(out, text)
	_ = out.Close()
	w.Header().Set("Content-Encoding", coding)
	_, _ = w.Write(buf.Bytes())
}

// A server that an agent may reach, and that is told a credential, says it again in every way there is: the agent sees its
// placeholder. Nothing that the run leaves holds the credential either.
func TestServersThatRepeatCredentials(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		echoWays[r.URL.Query().Get("way")](w, r.Header.Get("Authorization"))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	mux.Handle("/ws", websocket.Server{Handler: func(c *websocket.Conn) {
		_ = websocket.Message.Send(c, "you are "+c.Request().Header.Get("Authorization"))
	}})
	w := newTown(t, map[string]http.Handler{tellingHost: mux})
	w.setenv("TOKEN_OUTSIDE", ofMine)
	w.lets(allow(tellingHost) + `[[credential]]
name = "mine"
source = { env = "TOKEN_OUTSIDE" }
hosts = ["` + tellingHost + `"]
header = "Authorization: Bearer {token}"
env = "TOKEN"
shape = "tok_"
`)
	r := w.run(w.ownClient("echoes")).exits(0)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if want := 2*len(echoWays) + 1; len(lines) != want {
		t.Fatalf("%d answers, want %d:\n%s", len(lines), want, r.out)
	}
	for _, line := range lines {
		if tellsOfMine(line) || !strings.Contains(line, "agbx0Ph") {
			t.Errorf("the agent saw %s", line)
		}
	}
	told := 0
	for _, v := range w.visits() {
		if v.auth == "Bearer "+ofMine {
			told++
		}
	}
	if told != len(lines) {
		t.Errorf("the server was told the credential %d times, want %d", told, len(lines))
	}
	logs := 0
	must(t, filepath.WalkDir(filepath.Dir(w.repo), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "ownclient" { // which is this test
			return nil
		}
		if text, err := os.ReadFile(path); err == nil && tellsOfMine(string(text)) {
			t.Errorf("%s holds the credential", path)
		}
		if strings.HasPrefix(d.Name(), "events") {
			logs++
		}
		return nil
	}))
	if logs == 0 {
		t.Error("the run's log was not among what was searched")
	}
}

// tellsOfMine reports whether a text holds the credential, or most of it, in any of the ways.
func tellsOfMine(text string) bool {
	part := ofMine[5:18] // as JSON and URLs write it too
	forms := []string{part, ofMine[18:35], hex.EncodeToString([]byte(part))}
	for _, before := range []string{"", "x", "xx"} {
		coded := base64.RawStdEncoding.EncodeToString([]byte(before + ofMine))
		forms = append(forms, coded[8:len(coded)-4])
	}
	return slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) })
}

// echoesClient asks for every echo, over both versions of HTTP, and prints what came, one a line.
func echoesClient([]string) error {
	token := "Bearer " + os.Getenv("TOKEN")
	for _, h2 := range []bool{false, true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		client := &http.Client{
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, Protocols: protocols, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		for way := range echoWays {
			line, err := echoed(client, way, token)
			if err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
			fmt.Println(line)
		}
	}
	config, err := websocket.NewConfig("wss://"+tellingHost+"/ws", "https://example.com")
	if err != nil {
		return err
	}
	config.Header.Set("Authorization", token)
	conn, err := websocket.DialConfig(config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var said string
	if err := websocket.Message.Receive(conn, &said); err != nil {
		return err
	}
	fmt.Printf("websocket %q\n", said)
	return nil
}

func echoed(client *http.Client, way, token string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+tellingHost+"/?way="+way, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", token)
	req.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	all, err := httputil.DumpResponse(resp, true)
	return fmt.Sprintf("%s %s %q %q", way, resp.Proto, all, fmt.Sprint(resp.Trailer)), err
}
