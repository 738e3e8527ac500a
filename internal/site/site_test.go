package site

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// ours is the documentation of this repository.
func ours(t *testing.T) *Docs {
	t.Helper()
	d, err := Read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	d, count := ours(t), 0
	for name, p := range d.Pages {
		for _, l := range p.Links {
			count++
			if Outside(l.To) {
				if err := formed(l.To); err != nil {
					t.Errorf("%s:%d: %v", name, l.Line, err)
				}
				continue
			}
			if _, _, err := d.Resolve(name, l.To); err != nil {
				t.Errorf("%s:%d: %v", name, l.Line, err)
			}
		}
	}
	if count < 100 {
		t.Errorf("only %d links were found", count)
	}
}

// formed checks what can be checked of an address without a network.
func formed(to string) error {
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || !strings.Contains(u.Hostname(), ".") || u.User != nil {
		return fmt.Errorf("%s: links to elsewhere begin with https:// and a host's name", to)
	}
	return nil
}

func TestEveryPageIsInTheMenu(t *testing.T) {
	d := ours(t)
	listed, err := d.listed(d.Pages[Index])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range d.Unlisted(listed) {
		t.Errorf("%s: add a line for this page below one of the headings of %s:\n- [%s](%s): what it is for", name, Index, d.Pages[name].Title, strings.TrimPrefix(name, "docs/"))
	}
}

var (
	reference = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	anchor    = regexp.MustCompile(` id="([^"]*)"`)
)

func TestTheBuiltSiteHolds(t *testing.T) {
	files, err := ours(t).Build()
	if err != nil {
		t.Fatal(err)
	}
	if len(files["index.html"]) == 0 || len(files["commands/agentbox-run.html"]) == 0 {
		t.Fatalf("%d files, and not those that there must be", len(files))
	}
	for name, content := range files {
		if path.Ext(name) != ".html" {
			continue
		}
		for _, m := range reference.FindAllSubmatch(content, -1) {
			if err := leads(files, name, strings.ReplaceAll(string(m[1]), "&amp;", "&")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func leads(files map[string][]byte, from, to string) error {
	if Outside(to) {
		return formed(to)
	}
	file, id, _ := strings.Cut(to, "#")
	if file == "" {
		file = path.Base(from)
	}
	content, ok := files[path.Join(path.Dir(from), file)]
	if !ok {
		return fmt.Errorf("%s: there is no such file in the site", to)
	}
	if id, err := url.PathUnescape(id); err != nil || id != "" && !slices.Contains(ids(content), id) {
		return fmt.Errorf("%s: there is no such anchor", to)
	}
	return nil
}

func ids(content []byte) (all []string) {
	for _, m := range anchor.FindAllSubmatch(content, -1) {
		all = append(all, string(m[1]))
	}
	return all
}

// A page that is opened shows itself, and asks nobody for anything.
func TestTheSiteLoadsNothingFromElsewhere(t *testing.T) {
	files, err := ours(t).Build()
	if err != nil {
		t.Fatal(err)
	}
	loads := regexp.MustCompile(`(?i)<(?:script|link|img|iframe|source)[^>]*(?:src|href)="(?:https?:)?//|@import|url\(|fetch\(|XMLHttpRequest|import\(`)
	for name, content := range files {
		if path.Ext(name) != ".txt" && name != "search.js" && loads.Match(content) {
			t.Errorf("%s loads something from elsewhere: %s", name, loads.Find(content))
		}
	}
}

func TestTheSiteIsTheSameEachTime(t *testing.T) {
	one, err := ours(t).Build()
	if err != nil {
		t.Fatal(err)
	}
	two, err := ours(t).Build()
	if err != nil {
		t.Fatal(err)
	}
	for name := range one {
		if string(one[name]) != string(two[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

func small(pages map[string]string) *Docs {
	repo := fstest.MapFS{"README.md": {Data: []byte("# Top\n")}, "CONTRIBUTING.md": {Data: []byte("# C\n")}, "CHANGELOG.md": {Data: []byte("# L\n")}}
	for name, text := range pages {
		repo[name] = &fstest.MapFile{Data: []byte(text)}
	}
	d, err := Read(repo)
	if err != nil {
		panic(err)
	}
	return d
}

func TestWhatLeadsNowhereIsFound(t *testing.T) {
	d := small(map[string]string{
		Index:       "# Docs\n\n## Use\n\n- [A](A.md): it\n",
		"docs/A.md": "# A\n\n## Two words\n\n## Two words\n\nText.\n",
		"docs/B.md": "# B\n",
	})
	for to, fault := range map[string]string{
		"A.md": "", "A.md#two-words": "", "A.md#two-words-1": "", "../README.md#top": "",
		"A.md#two-words-2": "no heading", "C.md": "no file", "../../x": "out of the repository",
	} {
		_, _, err := d.Resolve("docs/B.md", to)
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v, want %q", to, err, fault)
		}
	}
	menu, err := d.Menu()
	if err != nil || len(menu) != 2 || menu[1].Title != "More" || menu[1].Items[0].Page != "docs/B.md" {
		t.Errorf("a page that nothing lists is not in the menu: %v, %v", menu, err)
	}
	d = small(map[string]string{Index: "# Docs\n\n[x](gone.md)\n"})
	if _, err := d.Build(); err == nil || !strings.Contains(err.Error(), "no file docs/gone.md") {
		t.Errorf("a site with a link to nowhere was built: %v", err)
	}
}

func TestBlocksAreReadWithTheirComments(t *testing.T) {
	p := Parse("x.md", []byte("# X\n\nText `code`:\n\n<!-- run: true -->\n\n    one\n\n    two\n\n```toml\nv = 1\n```\n"))
	want := []Block{{7, "", "one\n\ntwo\n", "run: true"}, {12, "toml", "v = 1\n", ""}}
	if !slices.Equal(p.Blocks, want) {
		t.Errorf("got %+v, want %+v", p.Blocks, want)
	}
	if len(p.Spans) != 1 || p.Spans[0].Text != "code" || p.Spans[0].Line != 3 {
		t.Errorf("got %+v", p.Spans)
	}
}

// What an author writes as HTML does not become HTML of the site.
func TestHTMLOfAPageIsLeftOut(t *testing.T) {
	d := small(map[string]string{Index: "# Docs\n\n<script>alert(1)</script>\n\nInline <img src=x onerror=alert(1)>.\n\n    a <b> & c # note\n"})
	files, err := d.Build()
	if err != nil {
		t.Fatal(err)
	}
	text := string(files["index.html"])
	if strings.Contains(text, "alert(1)") || strings.Contains(text, "onerror") || !strings.Contains(text, "a &lt;b&gt; &amp; c<i> # note</i>") {
		t.Errorf("got %s", text)
	}
}
