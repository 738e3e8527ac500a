package site

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"

	"github.com/yuin/goldmark/ast"
)

//go:embed theme
var theme embed.FS

// Build makes the site: files by their paths in it. Files of the repository that pages link to are copied into it as text.
func (d *Docs) Build() (map[string][]byte, error) {
	menu, err := d.Menu()
	if err != nil {
		return nil, err
	}
	layout, err := template.ParseFS(theme, "theme/layout.html")
	if err != nil {
		return nil, fmt.Errorf("reading the site's layout: %w", err)
	}
	b := &builder{docs: d, menu: menu, layout: layout, files: map[string][]byte{}}
	for _, name := range d.Names() {
		if err := b.page(d.Pages[name]); err != nil {
			return nil, fmt.Errorf("building %s: %w", name, err)
		}
	}
	if err := b.search(); err != nil {
		return nil, err
	}
	return b.files, b.theme()
}

type builder struct {
	docs   *Docs
	menu   []Section
	layout *template.Template
	files  map[string][]byte
}

// address is the place in the site of a file of the repository.
func address(file string) string {
	switch {
	case path.Ext(file) != ".md":
		return "files/" + strings.TrimSuffix(file, ".txt") + ".txt"
	case file == "README.md":
		return "readme.html"
	}
	name := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(file, "docs/"), ".md"))
	if path.Base(name) == "readme" {
		name = path.Join(path.Dir(name), "index")
	}
	return name + ".html"
}

// view is what the layout shows.
type view struct {
	Title, Root string
	Home        string
	Menu        []part
	Contents    []Heading
	Body        template.HTML
	Edit        string
}

type part struct {
	Title string
	Items []entry
}

type entry struct {
	Title, To string
	Here      bool
}

func (b *builder) page(p *Page) error {
	if err := b.relink(p); err != nil {
		return err
	}
	var body bytes.Buffer
	if err := converter().Renderer().Render(&body, p.source, p.root); err != nil {
		return err
	}
	at := address(p.Path)
	v := view{Title: p.Title, Root: strings.Repeat("../", strings.Count(at, "/")), Edit: p.Path, Menu: b.menuFor(p),
		// What goldmark wrote holds no HTML of the page's own: raw HTML is left out.
		Body: template.HTML(body.String())} //nolint:gosec // see above
	for _, h := range p.Headings {
		if h.Level == 2 || h.Level == 3 {
			v.Contents = append(v.Contents, h)
		}
	}
	var out bytes.Buffer
	if err := b.layout.Execute(&out, v); err != nil {
		return err
	}
	b.files[at] = out.Bytes()
	return nil
}

func (b *builder) menuFor(p *Page) (menu []part) {
	here := p.Path
	if _, own := b.docs.Pages[path.Join(path.Dir(here), "README.md")]; own && path.Dir(here) != "docs" && path.Dir(here) != "." {
		here = path.Join(path.Dir(here), "README.md") // its directory's page stands for it
	}
	for _, s := range b.menu {
		m := part{Title: s.Title}
		for _, i := range s.Items {
			m.Items = append(m.Items, entry{i.Title, relative(p.Path, i.Page), i.Page == here})
		}
		menu = append(menu, m)
	}
	return menu
}

// relative is the way from one page of the site to another.
func relative(from, to string) string {
	return strings.Repeat("../", strings.Count(address(from), "/")) + address(to)
}

// relink turns links to files of the repository into links of the site, and takes those files along.
func (b *builder) relink(p *Page) error {
	var err error
	_ = ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if link, ok := n.(*ast.Link); ok && entering && err == nil {
			var to string
			if to, err = b.target(p, string(link.Destination)); err == nil {
				link.Destination = []byte(to)
			}
		}
		return ast.WalkContinue, nil
	})
	return err
}

func (b *builder) target(p *Page, to string) (string, error) {
	if Outside(to) {
		return to, nil
	}
	file, anchor, err := b.docs.Resolve(p.Path, to)
	if err != nil {
		return "", err
	}
	if anchor != "" {
		anchor = "#" + anchor
	}
	if file == p.Path && anchor != "" {
		return anchor, nil
	}
	if b.docs.Pages[file] == nil {
		if err := b.take(file); err != nil {
			return "", err
		}
	}
	return relative(p.Path, file) + anchor, nil
}

// take copies a file that a page links to.
func (b *builder) take(file string) error {
	content, err := fs.ReadFile(b.docs.repo, file)
	if err != nil {
		return fmt.Errorf("copying what a page links to: %w", err)
	}
	b.files[address(file)] = content
	return nil
}

// search writes what can be found, as a script, since a page that was opened from a directory may read nothing else.
func (b *builder) search() error {
	type found struct {
		To      string `json:"u"`
		Page    string `json:"p"`
		Heading string `json:"h"`
		Text    string `json:"t"`
	}
	var all []found
	for _, name := range b.docs.Names() {
		p := b.docs.Pages[name]
		for _, s := range p.passages() {
			to := address(name)
			if s.Anchor != "" {
				to += "#" + s.Anchor
			}
			all = append(all, found{to, p.Title, s.Heading, s.Text})
		}
	}
	list, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("writing what can be searched: %w", err)
	}
	b.files["search.js"] = fmt.Appendf(nil, "window.passages = %s;\n", list)
	return nil
}

func (b *builder) theme() error {
	for _, name := range []string{"style.css", "site.js"} {
		content, err := theme.ReadFile("theme/" + name)
		if err != nil {
			return fmt.Errorf("reading the site's theme: %w", err)
		}
		b.files[name] = content
	}
	return nil
}
