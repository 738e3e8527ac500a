package profiles

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	pelletier "github.com/pelletier/go-toml/v2"
)

// plainValue is a tree as BurntSushi/toml gives it.
func plainValue(n *node) any {
	switch n.kind {
	case tableKind:
		out := map[string]any{}
		for i, name := range n.names {
			out[name] = plainValue(n.items[i])
		}
		return out
	case arrayKind:
		out := make([]any, len(n.items))
		for i := range out {
			out[i] = plainValue(n.items[i])
		}
		return out
	case integerKind:
		return n.integer()
	case floatKind:
		return n.float()
	case boolKind:
		return n.bits != 0
	case timeKind:
		return time.Time{}
	}
	return n.text
}

// canonical brings what the oracle gives into the same shape.
func canonical(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, item := range v {
			out[name] = canonical(item)
		}
		return out
	case []map[string]any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = canonical(v[i])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = canonical(v[i])
		}
		return out
	case time.Time:
		return time.Time{}
	}
	return v
}

func sameValue(a, b any) bool {
	x, ok := a.(float64)
	y, ok2 := b.(float64)
	if ok && ok2 && math.IsNaN(x) && math.IsNaN(y) {
		return true
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, ok := b[k]; !ok || !sameValue(a[k], v) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// compare holds parse against two other readers of TOML.
func compare(data []byte) error {
	if len(data) > 2000 || bytes.Count(data, []byte(".")) > 20 || bytes.Count(data, []byte("{")) > 12 {
		return nil // the oracle takes very long for some of these
	}
	src := newSource("x.toml", User, data)
	root, f := parse(src)
	var want map[string]any
	_, oracle := toml.Decode(string(data), &want)
	switch {
	case f == nil && oracle != nil:
		return fmt.Errorf("taken, and the oracle says: %w", oracle)
	case f == nil && pelletier.Unmarshal(src.data, &map[string]any{}) != nil:
		return fmt.Errorf("taken, and another reader says: %w", pelletier.Unmarshal(src.data, &map[string]any{}))
	case f == nil:
		if got := plainValue(root); !sameValue(got, canonical(want)) {
			return fmt.Errorf("got  %#v\nwant %#v", got, canonical(want))
		}
		return places(root)
	case f.offset < 0 || f.offset > len(src.data):
		return fmt.Errorf("the fault is at %d of %d", f.offset, len(src.data))
	case oracle == nil && f.code == "not-toml":
		// What TOML 1.1 adds is refused by another reader of TOML 1.0, too.
		if err := pelletier.Unmarshal(src.data, &want); err == nil {
			return fmt.Errorf("refused: %s", f.text)
		}
	}
	return nil
}

// places checks that each value stands where its node says.
func places(n *node) error {
	if n.list != nil {
		for _, item := range n.items {
			if err := places(item); err != nil {
				return err
			}
		}
	}
	begins := map[kind]string{arrayKind: "[", tableKind: "{", stringKind: `"'`, integerKind: "+-0123456789", floatKind: "+-0123456789in", boolKind: "tf", timeKind: "0123456789"}[n.kind]
	if n.form != closed {
		return nil
	}
	if int(n.value) >= len(n.src.data) || !strings.ContainsRune(begins, rune(n.src.data[n.value])) {
		return fmt.Errorf("a value of kind %d is not at %d", n.kind, n.value)
	}
	return nil
}

var tomls = []string{
	good, "", "\n", "#", "a = 1", "\xef\xbb\xbfa = 1\r\n", "a.b = 1\na.c = 2\n", "[a]\n[a]\n", "[a.b.c]\n[a]\nb.d=1", "[a.b.c]\n[a]\nb.d=1\n[a.b]\n", "[a.b.c]\n[a]\nb.d=1\n[a.b.e]\n", "[a.b.c]\n[a]\nb.c.d=1\n", "[a.b.c]\nb.c=1\n[a.b]\nb.d=1\n", "[a.b]\n[a]\nb.c = 1\n", "[a]\nb.c=1\n[a.b]\n", "[a]\nb.c=1\n[a.b.d]\ne=1\n",
	"[[a]]\n[[a]]\nb=1\n[a.c]\n", "[a]\n[[a]]\n", "a=[]\n[[a]]\n", "a={}\n[a.b]\n", "a={b=1,b=2}", "a={b.c=1,b.d=2}", "a={b={x=1},b.y=2}", "a=[{b=1},{b=2}]\n[[a]]\n",
	"a=0x1F\nb=0o7\nc=0b1\nd=1_000\ne=+1\nf=-0\n", "a=01", "a=1__0", "a=_1", "a=1_", "a=0x", "a=+0x1", "a=9223372036854775808", "a=-9223372036854775808",
	"a=1.0\nb=1e5\nc=-1.5e-3\nd=inf\ne=-inf\nf=nan\n", "a=+nan\nb=-nan\nc=+inf", "a=1.", "a=.1", "a=1e", "a=1._0", "a=1e999", "a=00.1", "a=1.e5",
	"a=1979-05-27T07:32:00Z\nb=1979-05-27\nc=07:32:00\nd=1979-05-27 07:32:00.5\n", "a=1979-02-30", "a=07:32", "a=1979-5-1", "a=1979-05-27T25:00:00Z",
	"a=\"\\u00e9\\U0001F600\\n\\\"\"", "a='x'", "a=\"\"\"\nx\\\n  y\"\"\"\"\"", "a='''\n''''", "a=\"\\e\"", "a=\"\\x41\"", "a=\"\\ud800\"", "a=\"\x7f\"", "a=\"\x00\"", "a='\xff'",
	"a = {\n b = 1 }", "a = { b = 1, }", "a = [1,]", "a = [,]", "a = [1,,2]", "a = [ # x\n 1 # y\n , # z\n]", "\"\" = 1", "'a.b'.c = 1", "a . b = 1", "= 1", "a", "a =", "a = 1 b = 2", "[a", "[]", "[a]]", "[[a]", "[a] x",
	"a=\"\"\"x\r\ny\"\"\"", "a=1\rb=2", "a=\"x\ny\"", "# \x01", "a=true\nb=false\nc=True", "a=tru", "[a]\n[a.b]\n[a.b.c]\n[a.d]\n", "a.b.c=1\n[a.b]\n", "a=1\na.b=2\n", "a=1\n[a]\n", "[[a.b]]\n[a]\n[[a.b]]\n", "[[a]]\n[a.b]\n[[a.b]]",
}

func TestTreesAreThoseOfAnotherReader(t *testing.T) {
	for _, text := range tomls {
		if err := compare([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	files, _ := filepath.Glob("../../profiles/*.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			err = compare(data)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func FuzzTree(f *testing.F) {
	for _, text := range tomls {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := compare(data); err != nil {
			t.Error(err)
		}
	})
}
