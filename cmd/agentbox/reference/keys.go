package reference

import (
	"fmt"
	"strings"

	"agentbox/internal/profiles"
)

// file is a kind of file that people write.
type file struct {
	title, about string
	keys         []profiles.Key
}

func files() []file {
	return []file{
		{"Profiles", "`agentbox.toml`, `.agentbox/NAME.toml`, `~/.config/agentbox/agentbox.toml` and\n" +
			"`~/.config/agentbox/profiles/NAME.toml`. [PROFILES.md](PROFILES.md) says how they lie on each other.", profiles.Keys()},
		{"Named sets", "`~/.config/agentbox/sets/NAME.toml`: rules that a profile takes with `use`.", profiles.SetKeys()},
		{"The organisation's policy", "`/etc/agentbox/policy.toml`: nothing loosens it.", profiles.FloorKeys()},
		{"Your own configuration", "`~/.config/agentbox/config.toml`: your own way to servers.", profiles.ConfigKeys()},
	}
}

// Keys makes the page of every key of every file.
func Keys() Page {
	w := &markdown{}
	w.say(notice + "# Every key\n")
	w.say("What may stand in the files that you write, from the types that they are read into. [PROFILES.md](PROFILES.md) explains\n" +
		"what belongs together, and marks what this version reads and does not carry out yet. A key that is not here is a mistake, told with\n" +
		"its line. **Bold** keys must be there: in the file, or in one that it lies on.\n")
	for _, f := range files() {
		w.say("## %s\n\n%s\n", f.title, f.about)
		w.tables(f)
	}
	return Page{Name: "KEYS.md", Content: w.bytes()}
}

// tables writes one section for the keys of the file's top and one for each table.
func (w *markdown) tables(f file) {
	w.table(f.keys, "")
	for _, k := range f.keys {
		if k.Kind != profiles.Table && k.Kind != profiles.Tables {
			continue
		}
		name := "[" + k.Path + "]"
		if k.Kind == profiles.Tables {
			name = "[" + name + "]"
		}
		w.say("### %s: `%s`\n\n%s.\n", f.title, name, capital(text(k.Doc)))
		w.table(f.keys, k.Path)
	}
}

func (w *markdown) table(keys []profiles.Key, path string) {
	var rows []string
	for _, k := range keys {
		if name, ok := below(path, k.Path); ok {
			rows = append(rows, row(name, k))
		}
	}
	if len(rows) > 0 {
		w.say("| key | value | | example |\n|---|---|---|---|\n%s\n", strings.Join(rows, "\n"))
	}
}

// below gives the name of a key right below a table's path.
func below(table, path string) (name string, ok bool) {
	if table != "" {
		if path, ok = strings.CutPrefix(path, table+"."); !ok {
			return "", false
		}
	}
	return path, !strings.Contains(path, ".")
}

func row(name string, k profiles.Key) string {
	key := "`" + name + "`"
	if k.Required {
		key = "**" + key + "**"
	}
	example := ""
	if k.Example != "" {
		example = "`" + strings.ReplaceAll(k.Example, "|", `\|`) + "`"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |", key, value(k), meaning(k), example)
}

func meaning(k profiles.Key) string {
	said := cell(k.Doc)
	if k.Default != "" {
		said += "; `" + k.Default + "` when left out"
	}
	return said
}

// value says what may stand behind the key.
func value(k profiles.Key) string {
	kind := string(k.Kind)
	switch k.Kind {
	case profiles.Tables:
		kind = "tables"
	case profiles.List:
		kind = "list of " + plural(k.Items)
	case profiles.Map:
		kind = "table of " + plural(k.Items)
	}
	if words := few(k.Enum); words != "" {
		return kind + ": " + words
	}
	return kind
}

func plural(k profiles.Kind) string {
	if k == "" {
		return "values"
	}
	return string(k) + "s"
}

// few lists the words that a value may be; the ones that only read a cache stand with the cache's name.
func few(words []string) string {
	var out []string
	for _, w := range words {
		if !strings.HasSuffix(w, ":ro") {
			out = append(out, "`"+w+"`")
		}
	}
	return strings.Join(out, ", ")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
