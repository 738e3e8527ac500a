package scrub

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	value       = "ghp_Zq8/tR+4vW\"xY1aB2cD3eF5gH6iJ7k-L"
	placeholder = "ghp_agbx0Ph0123456789abcdefghijklmno"
)

func setOf(pairs ...Pair) func() *Set {
	s := New(pairs)
	return func() *Set { return s }
}

// pass passes data through a stream in pieces that end at the cuts.
func pass(set func() *Set, fitted bool, data []byte, cuts ...int) string {
	var out bytes.Buffer
	s := NewStream(set, fitted)
	from := 0
	for _, cut := range append(slices.Sorted(slices.Values(cuts)), len(data)) {
		cut = min(max(cut, from), len(data))
		out.Write(s.Next(bytes.Clone(data[from:cut])))
		from = cut
	}
	out.Write(s.End())
	return out.String()
}

func escapeAll(text, format string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, format, text[i])
	}
	return b.String()
}

func asJSON(t testing.TB, text string) string {
	t.Helper()
	out, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(out), `"`)
}

// travels are forms of a value as servers write them.
func travels(t testing.TB, value string) map[string]string {
	t.Helper()
	forms := map[string]string{
		"plain":               value,
		"query":               url.QueryEscape(value),
		"path":                url.PathEscape(value),
		"percent, lower case": escapeAll(value, "%%%02x"),
		"percent, upper case": escapeAll(value, "%%%02X"),
		"percent, twice":      url.QueryEscape(escapeAll(value, "%%%02X")),
		"JSON":                asJSON(t, value),
		"JSON, slashes":       strings.ReplaceAll(asJSON(t, value), "/", `\/`),
		"JSON, in JSON":       asJSON(t, asJSON(t, value)),
		"JSON, all":           escapeAll(value, `\u%04x`),
		"JSON, all, upper":    escapeAll(value, `\u%04X`),
		"hex escapes":         escapeAll(value, `\x%02x`),
		"hex":                 hex.EncodeToString([]byte(value)),
		"HEX":                 strings.ToUpper(hex.EncodeToString([]byte(value))),
	}
	for _, before := range []string{"", "u", "us", "user:", "token:"} {
		forms["basic "+before] = base64.StdEncoding.EncodeToString([]byte(before + value))
		forms["base64 URL "+before] = base64.URLEncoding.EncodeToString([]byte(before + value + "?~"))
		forms["basic in a query "+before] = url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(before + value)))
		forms["basic in JSON "+before] = strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte(before+value)), "/", `\/`)
	}
	return forms
}

// survives reports whether a text holds the value in any form.
func survives(text, value string) bool {
	for range 5 {
		if strings.Contains(text, value) {
			return true
		}
		for _, f := range formsOf(Pair{Value: value, Placeholder: withheld}) {
			if strings.Contains(text, f.text) {
				return true
			}
		}
		text = unescape(text)
	}
	return false
}

func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		if c := text[i]; c == '%' || c == '\\' {
			if d, n, s := decode([]byte(text), i); s == whole {
				b.WriteByte(d)
				i += n
				continue
			}
		}
		b.WriteByte(text[i])
		i++
	}
	return b.String()
}

func TestEveryFormAtEverySplit(t *testing.T) {
	set := setOf(Pair{value, placeholder})
	for name, form := range travels(t, value) {
		for _, fitted := range []bool{false, true} {
			data := []byte(`{"you sent": "` + form + `", "and": 1}`)
			want := pass(set, fitted, data)
			if survives(want, value) || survives(pass(set, fitted, []byte(form)), value) {
				t.Errorf("%s: the value survives: %s", name, want)
			}
			if fitted && len(want) != len(data) {
				t.Errorf("%s: %d bytes became %d", name, len(data), len(want))
			}
			if !strings.HasPrefix(want, `{"you sent": "`) || !strings.HasSuffix(want, `", "and": 1}`) {
				t.Errorf("%s: what stands around it changed: %s", name, want)
			}
			for cut := range len(data) {
				if got := pass(set, fitted, data, cut, cut+1, cut+9); got != want {
					t.Fatalf("%s, cut at %d:\n got %s\nwant %s", name, cut, got, want)
				}
			}
			every := make([]int, len(data))
			for i := range every {
				every[i] = i
			}
			if got := pass(set, fitted, data, every...); got != want {
				t.Errorf("%s, byte by byte:\n got %s\nwant %s", name, got, want)
			}
		}
	}
}

