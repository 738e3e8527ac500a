package site

import (
	"strings"

	"github.com/yuin/goldmark/ast"
)

// entries are the headings of level 2 of an index page, as links that lead nowhere, and the first link of each list item
// below them.
func (p *Page) entries() (out []Link) {
	for n := p.root.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Heading:
			if n.Level == 2 {
				out = append(out, Link{Text: p.text(n)})
			}
		case *ast.List:
			for item := n.FirstChild(); item != nil; item = item.NextSibling() {
				if l, ok := p.firstLink(item); ok {
					out = append(out, l)
				}
			}
		}
	}
	return out
}

func (p *Page) firstLink(n ast.Node) (link Link, found bool) {
	_ = ast.Walk(n, func(n ast.Node, _ bool) (ast.WalkStatus, error) {
		if l, ok := n.(*ast.Link); ok && !found {
			link, found = Link{p.line(l), string(l.Destination), p.text(l)}, true
			return ast.WalkStop, nil
		}
		return ast.WalkContinue, nil
	})
	return link, found
}

// passage is what a search finds: a heading and what stands below it.
type passage struct {
	Anchor, Heading, Text string
}

// passages are those of a page, in order.
func (p *Page) passages() (out []passage) {
	out = append(out, passage{Heading: p.Title})
	for n := p.root.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok {
			if id, ok := h.AttributeString("id"); ok && h.Level > 1 {
				name, _ := id.([]byte)
				out = append(out, passage{Anchor: string(name), Heading: p.text(h)})
			}
			continue
		}
		last := &out[len(out)-1]
		last.Text = strings.TrimSpace(last.Text + " " + strings.Join(strings.Fields(p.words(n)), " "))
	}
	return out
}

// words are all texts below n, those that are shown as they are too, with spaces between them.
func (p *Page) words(n ast.Node) string {
	var out strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.HTMLBlock:
			return ast.WalkSkipChildren, nil
		case *ast.CodeBlock, *ast.FencedCodeBlock:
			out.Write(n.Lines().Value(p.source))
		case *ast.Text:
			out.Write(n.Segment.Value(p.source))
			if n.SoftLineBreak() {
				out.WriteByte(' ')
			}
		default:
			if n.Type() == ast.TypeBlock {
				out.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return out.String()
}
