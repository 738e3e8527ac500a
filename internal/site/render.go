package site

import (
	"bytes"
	"html"
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// shown renders blocks of text, whose comments are set apart from what is to be typed, and tables, which may be wider than
// a small screen.
type shown struct{}

// RegisterFuncs is how goldmark takes renderers.
func (s shown) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindCodeBlock, s.block)
	r.Register(ast.KindFencedCodeBlock, s.block)
	r.Register(ast.KindHTMLBlock, s.nothing) // comments for tests; other HTML is not written
	r.Register(extast.KindTable, s.table)
}

func (shown) nothing(util.BufWriter, []byte, ast.Node, bool) (ast.WalkStatus, error) {
	return ast.WalkSkipChildren, nil
}

func (shown) table(w util.BufWriter, _ []byte, _ ast.Node, entering bool) (ast.WalkStatus, error) {
	tag := "</table></div>\n"
	if entering {
		tag = `<div class="wide"><table>` + "\n"
	}
	_, err := w.WriteString(tag)
	return ast.WalkContinue, err
}

func (shown) block(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	language := ""
	if f, ok := n.(*ast.FencedCodeBlock); ok {
		language = string(f.Language(source))
	}
	_, err := w.WriteString(blockHTML(string(n.Lines().Value(source)), language))
	return ast.WalkSkipChildren, err
}

// remark is a comment of TOML, YAML and shells, as these pages write them: at a line's beginning, behind two spaces, or behind one
// where no text in quotes can hold the sign.
var remark = regexp.MustCompile(`^\s*#[ :].*$|\s\s#[ :].*$|\s#[ :][^"']*$`)

func blockHTML(text, language string) string {
	var out bytes.Buffer
	out.WriteString(`<pre><code>`)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		at := remark.FindStringIndex(line)
		switch {
		case at != nil && language != "text":
			out.WriteString(html.EscapeString(line[:at[0]]) + "<i>" + html.EscapeString(line[at[0]:]) + "</i>\n")
		case strings.HasPrefix(line, "$ "):
			out.WriteString("<b>$ </b><kbd>" + html.EscapeString(line[2:]) + "</kbd>\n")
		default:
			out.WriteString(html.EscapeString(line) + "\n")
		}
	}
	out.WriteString("</code></pre>\n")
	return out.String()
}