func TestPlaceholderStandsInTheSameForm(t *testing.T) {
	set := New([]Pair{{value, placeholder}})
	for form, want := range map[string]string{
		value:                             placeholder,
		"a" + value + "b" + value:         "a" + placeholder + "b" + placeholder,
		hex.EncodeToString([]byte(value)): hex.EncodeToString([]byte(placeholder)),
		url.QueryEscape(value):            placeholder,
		base64.StdEncoding.EncodeToString([]byte("use" + value)): base64.StdEncoding.EncodeToString([]byte("use" + placeholder)),
	} {
		if got := set.Text(form); got != want {
			t.Errorf("%s became %s, want %s", form, got, want)
		}
	}
	none := New([]Pair{{Value: value}})
	if got := none.Text("is " + value); got != "is "+withheld {
		t.Errorf("a value without a placeholder became %q", got)
	}
}

func TestLongestOfNestedAndLeftmostOfOverlapping(t *testing.T) {
	set := setOf(Pair{"abcdefghijkl", "1-1-1-1-1-1-"}, Pair{"abcdefghijklmnop", "2-2-2-2-2-2-2-2-"}, Pair{"ijklmnopqrstu", "3-3-3-3-3-3-3"})
	for text, want := range map[string]string{
		"abcdefghijkl":               "1-1-1-1-1-1-",
		"abcdefghijklmno":            "1-1-1-1-1-1-mno",
		"abcdefghijklmnop":           "2-2-2-2-2-2-2-2-",
		"abcdefghijklmnopqrstu":      "2-2-2-2-2-2-2-2-qrstu",
		"xabcdefghijklijklmnopqrstu": "x1-1-1-1-1-1-3-3-3-3-3-3-3",
		"abcdefghijk":                "abcdefghijk",
	} {
		for cut := range len(text) + 1 {
			if got := pass(set, false, []byte(text), cut); got != want {
				t.Errorf("%s cut at %d became %s, want %s", text, cut, got, want)
			}
		}
	}
}

func TestOnlyTheBeginningOfAValueIsHeld(t *testing.T) {
	s := NewStream(setOf(Pair{value, placeholder}), false)
	for _, step := range []struct{ in, out string }{
		{"data: hello\n\n", "data: hello\n\n"},
		{"data: a gh", "data: a "},
		{"ost\n", "ghost\n"},
		{value[:20], ""},
		{"no", value[:20] + "no"},
		{"100%", "100"},
		{" sure", "% sure"},
	} {
		if got := string(s.Next([]byte(step.in))); got != step.out {
			t.Errorf("after %q came %q, want %q", step.in, got, step.out)
		}
	}
	if s.Waiting() {
		t.Error("something is held")
	}
}

func TestReleaseTellsNothingAndIsRemembered(t *testing.T) {
	for _, fitted := range []bool{false, true} {
		s := NewStream(setOf(Pair{value, placeholder}), fitted)
		public := len("ghp_") + untold
		var out bytes.Buffer
		for i := range len(value) {
			out.Write(s.Next([]byte(value[i : i+1])))
			out.Write(s.Release())
			if want := min(i+1, public); i+1 < len(value) && out.Len() != want {
				t.Fatalf("after %d bytes of the value %d were released, want %d", i+1, out.Len(), want)
			}
		}
		out.Write(s.Next([]byte(" end")))
		out.Write(s.End())
		if got, want := out.String(), value[:public]+placeholder[public:]+" end"; got != want {
			t.Errorf("in all %q came, want %q", got, want)
		}
	}
}

