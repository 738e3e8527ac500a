package shimwire

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestEncodeThenReadGivesTheSame(t *testing.T) {
	want := []Message{
		{Hello: &Hello{Version: Version, PID: 1}},
		{Config: &Config{Mode: Relay, Listen: []Listen{{"tcp4", "127.0.0.1:3128"}}, Files: []File{{"/tmp/a", 0o600, []byte("x\ny")}}}},
		{Ready: &Ready{}},
		{Exit: &Exit{Signal: 9}},
	}
	var wire strings.Builder
	for _, m := range want {
		line, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		wire.Write(line)
	}
	r := bufio.NewReaderSize(strings.NewReader(wire.String()), 16)
	for _, m := range want {
		got, err := Read(r)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v; want %+v", got, err, m)
		}
	}
	if _, err := Read(r); err != io.EOF {
		t.Errorf("after the last message: %v, want EOF", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, line := range []string{
		``, `{}`, `null`, `[]`, `{"nonsense":{}}`, `{"ready":{},"start":{}}`, `{"ready":{}}{"start":{}}`,
		`{"ready":{"x":1}}`, `{"ready":{}} x`, `{"signal":{"number":"9"}}`, `{"ready":null}`,
	} {
		if m, err := Decode([]byte(line)); err == nil {
			t.Errorf("Decode(%q) gave %+v", line, m)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	if _, err := Read(bufio.NewReader(io.MultiReader(strings.NewReader(`{"error":{"text":"`), endless{}))); !errors.Is(err, ErrTooLong) {
		t.Errorf("an endless line: %v", err)
	}
	if _, err := ReadHeader(bufio.NewReader(endless{})); !errors.Is(err, ErrTooLong) {
		t.Errorf("an endless header: %v", err)
	}
	if _, err := Encode(Message{Error: &Error{Text: strings.Repeat("x", MaxMessage)}}); !errors.Is(err, ErrTooLong) {
		t.Errorf("encoding a long message: %v", err)
	}
}

func TestTruncatedLineIsNotEOF(t *testing.T) {
	if _, err := Read(bufio.NewReader(strings.NewReader(`{"ready":{}}`))); err != io.ErrUnexpectedEOF {
		t.Errorf("a line without its end: %v", err)
	}
}

func TestReadHeaderLeavesTheRest(t *testing.T) {
	line, err := EncodeHeader(RelayHeader{"tcp4", "127.0.0.1:80", "127.0.0.1:4000"})
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(strings.NewReader(string(line) + "rest\n"))
	h, err := ReadHeader(r)
	if err != nil || h.Local != "127.0.0.1:80" {
		t.Fatalf("header %+v, %v", h, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "rest\n" {
		t.Errorf("the rest is %q", rest)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"hello":{"version":1,"pid":1}}`))
	f.Add([]byte(`{"listeners":{"count":3}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Decode(line)
		if err != nil {
			return
		}
		if _, err := Encode(m); err != nil && !errors.Is(err, ErrTooLong) {
			t.Errorf("%q decodes to what cannot be encoded: %v", line, err)
		}
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
