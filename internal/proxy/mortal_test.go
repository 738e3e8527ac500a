package proxy

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

// ending is an injector whose credential ends when the test says so.
type ending struct {
	swap
	life context.Context
}

func (e ending) Life(name string) context.Context {
	if name != "key" {
		return nil // which would panic: nobody asks for what was not given
	}
	return e.life
}

// Whoever stops a credential does not wait: what is on its way with it is cut off, in every shape that a request has.
func TestWhatIsOnItsWayEndsWithItsCredential(t *testing.T) {
	handler := func(begun chan<- struct{}) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/ws":
				echoUpgrade(w, r)
			case "/body":
				_, _ = io.WriteString(w, "first")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			case "/head":
				close(begun)
				<-r.Context().Done()
			}
		}
	}
	for _, shape := range []string{"1 /body", "1 /head", "2 /body", "2 /head", "swift /body", "swift /head", "ws"} {
		t.Run(shape, func(t *testing.T) {
			life, end := context.WithCancel(t.Context())
			defer end()
			begun := make(chan struct{})
			l := newLab(t, handler(begun), func(c *Config) { c.Injector = ending{swap{}, life} })
			kind, path, _ := strings.Cut(shape, " ")
			if kind == "ws" {
				ws := l.tunnel("good.test:443", "good.test")
				if _, err := io.WriteString(ws, "GET /ws HTTP/1.1\r\nHost: good.test\r\nAuthorization: Bearer placeholder\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				br := bufio.NewReader(ws)
				if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
					t.Fatalf("got %+v, %v", resp, err)
				}
				end()
				if text, _ := io.ReadAll(br); len(text) > 0 {
					t.Errorf("it went on with %q", text)
				}
				return
			}
			client := l.client()
			if kind == "2" {
				client = l.client2()
			}
			ask := func(path string) (*http.Response, error) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://good.test"+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer placeholder")
				return client.Do(req)
			}
			if kind == "swift" { // which carries requests to servers that it knows
				resp, err := ask("/once")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			if path == "/head" {
				go func() { <-begun; end() }()
			}
			resp, err := ask(path)
			if err != nil {
				t.Fatal(err)
			}
			if path == "/body" {
				if _, err := io.ReadFull(resp.Body, make([]byte, len("first"))); err != nil {
					t.Fatal(err)
				}
				end()
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if path == "/head" && (resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), errCut.Error())) {
				t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			}
			if path == "/body" && err == nil {
				t.Errorf("the answer ended as if it were whole: %q, %v", body, err)
			}
		})
	}
}
