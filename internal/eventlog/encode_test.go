package eventlog

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"agentbox/internal/event"
)

// fillFields gives every field of an event, one after the other, a value that needs care.
func fillFields(t *testing.T, text string, each func(event.Event)) {
	t.Helper()
	one := 7
	all := event.Event{Time: time.Date(2026, 3, 4, 5, 6, 7, 8009000, time.UTC)}
	for i := range reflect.TypeOf(all).NumField() {
		alone := event.Event{Time: all.Time}
		for _, e := range []*event.Event{&all, &alone} {
			switch field := reflect.ValueOf(e).Elem().Field(i); field.Interface().(type) {
			case time.Time:
			case *int:
				field.Set(reflect.ValueOf(&one))
			case *event.Git:
				field.Set(reflect.ValueOf(&event.Git{Repo: text, Op: "push", Refs: []string{text}}))
			case map[string]string:
				field.Set(reflect.ValueOf(map[string]string{"b": text, "a": text}))
			default:
				switch {
				case field.CanInt():
					field.SetInt(-12)
				case field.CanUint():
					field.SetUint(34)
				case field.Kind() == reflect.Bool:
					field.SetBool(true)
				case field.Kind() == reflect.String:
					field.SetString(text)
				default:
					t.Fatalf("field %s: teach this test and appendLine", reflect.TypeOf(all).Field(i).Name)
				}
			}
		}
		each(alone)
		each(all)
	}
}

// What is written is what encoding/json would write, for every field that an event has.
func TestLinesAreThoseOfEncodingJSON(t *testing.T) {
	texts := []string{"plain", "", "\"\\/\b\f\n\r\t\x00\x1f\x7f<>&'", "h\u00e9\u2028\u2029\U0001f600", "\xff\xc0\xafx\xe2\x80", "\xed\xa0\x80", strings.Repeat("long\n", 300)}
	for _, text := range texts {
		fillFields(t, text, func(e event.Event) {
			for _, at := range []time.Time{e.Time, {}, e.Time.In(time.FixedZone("x", 3600)), e.Time.Truncate(time.Second), time.Date(9999, 1, 1, 0, 0, 0, 999999999, time.UTC)} {
				e.Time = at
				want, err := appendAny(nil, e)
				got, gotErr := appendLine([]byte("before"), e)
				if err != nil || gotErr != nil || string(got) != "before"+string(want) {
					t.Fatalf("%+v\n got %s, %v\nwant %s, %v", e, got, gotErr, want, err)
				}
			}
		})
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\"\\\x00\u2028\xff")
	f.Fuzz(func(t *testing.T, text string) {
		e := event.Event{Time: time.Unix(0, 0).UTC(), Path: text, Run: text}
		want, _ := appendAny(nil, e)
		if got, err := appendLine(nil, e); err != nil || string(got) != string(want) {
			t.Fatalf("%q\n got %s\nwant %s", text, got, want)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	e := event.Event{Seq: 123456, Time: time.Now().UTC(), Run: "20260304-050607-abcd", Kind: event.NetRequest, Decision: event.Allow, Host: "api.example.com", Port: 443,
		Method: "POST", Path: "/v1/messages", Rule: "claude.toml:12", Reason: "the rule for api.example.com at claude.toml:12 allows api.example.com on port 443", Via: "proxy"}
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line, _ = appendLine(line[:0], e)
	}
}