func TestReleasedBytesThatWereNoValue(t *testing.T) {
	s := NewStream(setOf(Pair{value, placeholder}), false)
	got := string(s.Next([]byte("a ghp_"))) + string(s.Release()) + string(s.Next([]byte("Z"))) + string(s.Release()) + string(s.Next([]byte("oo ghp_Z"))) + string(s.End())
	if want := "a ghp_Zoo ghp_Z"; got != want {
		t.Errorf("%q came, want %q", got, want)
	}
}

func TestValuesLearnedMeanwhile(t *testing.T) {
	var set *Set
	s := NewStream(func() *Set { return set }, false)
	first := string(s.Next([]byte("no value yet: " + value)))
	set = New([]Pair{{value, placeholder}})
	if got, want := first+string(s.Next([]byte(value)))+string(s.End()), "no value yet: "+value+placeholder; got != want {
		t.Errorf("%q came, want %q", got, want)
	}
}

func TestSetShowsNothing(t *testing.T) {
	set := New([]Pair{{value, placeholder}})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb, set); got != "[values]" {
			t.Errorf("%s shows %s", verb, got)
		}
	}
	if got := fmt.Sprintf("%+v", struct{ s *Set }{set}); strings.Contains(got, "Zq8") {
		t.Errorf("a field shows %s", got)
	}
}

func TestNothingToLookFor(t *testing.T) {
	var none *Set
	for _, set := range []*Set{none, New(nil), New([]Pair{{"short", "p"}})} {
		s := NewStream(func() *Set { return set }, false)
		if got := set.Text("short text") + string(s.Next([]byte("short"))) + string(s.End()); got != "short textshort" || !set.Empty() || set.Within("short") {
			t.Errorf("%q came out", got)
		}
	}
}

func TestNamesOfFields(t *testing.T) {
	set := New([]Pair{{"ghp-Abcdefghijkl", ""}})
	if !set.Within("X-GHP-ABCDEFGHIJKL") || set.Within("X-Ghp-Abcdefghijk") {
		t.Error("case counts in names")
	}
}

// FuzzStream has texts in which bytes from 0x80 on stand for forms of values, cut anywhere.
func FuzzStream(f *testing.F) {
	values := []Pair{
		{value, "<1-1-1-1-1-1-1->"}, {"ghp_Zq8/tR+4vW\"xY", "<2-2-2->"}, {"aaaaaaaaaaaaa", "<3-3-3-3-3-3-3-3>"}, {"aabaabaabaab", "<4>"},
		{"100%25sure\\\\so", "<5-5-5-5-5-5-5-5-5-5>"}, {"YWFhYWFhYWFhYWFh", "<6-6>"}, {"caf\xe9-caf\xe9-caf\xe9", "<7>"},
	}
	set := setOf(values...)
	var forms []string
	for _, p := range values {
		all := travels(f, p.Value)
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range all {
				if !yield(name) {
					return
				}
			}
		}) {
			forms = append(forms, all[name])
		}
	}
	f.Add([]byte("hello \x80 and \x81\x90 %\\u00\xa0"), []byte{3, 1, 4, 1, 5}, true)
	f.Add([]byte("aaa\x9caab\\\\\\/%25%2"), []byte{1}, false)
	f.Fuzz(func(t *testing.T, raw, cuts []byte, fitted bool) {
		var text []byte
		for _, b := range raw {
			if b < 0x80 {
				text = append(text, b)
			} else {
				text = append(text, forms[int(b-0x80)*len(forms)/0x80]...)
			}
		}
		var at []int
		sum := 0
		for len(cuts) > 0 && sum < len(text) && len(at) < 4096 {
			sum += 1 + int(cuts[len(at)%len(cuts)])
			at = append(at, sum)
		}
		want := pass(set, fitted, text)
		if got := pass(set, fitted, text, at...); got != want {
			t.Fatalf("%q cut at %v:\n got %q\nwant %q", text, at, got, want)
		}
		if fitted && len(want) != len(text) {
			t.Fatalf("%d bytes became %d", len(text), len(want))
		}
		for _, p := range values {
			if strings.Contains(want, p.Value) {
				t.Fatalf("%q survives in %q", p.Value, want)
			}
			for _, form := range formsOf(p) {
				if strings.Contains(want, form.text) {
					t.Fatalf("%q survives in %q", form.text, want)
				}
			}
		}
	})
}

