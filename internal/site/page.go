// Package site reads the documentation, which is Markdown, and makes a website of it.
//
// It owns what a page is to programs (its headings with their anchors, its links, the blocks of text that it shows, with
// the places of all of these), how a page's place in the repository becomes one of the site, and the site's form, which is
// one layout, one sheet of styles and one script, below theme/. The site needs no server and nothing from elsewhere: it works
// from a directory. The same pages give the same bytes. Anchors are those that GitHub gives, so that links hold in both places.
//
// Only the program that builds the site, and tests, link it.
package site

import (
	"bytes"
	"path"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Page is one file of documentation.
type Page struct {
	Path     string // in the repository: "docs/CI.md"
	Title    string
	Headings []Heading
	Links    []Link
	Blocks   []Block
	Spans    []Span

	source []byte
	root   ast.Node
}

// Heading is one heading with its anchor.
type Heading struct {
	Level    int
	Text, ID string
}

// Link is a link or an image; To is as written.
type Link struct {
	Line int
	To   string
	Text string
}

// Block is text that is shown as it is: fenced or indented. Line is that of its first line of text. Comment is the HTML
// comment right before it, "" where there is none.
type Block struct {
	Line     int
	Language string
	Text     string
	Comment  string
}

// Span is code within a sentence.
type Span struct {
	Line int
	Text string
}

// Parse reads one page.
func Parse(name string, source []byte) *Page {
	p := &Page{Path: name, source: source}
	context := parser.NewContext(parser.WithIDs(&anchors{}))
	p.root = converter().Parser().Parse(text.NewReader(source), parser.WithContext(context))
	// The visitor fails nowhere.
	_ = ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			p.take(n)
		}
		return ast.WalkContinue, nil
	})
	if p.Title == "" {
		p.Title = strings.TrimSuffix(path.Base(name), ".md")
	}
	return p
}

func converter() goldmark.Markdown {
	return goldmark.New(
		goldmark.WithExtensions(extension.Table, extension.Strikethrough),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(shown{}, 100))),
	)
}

func (p *Page) take(n ast.Node) {
	switch n := n.(type) {
	case *ast.Heading:
		p.heading(n)
	case *ast.Link:
		p.Links = append(p.Links, Link{p.line(n), string(n.Destination), p.text(n)})
	case *ast.Image:
		p.Links = append(p.Links, Link{p.line(n), string(n.Destination), p.text(n)})
	case *ast.CodeSpan:
		p.Spans = append(p.Spans, Span{p.line(n), p.text(n)})
	case *ast.FencedCodeBlock:
		p.block(n, string(n.Language(p.source)))
	case *ast.CodeBlock:
		p.block(n, "")
	}
}

func (p *Page) heading(n *ast.Heading) {
	id, _ := n.AttributeString("id")
	name, _ := id.([]byte)
	h := Heading{n.Level, p.text(n), string(name)}
	p.Headings = append(p.Headings, h)
	if p.Title == "" && n.Level == 1 {
		p.Title = h.Text
	}
}

func (p *Page) block(n ast.Node, language string) {
	b := Block{Language: language, Text: string(n.Lines().Value(p.source))}
	if n.Lines().Len() > 0 {
		b.Line = p.lineOf(n.Lines().At(0).Start)
	}
	if before, ok := n.PreviousSibling().(*ast.HTMLBlock); ok {
		b.Comment = p.comment(before)
	}
	p.Blocks = append(p.Blocks, b)
}

// comment is what an HTML comment says, "" for other HTML.
func (p *Page) comment(n *ast.HTMLBlock) string {
	html := string(n.Lines().Value(p.source))
	if n.HasClosure() {
		html += string(n.ClosureLine.Value(p.source))
	}
	inside, ok := strings.CutPrefix(strings.TrimSpace(html), "<!--")
	if !ok {
		return ""
	}
	return strings.TrimSpace(strings.TrimSuffix(inside, "-->"))
}

// text is what n reads as.
func (p *Page) text(n ast.Node) string {
	var out strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			out.Write(n.Segment.Value(p.source))
			if n.SoftLineBreak() || n.HardLineBreak() {
				out.WriteByte(' ')
			}
		case *ast.String:
			out.Write(n.Value)
		}
		return ast.WalkContinue, nil
	})
	return out.String()
}

// line is that of an inline node: of its first text, or of the block that it is in.
func (p *Page) line(n ast.Node) int {
	at := -1
	_ = ast.Walk(n, func(n ast.Node, _ bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok {
			at = t.Segment.Start
			return ast.WalkStop, nil
		}
		return ast.WalkContinue, nil
	})
	for b := n; at < 0 && b != nil; b = b.Parent() {
		if b.Type() == ast.TypeBlock && b.Lines() != nil && b.Lines().Len() > 0 {
			at = b.Lines().At(0).Start
		}
	}
	return p.lineOf(max(at, 0))
}

func (p *Page) lineOf(offset int) int { return 1 + bytes.Count(p.source[:offset], []byte("\n")) }
