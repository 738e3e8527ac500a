package starter

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseJSONC(t *testing.T) {
	tests := map[string]struct{ in, want string }{ // want: in the error; "" for none
		"plain":              {`{"a": [1, true, null, "x"]}`, ""},
		"comments":           {"// a\n{ /* b */ \"a\": 1, // c\n }", ""},
		"comment at the end": {"{} // x", ""},
		"trailing comma":     {`{"a": [1,],}`, ""},
		"byte order mark":    {"\uFEFF{}", ""},
		"CRLF":               {"{\r\n// x\r\n\"a\": 1\r\n}\r\n", ""},
		"brackets in text":   {`{"a": "` + strings.Repeat("[", 200) + `", "b": "\"{"}`, ""},
		"empty":              {"", "f.json:1:1: the file ends within a value"},
		"cut":                {`{"a": `, "the file ends within"},
		"cut in a text":      {`{"a": "TOPSECRET`, "f.json:1:17: the file ends within a string"},
		"cut in a comment":   {"{ /* ", "the file ends within a comment"},
		"bad literal":        {"{\n  \"a\": TOPSECRET\n}", "f.json:2:8: neither a text"},
		"bad escape":         {`{"a": "TOPSECRET\x"}`, "f.json:1:7: neither a text"},
		"no comma":           {`{"a": 1 "b": 2}`, `f.json:1:9: a "," or "}" is missing`},
		"no colon":           {`{"a" 1}`, `a ":" are missing`},
		"two values":         {`{} {}`, "something stands behind the end"},
		"twice":              {"{\"a\": 1,\n \"\\u0061\": 2}", `f.json:2:2: "a" stands here twice`},
		"twice, deep":        {`[{"b": {"a": 1, "a": 2}}]`, `f.json:1:17: "a" stands here twice`},
		"not UTF-8":          {"{\"a\":\n\"\xff\"}", "f.json:2:2: not UTF-8"},
		"deep":               {strings.Repeat("[", 65) + strings.Repeat("]", 65), "f.json:1:65: more than 64"},
		"deep, open":         {strings.Repeat("{\"a\":", 1<<17), "more than 64"},
		"large":              {`"` + strings.Repeat("x", maxSettings) + `"`, "f.json: larger than 1024 KiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseJSONC("f.json", []byte(test.in))
			var e *SyntaxError
			switch {
			case test.want == "" && err != nil:
				t.Errorf("%v", err)
			case test.want != "" && (!errors.As(err, &e) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %s", err, test.want)
			case err != nil && strings.Contains(err.Error(), "TOPSECRET"):
				t.Errorf("the message shows what the file holds: %v", err)
			}
		})
	}
}

// Whatever a file holds, reading it ends in a value or in a place within the file; what is JSON is read.
func FuzzParseJSONC(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":[1,{"b":null}]}`, "// x\n{\"a\": 1,}", `{"a":1,"a":2}`, "{\"\\ud800\": \"\\u0000\"}", "[[[", "{\"a\" /* */ : 1 }"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := parseJSONC("f.json", data)
		if err == nil {
			line, col := n.doc.place(n.at)
			if line < 1 || col < 1 {
				t.Errorf("the value is at %d:%d", line, col)
			}
			return
		}
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Fatalf("%T: %v", err, err)
		}
		if lines := strings.Count(string(data), "\n") + 2; e.Line < 0 || e.Line > lines {
			t.Errorf("%v is not in a file of %d lines", err, lines)
		}
		said := strings.Contains(err.Error(), "twice") || strings.Contains(err.Error(), "UTF-8") || strings.Contains(err.Error(), "more than")
		if json.Valid(data) && !said {
			t.Errorf("JSON was refused: %v", err)
		}
	})
}
