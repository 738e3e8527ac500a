package secrets

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"text/template"
)

const real = "sk-real-value-0123456789"

// holder has the secret where fmt gets at it by reflection only.
type holder struct {
	secret  Secret
	Pointer *Secret
	Any     any
	List    []Secret
	Map     map[string]Secret
}

func holding() holder {
	s := New(real)
	return holder{s, &s, s, []Secret{s}, map[string]Secret{"k": s}}
}

func TestASecretDoesNotPrint(t *testing.T) {
	s, h := New(real), holding()
	for name, out := range printed(t, s, h) {
		for _, form := range []string{real, fmt.Sprintf("%x", real), fmt.Sprintf("%X", real), strings.Trim(fmt.Sprint([]byte(real)), "[]")} {
			if strings.Contains(out, form) {
				t.Errorf("%s shows it: %s", name, out)
			}
		}
		if out == "" {
			t.Errorf("%s shows nothing at all", name)
		}
	}
	if s.Reveal() != real {
		t.Error("Reveal does not")
	}
}

// printed is everything that a program might do to a value to show it.
func printed(t *testing.T, s Secret, h holder) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s", "%T", "%p"} {
		out["secret "+verb] = fmt.Sprintf(verb, s)
		out["pointer "+verb] = fmt.Sprintf(verb, &s)
		out["holder "+verb] = fmt.Sprintf(verb, h)
		out["holder pointer "+verb] = fmt.Sprintf(verb, &h)
	}
	out["error"] = fmt.Errorf("reading %v: %w", s, errors.Join(fmt.Errorf("%s", s))).Error()
	out["print"] = fmt.Sprint(s, h)
	var b bytes.Buffer
	for _, v := range []any{s, &s, h, map[string]any{"a": s}} {
		js, err := json.Marshal(v)
		out[fmt.Sprintf("json %T", v)] = fmt.Sprint(string(js), err)
	}
	x, err := xml.Marshal(struct{ S Secret }{s})
	out["xml"] = fmt.Sprint(string(x), err)
	out["gob"] = fmt.Sprint(gob.NewEncoder(&b).Encode(struct{ S Secret }{s}), b.String())
	for _, handler := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(handler).Info("m", "s", s, "p", &s, "h", h, slog.Group("g", "s", s))
	}
	out["slog"] = b.String()
	b.Reset()
	if err := template.Must(template.New("").Parse("{{.S}} {{printf \"%s\" .S}}")).Execute(&b, map[string]any{"S": s}); err != nil {
		t.Fatal(err)
	}
	out["template"] = b.String()
	return out
}

func TestAPanicDoesNotShowIt(t *testing.T) {
	if os.Getenv("SECRETS_PANIC") != "" {
		panic(fmt.Sprintf("%+v", holding()) + fmt.Sprint(New(real)))
	}
	if os.Getenv("SECRETS_PANIC_VALUE") != "" {
		panic(New(real))
	}
	for _, env := range []string{"SECRETS_PANIC=1", "SECRETS_PANIC_VALUE=1"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAPanicDoesNotShowIt$")
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("panic:")) {
			t.Fatalf("no panic: %v\n%s", err, out)
		}
		if bytes.Contains(out, []byte(real)) {
			t.Errorf("%s shows it:\n%s", env, out)
		}
	}
}

func TestEqual(t *testing.T) {
	if !New("a").Equal(New("a")) || New("a").Equal(New("b")) || New("a").Equal(Secret{}) || !(Secret{}).Equal(New("")) {
		t.Error("Equal is wrong")
	}
}
