package gitwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

var (
	zero = strings.Repeat("0", 40)
	one  = strings.Repeat("1", 40)
	two  = strings.Repeat("2", 40)
)

// line is one packet.
func line(format string, args ...any) string {
	return string(appendPacket(nil, fmt.Sprintf(format, args...)))
}

const usual = "\x00 report-status-v2 side-band-64k object-format=sha1 agent=git/2.39.5"

func TestReadPush(t *testing.T) {
	head := line("shallow %s", one) + line("%s %s refs/heads/new%s", zero, one, usual+" push-options") +
		line("%s %s refs/heads/main\n", one, two) + line("%s %s refs/tags/v1", one, zero) + flushPacket + line("ci.skip") + flushPacket
	whole := head + "PACK and objects"
	for name, r := range map[string]io.Reader{
		"at once": strings.NewReader(whole), "byte by byte": iotest.OneByteReader(strings.NewReader(whole)),
		"halves": iotest.HalfReader(strings.NewReader(whole)),
	} {
		push, taken, err := ReadPush(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(push.Commands) != 3 || !push.Commands[0].Create() || push.Commands[1] != (Command{one, two, "refs/heads/main"}) || !push.Commands[2].Delete() {
			t.Errorf("%s: %+v", name, push)
		}
		if !push.Has("side-band-64k") || push.Has("side-band") {
			t.Errorf("%s: capabilities %q", name, push.Capabilities)
		}
		rest, _ := io.ReadAll(r)
		if string(taken) != head+"PACK" || string(taken)+string(rest) != whole {
			t.Errorf("%s: %q was taken", name, taken)
		}
	}
}

func TestReadPushTakesWhatGitSendsToAsk(t *testing.T) {
	push, taken, err := ReadPush(strings.NewReader(flushPacket), nil)
	if err != nil || len(push.Commands) != 0 || string(taken) != flushPacket {
		t.Errorf("%+v %q %v", push, taken, err)
	}
}

func TestReadPushKnowsSHA256(t *testing.T) {
	long := strings.Repeat("a", 64)
	if _, _, err := ReadPush(strings.NewReader(line("%s %s refs/heads/x\x00report-status object-format=sha256", strings.Repeat("0", 64), long)+flushPacket+"PACK"), nil); err != nil {
		t.Error(err)
	}
}

// hostilePushes must be refused: a server, or some server, reads something else in them than stands there.
var hostilePushes = map[string]string{
	"nothing":                           "",
	"no packet":                         "hello",
	"length in upper case":              strings.ToUpper(line("%s %s refs/heads/x%s", zero, one, usual)) + flushPacket,
	"length 3":                          "0003",
	"length beyond what git writes":     "fff5" + strings.Repeat("x", 0xfff1) + flushPacket,
	"an empty packet":                   "0004" + flushPacket,
	"cut off":                           line("%s %s refs/heads/x", zero, one),
	"cut in a packet":                   line("%s %s refs/heads/x", zero, one)[:50],
	"ended by a delimiter":              line("%s %s refs/heads/x%s", zero, one, usual) + "0001" + line("%s %s refs/heads/main", zero, one) + flushPacket,
	"ended by an end packet":            line("%s %s refs/heads/x%s", zero, one, usual) + "0002",
	"a second list":                     line("%s %s refs/heads/x%s", zero, one, usual) + flushPacket + line("%s %s refs/heads/main", zero, one) + flushPacket + "PACK",
	"a list after none":                 flushPacket + line("%s %s refs/heads/main%s", zero, one, usual) + flushPacket + "PACK",
	"objects without commands":          flushPacket + "PACK",
	"options that were not named":       line("%s %s refs/heads/x%s", zero, one, usual) + flushPacket + line("an option") + flushPacket + "PACK",
	"a NUL in a later command":          line("%s %s refs/heads/x%s", zero, one, usual) + line("%s %s refs/heads/y\x00z", zero, one) + flushPacket,
	"a NUL in a shallow line":           line("shallow %s\x00report-status", one) + flushPacket,
	"a tab for a space":                 line("%s\t%s refs/heads/x", zero, one) + flushPacket,
	"object names in upper case":        line("%s %s refs/heads/x", strings.Repeat("A", 40), one) + flushPacket,
	"object names of two lengths":       line("%s %s refs/heads/x", zero, strings.Repeat("1", 64)) + flushPacket,
	"object names of the other kind":    line("%s %s refs/heads/x%s", strings.Repeat("0", 64), strings.Repeat("1", 64), usual) + flushPacket,
	"creates nothing":                   line("%s %s refs/heads/x", zero, zero) + flushPacket,
	"a ref outside refs":                line("%s %s HEAD", zero, one) + flushPacket,
	"a ref that climbs":                 line("%s %s refs/heads/agentbox/../main", zero, one) + flushPacket,
	"a ref with an empty part":          line("%s %s refs/heads//main", zero, one) + flushPacket,
	"a ref with a control character":    line("%s %s refs/heads/\x1b[2Jx", zero, one) + flushPacket,
	"a ref with a space":                line("%s %s refs/heads/x refs/heads/main", zero, one) + flushPacket,
	"a ref with two line ends":          line("%s %s refs/heads/x\n\n", zero, one) + flushPacket,
	"a ref twice":                       line("%s %s refs/heads/x%s", zero, one, usual) + line("%s %s refs/heads/x", one, two) + flushPacket,
	"a certificate":                     line("push-cert\x00report-status") + line("certificate version 0.1\n") + flushPacket,
	"capabilities with a terminal's":    line("%s %s refs/heads/x\x00report-status \x1b[2J", zero, one) + flushPacket,
	"options that end with a delimiter": line("%s %s refs/heads/x%s push-options", zero, one, usual) + flushPacket + line("o") + "0001PACK",
}

func TestReadPushRefuses(t *testing.T) {
	for name, body := range hostilePushes {
		_, taken, err := ReadPush(strings.NewReader(body), nil)
		if err == nil {
			t.Errorf("%s: taken", name)
		}
		if !strings.HasPrefix(body, string(taken)) {
			t.Errorf("%s: %q is not what was sent", name, taken)
		}
	}
}

func TestASignedPushIsToldApart(t *testing.T) {
	if _, _, err := ReadPush(strings.NewReader(hostilePushes["a certificate"]), nil); !errors.Is(err, ErrSigned) {
		t.Error(err)
	}
}

func TestReadPushIsBounded(t *testing.T) {
	many := &strings.Builder{}
	for i := range MaxCommands + 1 {
		many.WriteString(line("%s %s refs/x/%d", zero, one, i))
	}
	if _, _, err := ReadPush(io.MultiReader(strings.NewReader(many.String()), endless{}), nil); !errors.Is(err, ErrTooBig) {
		t.Errorf("%d commands: %v", MaxCommands+1, err)
	}
	long := &strings.Builder{}
	for i := range 2 * MaxPush / 900 {
		long.WriteString(line("%s %s refs/x/%d%s", zero, one, i, strings.Repeat("x", 800)))
	}
	if _, taken, err := ReadPush(strings.NewReader(long.String()+flushPacket), nil); !errors.Is(err, ErrTooBig) || len(taken) > MaxPush {
		t.Errorf("%d bytes of commands: %d were taken, %v", long.Len(), len(taken), err)
	}
	for name, start := range map[string]string{
		"shallow lines": "", "options": line("%s %s refs/heads/x\x00push-options", zero, one) + flushPacket,
	} {
		endless := io.MultiReader(strings.NewReader(start), repeat(line("shallow %s", one)))
		_, taken, err := ReadPush(endless, nil)
		if err == nil || len(taken) > MaxPush {
			t.Errorf("endless %s: %d bytes, %v", name, len(taken), err)
		}
	}
	if _, _, err := ReadPush(repeat(line("%s %s refs/heads/x", zero, one)), func(int) bool { return false }); !errors.Is(err, ErrTooBig) {
		t.Errorf("no room: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// repeat gives s over and over.
func repeat(s string) io.Reader { return &repeated{s: s} }

type repeated struct {
	s  string
	at int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.s[r.at:])
	r.at = (r.at + n) % len(r.s)
	return n, nil
}

// git's own program is asked about refs that are taken, and about some that are not.
func TestValidRefIsGits(t *testing.T) {
	for _, ref := range []string{
		"refs/heads/main", "refs/heads/a/b", "refs/heads/ü", "refs/heads/a@b", "refs/heads/@", "refs/heads/a..b", "refs/heads/.a", "refs/heads/a.lock",
		"refs/heads/a.lock/b", "refs/heads/a.", "refs/heads/a/", "refs/heads//a", "refs/heads/a b", "refs/heads/a~b", "refs/heads/a^", "refs/heads/a:b",
		"refs/heads/a?", "refs/heads/a*", "refs/heads/a[b", `refs/heads/a\b`, "refs/heads/a@{b", "refs/heads/\x7f", "refs/heads/-a", "refs/", "refs/x",
		"refs/heads/\xff", "refs/heads/a\tb",
	} {
		gits := exec.Command("git", "check-ref-format", ref).Run() == nil
		if got := ValidRef(ref); got != gits {
			t.Errorf("%q: %v, git says %v", ref, got, gits)
		}
	}
}

func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"refs/heads/main": "refs/heads/main", "a\x1b[2Jb": `"a\x1b[2Jb"`, "ü": `"\u00fc"`,
	} {
		if got := Shown(in); got != want {
			t.Errorf("%q is shown as %s", in, got)
		}
	}
	if got := Shown(strings.Repeat("x", 500)); len(got) > maxShown+4 {
		t.Errorf("%d bytes are shown", len(got))
	}
}

func FuzzReadPush(f *testing.F) {
	for _, body := range hostilePushes {
		if len(body) < 4096 {
			f.Add([]byte(body))
		}
	}
	f.Add([]byte(line("%s %s refs/heads/x%s", zero, one, usual) + flushPacket + "PACK"))
	f.Add([]byte(line("%s %s refs/heads/x%s push-options", zero, one, usual) + flushPacket + line("o") + flushPacket + "PACK"))
	f.Fuzz(func(t *testing.T, body []byte) {
		push, taken, err := ReadPush(bytes.NewReader(body), nil)
		if !bytes.HasPrefix(body, taken) || len(taken) > MaxPush {
			t.Fatal("what was taken is not what was sent")
		}
		if err != nil {
			return
		}
		again, _, err := ReadPush(iotest.OneByteReader(bytes.NewReader(body)), nil)
		if err != nil || len(again.Commands) != len(push.Commands) {
			t.Error("it depends on how the bytes arrive")
		}
		for _, c := range push.Commands {
			if !ValidRef(c.Ref) || !IsObjectName(c.Old) || !IsObjectName(c.New) || !bytes.Contains(taken, []byte(c.Old+" "+c.New+" "+c.Ref)) {
				t.Errorf("command %+v", c)
			}
		}
	})
}

// FuzzPackets: the reader takes what the writer writes, and never more than it gives.
func FuzzPackets(f *testing.F) {
	f.Add([]byte("0000"))
	f.Add([]byte(line("hello") + "0001" + line("") + "0002"))
	f.Add([]byte("fff0" + strings.Repeat("x", 0xffec)))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := &packetReader{r: bytes.NewReader(in), limit: len(in)}
		var back []byte
		for {
			kind, payload, err := p.next()
			if err != nil {
				break
			}
			if kind == Data {
				back = appendPacket(back, string(payload))
			} else {
				back = fmt.Appendf(back, "%04x", kind-1)
			}
			if !bytes.Equal(back, p.taken) {
				t.Fatalf("%q was read as %q", p.taken, back)
			}
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte(`{"operation":"download","objects":[]}`))
	f.Add([]byte(`{"operation":"download","Operation":"upload"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		op, _, taken, err := ReadBatch(bytes.NewReader(in), nil)
		if len(in) <= MaxBatch && !bytes.Equal(taken, in) {
			t.Fatal("bytes are lost")
		}
		if (err != nil || bytes.Contains(in, []byte(`"upload"`)) && !bytes.Contains(in, []byte("download"))) && op == OpFetch {
			t.Error("taken for a download")
		}
	})
}

func TestReadBatch(t *testing.T) {
	for body, want := range map[string]struct {
		op    Op
		named bool
	}{
		`{"operation":"download","objects":[{"oid":"x","size":1}]}`: {OpFetch, true},
		`{"objects":[{"operation":"x"}],"operation":"upload"}`:      {OpPush, true},
		`{"operation":"verify"}`:                                    {OpPush, true},
		`{"oid":"x","size":1}`:                                      {OpPush, false},
	} {
		op, named, _, err := ReadBatch(strings.NewReader(body), nil)
		if err != nil || op != want.op || named != want.named {
			t.Errorf("%s: %s %v %v", body, op, named, err)
		}
	}
	for _, body := range []string{
		"", "[]", `"operation"`, `{"operation":"download"`, `{"operation":"download"} x`, `{"operation":"download"}{"operation":"upload"}`,
		`{"operation":"download","operation":"upload"}`, `{"operation":"download","Operation":"upload"}`, `{"Operation":"download"}`,
		`{"operation":["download"]}`, `{"operation":null}`, `{"operation":""}`, `{"operation":"download","operat\u0131on":"upload","OPERATION":1}`,
		`{"operation":"download","oper\u0061tion":"upload"}`, strings.Repeat(" ", MaxBatch) + `{"operation":"download"}`,
	} {
		if op, _, _, err := ReadBatch(strings.NewReader(body), nil); err == nil || op != OpPush {
			t.Errorf("%.60s: taken for %s", body, op)
		}
	}
}

func TestRejectionHasTheFormOfGits(t *testing.T) {
	p := Push{Commands: []Command{{zero, one, "refs/heads/x"}}, Capabilities: []string{"report-status"}}
	want := line("unpack ok\n") + line("ng refs/heads/x no\n") + flushPacket
	if got := string(Rejection(p, map[string]string{"refs/heads/x": "no\n\x1b"}, "")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Capabilities = append(p.Capabilities, "side-band-64k")
	if got := string(Rejection(p, map[string]string{"refs/heads/x": "no"}, "a\x1b[2J\nb")); got != line("\x02a[2J\nb\n")+line("\x01%s", want)+flushPacket {
		t.Errorf("got %q", got)
	}
	p.Capabilities = nil
	if Rejection(p, nil, "") != nil {
		t.Error("a client that reads no answer is answered")
	}
}

// What git's own client sends for every kind of push is read as what it is.
func TestGitsOwnPushIsRead(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "one")
	first := git("rev-parse", "HEAD")
	// send-pack's half of the conversation, as over HTTP: the server's list of refs is given, what the client says is kept
	refs := line("%s refs/heads/gone\x00report-status delete-refs side-band-64k quiet atomic ofs-delta push-options object-format=sha1\n", first) + flushPacket
	said := filepath.Join(dir, "said")
	script := filepath.Join(dir, "server")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncat "+said+".refs\ncat >"+said+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(said+".refs", []byte(refs), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "send-pack", "--receive-pack="+script, "--push-option=x=y", "--force", dir, "HEAD:refs/heads/new", ":refs/heads/gone")
	cmd.Dir = dir
	_ = cmd.Run() // there is no answer
	body, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	push, _, err := ReadPush(bytes.NewReader(body), nil)
	if err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	if len(push.Commands) != 2 {
		t.Fatalf("%+v", push)
	}
	for _, c := range push.Commands {
		if c != (Command{zero, first, "refs/heads/new"}) && c != (Command{first, zero, "refs/heads/gone"}) {
			t.Errorf("%+v", c)
		}
	}
}
