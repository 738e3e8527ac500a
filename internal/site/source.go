package site

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Index is the page that lists the others: its sections and links are the site's menu.
const Index = "docs/README.md"

// besides are the pages outside of docs/.
func besides() []string { return []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} }

// Docs are all pages of a repository, by their paths.
type Docs struct {
	repo  fs.FS
	Pages map[string]*Page
}

// Read reads every page of the repository: those of the top, and whatever is below docs/.
func Read(repo fs.FS) (*Docs, error) {
	d := &Docs{repo, map[string]*Page{}}
	for _, name := range besides() {
		if err := d.read(name); err != nil {
			return nil, err
		}
	}
	err := fs.WalkDir(repo, "docs", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".md" {
			return err
		}
		return d.read(name)
	})
	return d, err
}

func (d *Docs) read(name string) error {
	source, err := fs.ReadFile(d.repo, name)
	if err != nil {
		return fmt.Errorf("reading the documentation: %w", err)
	}
	d.Pages[name] = Parse(name, source)
	return nil
}

// Names are the pages' paths, sorted.
func (d *Docs) Names() []string {
	var names []string
	for name := range d.Pages {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Outside reports whether a link leads to another site.
func Outside(to string) bool {
	return strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:")
}

// Resolve says what a link of a page leads to: a file of the repository and, perhaps, an anchor. It is an error when that is not
// there, or lies outside of the repository.
func (d *Docs) Resolve(from, to string) (file, anchor string, err error) {
	file, anchor, _ = strings.Cut(to, "#")
	if file == "" {
		file = from
	} else {
		file = path.Join(path.Dir(from), file)
	}
	if !fs.ValidPath(file) {
		return "", "", fmt.Errorf("%s leads out of the repository", to)
	}
	if _, err := fs.Stat(d.repo, file); err != nil {
		return "", "", fmt.Errorf("%s: there is no file %s", to, file)
	}
	if page := d.Pages[file]; anchor != "" && page != nil && !page.has(anchor) {
		return "", "", fmt.Errorf("%s: %s has no heading with the anchor #%s; it has %s", to, file, anchor, page.anchors())
	}
	return file, anchor, nil
}

func (p *Page) has(anchor string) bool {
	return slices.ContainsFunc(p.Headings, func(h Heading) bool { return h.ID == anchor })
}

func (p *Page) anchors() string {
	var all []string
	for _, h := range p.Headings {
		all = append(all, "#"+h.ID)
	}
	return strings.Join(all, " ")
}

// Section is a part of the menu.
type Section struct {
	Title string
	Items []Item
}

// Item leads to a page.
type Item struct {
	Title, Page string
}

// Menu is what the index lists, by its headings, and a last section of what it does not list. A directory with a README.md
// of its own lists its pages itself.
func (d *Docs) Menu() ([]Section, error) {
	index, ok := d.Pages[Index]
	if !ok {
		return nil, errors.New("reading the documentation: there is no " + Index)
	}
	menu, err := d.listed(index)
	if err != nil {
		return nil, err
	}
	if left := d.Unlisted(menu); len(left) > 0 {
		more := Section{Title: "More"}
		for _, name := range left {
			more.Items = append(more.Items, Item{d.Pages[name].Title, name})
		}
		menu = append(menu, more)
	}
	return menu, nil
}

// listed are the sections of one index page.
func (d *Docs) listed(index *Page) (menu []Section, err error) {
	for _, entry := range index.entries() {
		if entry.To == "" {
			menu = append(menu, Section{Title: entry.Text})
			continue
		}
		file, _, err := d.Resolve(index.Path, entry.To)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", index.Path, entry.Line, err)
		}
		if d.Pages[file] == nil || len(menu) == 0 {
			continue
		}
		last := &menu[len(menu)-1]
		last.Items = append(last.Items, Item{entry.Text, file})
	}
	return menu, nil
}

// Unlisted are the pages below docs/ that no menu names and no README.md of their own directory can list.
func (d *Docs) Unlisted(menu []Section) (left []string) {
	named := map[string]bool{Index: true}
	for _, s := range menu {
		for _, i := range s.Items {
			named[i.Page] = true
		}
	}
	for _, name := range d.Names() {
		own := path.Join(path.Dir(name), "README.md")
		_, listedThere := d.Pages[own]
		listedThere = listedThere && own != Index && own != name
		if strings.HasPrefix(name, "docs/") && !named[name] && !listedThere {
			left = append(left, name)
		}
	}
	return left
}
