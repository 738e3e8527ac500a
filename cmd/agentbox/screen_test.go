package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"agentbox/internal/approval"
)

// Whatever the agent left of the terminal, the question is seen whole: a sequence that it only began, colours that hide
// text, lines that do not wrap, and text of its own below the cursor are gone before it.
func TestTheScreenIsPutInOrderForAQuestion(t *testing.T) {
	var tty bytes.Buffer
	s := &screen{}
	s.claim(&tty)()
	if tty.Len() != 0 {
		t.Errorf("where the agent printed nothing, %q is", tty.String())
	}
	w := &screenWriter{s, &tty}
	if _, err := w.Write([]byte("\x1b]11;#000\x07\x1b]10;#000\x07\x1b[?7l\x1b]0;never ended")); err != nil {
		t.Fatal(err)
	}
	tty.Reset()
	s.claim(&tty)()
	got := tty.String()
	for _, want := range []string{"\x18", "\x1b[!p\x1b[0m", "\x1b[?7h", "\x1b[?2026l", "\x1b]104\x1b\\", "\x1b]110\x1b\\", "\x1b]111\x1b\\", "\r\n\r\x1b[J"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if !strings.HasPrefix(got, "\x18") || strings.Index(got, "\x1b[?7h") < strings.Index(got, "\x1b[!p") {
		t.Errorf("the order of %q", got)
	}
}

// The path ends its line: no "?" of agentbox's reads like the beginning of a query.
func TestTheQuestionLine(t *testing.T) {
	q := approval.Question{Host: "a.test", Port: 443, Scheme: "https", Method: "POST", Path: "/b\x1b", Until: time.Now().Add(time.Minute)}
	if got := questionLine(q, 2); !strings.HasPrefix(got, "agentbox asks: POST a.test/b\\u001b\n  allow it [o]nce, for this [r]un, [a]lways, or [N]ot? (") || !strings.HasSuffix(got, "; 2 more) ") {
		t.Errorf("%q", got)
	}
	q.Until = time.Now().Add(119*time.Second + 900*time.Millisecond)
	if got := left(q); got != "2m0s" {
		t.Errorf("left is %s", got)
	}
	if q.Until = time.Now().Add(-time.Hour); left(q) != "0s" {
		t.Errorf("after its time %s is left", left(q))
	}
}

// A signature can be allowed once alone, so nothing else is offered.
func TestTheQuestionLineOfASignature(t *testing.T) {
	q := approval.Question{Sign: `commit "fix" with openpgp key K`, Until: time.Now().Add(time.Minute)}
	if got := questionLine(q, 0); !strings.HasPrefix(got, "agentbox asks: sign commit \"fix\" with openpgp key K\n  allow it [o]nce or [N]ot? (") {
		t.Errorf("%q", got)
	}
}
