// Command packages prints nfpm's configuration of the packages that .goreleaser.yaml describes, so that they can be
// made of a binary that is there already: GoReleaser itself takes longer to compile than everything else here.
//
//	packages VERSION ARCH BINARY DATE <.goreleaser.yaml >nfpm.yaml
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 4 {
		return errors.New("usage: packages VERSION ARCH BINARY DATE")
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	text, err := fill(string(data), map[string]string{".CommitDate": args[3], ".Env.MAINTAINER": "agentbox maintainers <maintainers@agentbox.invalid>",
		".Env.HOME_PAGE": "https://github.com/agentbox/agentbox"})
	if err != nil {
		return err
	}
	var release struct {
		Packages []map[string]any `yaml:"nfpms"`
	}
	if err := yaml.Unmarshal([]byte(text), &release); err != nil {
		return err
	}
	if len(release.Packages) != 1 {
		return fmt.Errorf("there are %d sections of packages, not 1", len(release.Packages))
	}
	return yaml.NewEncoder(out).Encode(config(release.Packages[0], args[0], args[1], args[2]))
}

var templates = regexp.MustCompile(`\{\{ *(\.[A-Za-z_.]+) *\}\}`)

// fill puts values into the section of the packages. A template there that it does not know would be in the package
// as it stands.
func fill(text string, values map[string]string) (string, error) {
	begin, end := strings.Index(text, "\nnfpms:"), strings.Index(text, "\nhomebrew_casks:")
	if begin < 0 || end < begin {
		return "", errors.New("there is no section of packages")
	}
	var unknown []string
	section := templates.ReplaceAllStringFunc(text[begin:end], func(t string) string {
		name := templates.FindStringSubmatch(t)[1]
		if v, ok := values[name]; ok {
			return v
		}
		if name != ".ConventionalFileName" {
			unknown = append(unknown, name)
		}
		return t
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("no value for %s", strings.Join(unknown, ", "))
	}
	return section, nil
}

// config is what GoReleaser makes of a section for nfpm: the same keys, less its own, and the binary among the contents.
func config(p map[string]any, version, arch, binary string) map[string]any {
	p["name"], p["version"], p["arch"], p["platform"] = p["package_name"], version, arch, "linux"
	// As GoReleaser does it: only the version's tilde marks what comes before a release.
	p["version_schema"] = "none"
	bin := map[string]any{"src": binary, "dst": fmt.Sprint(p["bindir"], "/agentbox"),
		"file_info": map[string]any{"mode": 0o755, "mtime": p["mtime"]}}
	contents, _ := p["contents"].([]any)
	p["contents"] = append([]any{bin}, contents...)
	overrides, _ := p["overrides"].(map[string]any)
	for _, o := range overrides {
		if o, ok := o.(map[string]any); ok {
			o["depends"] = o["dependencies"]
			delete(o, "dependencies")
		}
	}
	for _, own := range []string{"id", "package_name", "file_name_template", "formats", "bindir"} {
		delete(p, own)
	}
	return p
}