func BenchmarkScrub(b *testing.B) {
	random := make([]byte, 16<<10)
	state := uint64(1)
	for i := range random {
		state = state*6364136223846793005 + 1442695040888963407
		random[i] = byte(state >> 56)
	}
	text := bytes.Repeat([]byte(`{"id": 4711, "name": "agentbox", "text": "a line\nand another", "url": "https://good.test/a%20b"},`), 200)[:16<<10]
	waves := make([]byte, 16<<10) // half of it legible, in short runs
	for i := range waves {
		waves[i] = byte(i*7 + i>>8)
	}
	plain := bytes.Repeat([]byte("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(4711, \"agentbox\") } // a comment of some length\n"), 200)[:16<<10]
	long := "ghp_agbx0Ph0123456789abcdefghijklmno4567"
	for _, bench := range []struct {
		name  string
		data  []byte
		pairs []Pair
	}{
		{"random", random, []Pair{{"ghp_Zq8stRi4vWpxY1aB2cD3eF5gH6iJ7kQL9012", long}}},
		{"text", text, []Pair{{"ghp_Zq8stRi4vWpxY1aB2cD3eF5gH6iJ7kQL9012", long}}},
		{"waves", waves, []Pair{{"ghp_Zq8stRi4vWpxY1aB2cD3eF5gH6iJ7kQL9012", long}}},
		{"plain", plain, []Pair{{"ghp_Zq8stRi4vWpxY1aB2cD3eF5gH6iJ7kQL9012", long}}},
		{"random, short value", random, []Pair{{"Zq8stRi4vWpx", "agbx0Ph01234"}}},
		{"random, ten values", random, func() (pairs []Pair) {
			for i := range 10 {
				pairs = append(pairs, Pair{fmt.Sprintf("sk-%dZq8stRi4vWpxY1aB2cD3eF5gH6iJ7kQL9012", i), long})
			}
			return pairs
		}()},
		{"nothing", random, nil},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := NewStream(setOf(bench.pairs...), true)
			b.SetBytes(int64(len(bench.data)))
			b.ReportAllocs()
			before := worked(b)
			for b.Loop() {
				s.Next(bench.data)
			}
			b.ReportMetric(float64(b.N*len(bench.data))/(worked(b)-before).Seconds()/1e9, "GB/s-of-processor-time")
		})
	}
}

// What is no text is passed over, but for what stands between.
func TestBetweenWhatIsNoText(t *testing.T) {
	set := setOf(Pair{value, placeholder})
	for name, form := range travels(t, value) {
		for before := range 100 {
			for _, noise := range []byte{0xff, 'x', 0} {
				data := append(bytes.Repeat([]byte{noise}, before), form...)
				data = append(data, bytes.Repeat([]byte{noise}, 90-before%90)...)
				if got := pass(set, false, data, before+20); survives(got, value) {
					t.Fatalf("%s behind %d bytes of %#x survives: %q", name, before, noise, got)
				}
			}
		}
	}
	strange := value[:20] + "\xe9" + value[20:]
	for before := range 100 {
		noise := strings.Repeat("\xff", before)
		for _, form := range []string{url.QueryEscape(strange), strings.ReplaceAll(strange, "/", "%2F")} {
			behind := strings.Repeat("\xff", 99)
			if got := New([]Pair{{strange, placeholder}}).Text(noise + form + behind); got != noise+placeholder+behind {
				t.Fatalf("a value that is not ASCII became %q", got)
			}
		}
	}
}

func TestBackslash(t *testing.T) {
	const value = `pass\word"1234`
	set := New([]Pair{{value, placeholder}})
	for _, form := range []string{value, asJSON(t, value), url.QueryEscape(value)} {
		if got := set.Text("is " + form); got != "is "+placeholder {
			t.Errorf("%s became %s", form, got)
		}
	}
}

// worked is the processor time that the process has had: on a machine with other work, the clock says little.
func worked(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
