package starter

import (
	"path"
	"slices"
)

// ecosystem is a family of packages: how a repository shows that it uses it, and where its packages come from.
type ecosystem struct {
	name     string
	language string
	files    []string // names or patterns of names
	sets     []string // the named sets that are for it; the first that exists is taken
	hosts    []string // its public registries, for when no set exists, and to tell private ones apart
}

// ecosystems in the order in which a profile names them.
func ecosystems() []ecosystem {
	return []ecosystem{
		{"npm", "JavaScript", []string{"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "yarn.lock", "package.json"},
			[]string{"npm"}, []string{"registry.npmjs.org"}},
		{"yarn", "", []string{"yarn.lock"}, []string{"yarn", "npm"}, []string{"registry.yarnpkg.com"}},
		{"pypi", "Python", []string{"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "Pipfile", "pyproject.toml", "setup.py", "requirements*.txt"},
			[]string{"pypi"}, []string{"pypi.org", "files.pythonhosted.org"}},
		{"conda", "Python", []string{"environment.yml", "environment.yaml", "conda-lock.yml", "pixi.lock"},
			[]string{"conda"}, []string{"conda.anaconda.org", "repo.anaconda.com"}},
		{"go", "Go", []string{"go.mod", "go.work"}, []string{"go"}, []string{"proxy.golang.org", "sum.golang.org"}},
		{"crates", "Rust", []string{"Cargo.lock", "Cargo.toml"}, []string{"crates"}, []string{"index.crates.io", "static.crates.io", "crates.io"}},
		{"rubygems", "Ruby", []string{"Gemfile.lock", "Gemfile", "*.gemspec"}, []string{"rubygems"}, []string{"rubygems.org", "index.rubygems.org"}},
		{"maven", "Java", []string{"pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "gradle.lockfile"},
			[]string{"maven"}, []string{"repo.maven.apache.org", "repo1.maven.org"}},
		{"gradle", "", []string{"build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts", "gradle-wrapper.properties"},
			[]string{"gradle"}, []string{"plugins.gradle.org", "services.gradle.org"}},
		{"composer", "PHP", []string{"composer.lock", "composer.json"}, []string{"packagist", "composer", "php"},
			[]string{"repo.packagist.org", "packagist.org"}},
		{"hex", "Elixir", []string{"mix.lock", "mix.exs"}, []string{"hex"}, []string{"repo.hex.pm", "builds.hex.pm"}},
		{"nuget", ".NET", []string{"packages.lock.json", "*.csproj", "*.fsproj", "*.sln", "Directory.Packages.props"},
			[]string{"nuget"}, []string{"api.nuget.org"}},
		{"pub", "Dart", []string{"pubspec.lock", "pubspec.yaml"}, []string{"pub"}, []string{"pub.dev"}},
		{"deno", "JavaScript", []string{"deno.lock", "deno.json", "deno.jsonc"}, []string{"deno", "jsr"}, []string{"jsr.io", "deno.land"}},
		{"terraform", "Terraform", []string{".terraform.lock.hcl", "*.tf"}, []string{"terraform"}, []string{"registry.terraform.io", "releases.hashicorp.com"}},
	}
}

// rank says how telling a file's name is for e: 0 is the most, -1 not at all.
func (e ecosystem) rank(name string) int {
	return slices.IndexFunc(e.files, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}

// public reports the hosts that belong to everybody: naming one in a file says nothing of a private registry.
func public(host string) bool {
	for _, e := range ecosystems() {
		if slices.Contains(e.hosts, host) {
			return true
		}
	}
	return slices.Contains([]string{"github.com", "www.npmjs.com", "maven.google.com", "dl.google.com", "getcomposer.org"}, host)
}
