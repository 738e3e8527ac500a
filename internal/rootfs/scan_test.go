package rootfs

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func scanOn(t *testing.T, h string, vars map[string]string) Toolchains {
	t.Helper()
	tools, err := Scan(Env{
		Host: h, Home: "/home/ada", Repo: "/home/ada/src/app", Private: []string{"/data/agentbox"},
		Getenv: func(name string) string { return vars[name] },
	})
	must(t, err)
	return tools
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestScanShowsWhatPathNeeds(t *testing.T) {
	h := newHost(t, map[string]string{
		"/home/ada/.nvm/versions/node/v20/bin/node":           "\x7fELF",
		"/home/ada/.nvm/versions/node/v20/etc/npmrc":          "token",
		"/home/ada/.cargo/bin/cargo":                          "->rustup",
		"/home/ada/.cargo/bin/rustup":                         "\x7fELF",
		"/home/ada/.cargo/credentials.toml":                   "token",
		"/home/ada/.rustup/toolchains/stable/bin/cargo":       "\x7fELF",
		"/home/ada/.local/bin/ruff":                           "->../share/uv/tools/ruff/bin/ruff",
		"/home/ada/.local/bin/stranger":                       "->/home/ada/.ssh/id",
		"/home/ada/.local/share/uv/tools/ruff/bin/ruff":       "\x7fELF",
		"/home/ada/.local/share/uv/tools/ruff/pip.conf":       "token",
		"/home/ada/.pyenv/shims/python":                       "\x7fELF",
		"/home/ada/scripts/x":                                 "#!/bin/sh",
		"/home/ada/src/app/node_modules/.bin/tsc":             "#!/bin/sh",
		"/opt/tool/bin/tool":                                  "\x7fELF",
		"/opt/other/bin/other":                                "\x7fELF",
		"/home/ada/.config/gh/hosts.yml":                      "token",
		"/home/ada/.local/share/uv/python/cpython/bin/python": "\x7fELF",
	})
	tools := scanOn(t, h, map[string]string{"PATH": strings.Join([]string{
		"/home/ada/src/app/node_modules/.bin", "/home/ada/.nvm/versions/node/v20/bin", "/home/ada/.cargo/bin", "bin", "", ".",
		"/home/ada/.local/bin", "/home/ada/scripts", "/opt/tool/bin", "/home/ada/gone", "/usr/bin", "/bin", "/home/ada/.config/gh",
	}, ":")})
	equal(t, "roots", tools.Roots, []string{
		"/home/ada/.cargo/bin", "/home/ada/.local/bin", "/home/ada/.local/share/uv/tools", "/home/ada/.nvm",
		"/home/ada/.rustup", "/opt/tool",
	})
	equal(t, "masked", tools.Masked, []string{
		"/home/ada/.local/share/uv/tools/ruff/pip.conf", "/home/ada/.nvm/versions/node/v20/etc/npmrc",
	})
	equal(t, "PATH", filepath.SplitList(tools.Path), []string{
		"/home/ada/src/app/node_modules/.bin", "/home/ada/.nvm/versions/node/v20/bin", "/home/ada/.cargo/bin",
		"/home/ada/.local/bin", "/opt/tool/bin", "/usr/bin", "/bin", "/usr/local/bin",
	})
	if len(tools.Dropped) != 2 {
		t.Errorf("said of what is left out: %q", tools.Dropped)
	}
	opt := options(t, h)
	opt.Roots, opt.Masked = tools.Roots, tools.Masked
	v := view{build(t, opt)}
	for _, p := range []string{
		"/home/ada/.cargo/credentials.toml", "/home/ada/.nvm/versions/node/v20/etc/npmrc", "/home/ada/.ssh/id",
		"/home/ada/.local/bin/stranger", "/home/ada/.config/gh/hosts.yml", "/opt/other/bin/other",
		"/home/ada/.local/share/uv/tools/ruff/pip.conf",
	} {
		if data, err := v.read(p); err == nil && len(data) > 0 {
			t.Errorf("%s is readable: %q", p, data)
		}
	}
	for _, p := range []string{"/home/ada/.local/bin/ruff", "/home/ada/.cargo/bin/cargo", "/opt/tool/bin/tool"} {
		if data, err := v.read(p); err != nil || len(data) == 0 {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestScanHonoursVariablesInSanePlacesOnly(t *testing.T) {
	h := newHost(t, map[string]string{
		"/data/rust/bin/cargo": "\x7fELF", "/data/rust/credentials": "token", "/data/rustup/x": "", "/home/bob/nvm/bin/node": "\x7fELF",
		"/data/agentbox/bin/x": "\x7fELF", "/etc/x/bin/y": "\x7fELF", "/home/ada/.aws/bin/x": "\x7fELF", "/to-home": "->/home/ada",
		"/home/ada/bin/x": "\x7fELF", "/home/ada/.config/bin/z": "\x7fELF",
	})
	good := scanOn(t, h, map[string]string{"PATH": "/data/rust/bin", "CARGO_HOME": "/data/rust", "RUSTUP_HOME": "/data/rustup"})
	equal(t, "roots", good.Roots, []string{"/data/rust/bin", "/data/rustup"})
	if good.Env["RUSTUP_HOME"] != "/data/rustup" || good.Env["CARGO_HOME"] != "" {
		t.Errorf("variables: %v", good.Env)
	}
	for _, dir := range []string{
		"/home/ada", "/home", "/", "/data", "/data/agentbox", "/data/agentbox/bin", "/etc/x", "/home/bob/nvm", "/home/ada/.aws",
		"/to-home", "/home/ada/.config", "relative", "/tmp", "/home/ada/.nvm/../..", "/hom*", "/proc/self", "/data/ru*",
	} {
		tools := scanOn(t, h, map[string]string{"NVM_DIR": dir, "PATH": strings.Join([]string{
			dir, dir + "/bin", "/home/ada/.aws/bin", "/data/agentbox/bin", "/home/bob/nvm/bin", "/home/ada/.config/bin", "/data/rust/bin",
		}, ":")})
		for _, r := range tools.Roots {
			if r != "/home/ada/bin" {
				t.Errorf("NVM_DIR=%s shows %s", dir, r)
			}
		}
		if tools.Env["NVM_DIR"] != "" {
			t.Errorf("NVM_DIR=%s is handed in", dir)
		}
	}
}

func TestScanFollowsLinksAndEnvironments(t *testing.T) {
	h := newHost(t, map[string]string{
		"/data/nvm/bin/node": "\x7fELF", "/home/ada/.nvm": "->/data/nvm",
		"/home/ada/.local/share/fnm/node-versions/v20/installation/bin/node": "\x7fELF",
		"/run/user/1/fnm_multishells/7":                                      "->/home/ada/.local/share/fnm/node-versions/v20/installation",
		"/home/ada/venvs/a/pyvenv.cfg":                                       "x", "/home/ada/venvs/a/bin/python": "->/home/ada/.local/share/uv/python/c/bin/python3",
		"/home/ada/.local/share/uv/python/c/bin/python3": "\x7fELF",
		"/home/ada/src/app/.venv/pyvenv.cfg":             "x", "/home/ada/src/app/.venv/bin/python": "->/home/ada/.pyenv/versions/3/bin/python",
		"/home/ada/.pyenv/versions/3/bin/python": "\x7fELF",
		"/home/ada/pyvenv.cfg":                   "x", "/home/ada/bin/x": "\x7fELF",
	})
	tools := scanOn(t, h, map[string]string{
		"PATH":        "/home/ada/src/app/.venv/bin:/home/ada/venvs/a/bin:/home/ada/.nvm/bin:/run/user/1/fnm_multishells/7/bin:/home/ada/bin",
		"VIRTUAL_ENV": "/home/ada/venvs/a",
	})
	equal(t, "roots", tools.Roots, []string{
		"/data/nvm", "/home/ada/.local/share/fnm", "/home/ada/.local/share/uv/python", "/home/ada/.nvm", "/home/ada/.pyenv",
		"/home/ada/bin", "/home/ada/venvs/a",
	})
	equal(t, "PATH", filepath.SplitList(tools.Path), []string{
		"/home/ada/src/app/.venv/bin", "/home/ada/venvs/a/bin", "/home/ada/.nvm/bin",
		"/home/ada/.local/share/fnm/node-versions/v20/installation/bin", "/home/ada/bin", "/usr/local/bin", "/usr/bin", "/bin",
	})
	if tools.Env["VIRTUAL_ENV"] != "/home/ada/venvs/a" {
		t.Errorf("variables: %v", tools.Env)
	}
}

func TestFindProgram(t *testing.T) {
	h := newHost(t, map[string]string{
		"/usr/bin/git": "\x7fELF", "/usr/bin/node": "\x7fELF",
		"/var/cache/x/node_modules/.bin/claude":                                        "->../@anthropic-ai/claude-code/cli.js",
		"/var/cache/x/node_modules/@anthropic-ai/claude-code/cli.js":                   "#!/usr/bin/env node\n",
		"/home/ada/.local/bin/native":                                                  "->/home/ada/.local/share/native/versions/2.1",
		"/home/ada/.local/share/native/versions/2.1":                                   "\x7fELF",
		"/home/ada/.local/bin/alone":                                                   "\x7fELF",
		"/home/ada/.opencode/bin/opencode":                                             "\x7fELF",
		"/home/ada/.nvm/versions/node/v20/bin/node":                                    "\x7fELF",
		"/home/ada/.nvm/versions/node/v20/etc/npmrc":                                   "token",
		"/home/ada/.nvm/versions/node/v20/bin/codex":                                   "->../lib/node_modules/@openai/codex/bin/codex.js",
		"/home/ada/.nvm/versions/node/v20/lib/node_modules/@openai/codex/bin/codex.js": "#!/usr/bin/env -S node --no-warnings\n",
		"/home/ada/.local/bin/aider":                                                   "->../share/pipx/venvs/aider/bin/aider",
		"/home/ada/.local/share/pipx/venvs/aider/bin/aider":                            "#!/home/ada/.local/share/pipx/venvs/aider/bin/python\n",
		"/home/ada/.local/share/pipx/venvs/aider/bin/python":                           "->/home/ada/.local/share/uv/python/c/bin/python3",
		"/home/ada/.local/share/pipx/venvs/aider/pyvenv.cfg":                           "x",
		"/home/ada/.local/share/uv/python/c/bin/python3":                               "\x7fELF",
		"/opt/ide/bin/agent":                                                           "\x7fELF",
	})
	nvm := "/home/ada/.nvm/versions/node/v20/bin"
	for _, c := range []struct {
		name, path, real, root string
		roots                  []string
	}{
		{"git", "/usr/bin", "/usr/bin/git", "", nil},
		{"claude", "/var/cache/x/node_modules/.bin:/usr/bin", "/var/cache/x/node_modules/@anthropic-ai/claude-code/cli.js",
			"/var/cache/x/node_modules", []string{"/var/cache/x/node_modules"}},
		{"claude", "/var/cache/x/node_modules/.bin:" + nvm, "/var/cache/x/node_modules/@anthropic-ai/claude-code/cli.js",
			"/var/cache/x/node_modules", []string{"/home/ada/.nvm", "/var/cache/x/node_modules"}},
		{"codex", nvm, "/home/ada/.nvm/versions/node/v20/lib/node_modules/@openai/codex/bin/codex.js",
			"/home/ada/.nvm/versions/node/v20/lib/node_modules", []string{"/home/ada/.nvm"}},
		{"native", "/home/ada/.local/bin", "/home/ada/.local/share/native/versions/2.1",
			"/home/ada/.local/share/native/versions", []string{"/home/ada/.local/share/native/versions"}},
		{"alone", "/home/ada/.local/bin", "/home/ada/.local/bin/alone", "/home/ada/.local/bin/alone", []string{"/home/ada/.local/bin/alone"}},
		{"opencode", "relative:/home/ada/.opencode/bin", "/home/ada/.opencode/bin/opencode", "/home/ada/.opencode", []string{"/home/ada/.opencode"}},
		{"aider", "/home/ada/.local/bin", "/home/ada/.local/share/pipx/venvs/aider/bin/aider",
			"/home/ada/.local/share/pipx", []string{"/home/ada/.local/share/pipx", "/home/ada/.local/share/uv/python"}},
		{"/opt/ide/bin/agent", "", "/opt/ide/bin/agent", "/opt/ide", []string{"/opt/ide"}},
	} {
		p, err := findOn(host(h), c.name, c.path, "/home/ada", nil)
		must(t, err)
		if p.Real != c.real || p.InstallRoot != c.root {
			t.Errorf("%s: %+v", c.name, p)
		}
		equal(t, c.name, p.Roots, c.roots)
	}
	p, err := findOn(host(h), "codex", nvm, "/home/ada", nil)
	must(t, err)
	equal(t, "masked", p.Masked, []string{"/home/ada/.nvm/versions/node/v20/etc/npmrc"})
	native, err := findOn(host(h), "native", "/home/ada/.local/bin", "/home/ada", nil)
	must(t, err)
	if got := native.Inside(native.Roots); got != native.Real {
		t.Errorf("starts %s, which is not visible", got)
	}
	if got := native.Inside(append(native.Roots, "/home/ada/.local/bin")); got != "/home/ada/.local/bin/native" {
		t.Errorf("starts %s", got)
	}
}

func TestFindProgramRefuses(t *testing.T) {
	h := newHost(t, map[string]string{
		"/tmp/claude": "\x7fELF", "/home/bob/bin/claude": "\x7fELF", "/home/ada/.ssh/claude": "\x7fELF", "/claude": "\x7fELF",
		"/data/agentbox/bin/claude": "\x7fELF", "/node_modules/x/claude": "\x7fELF", "/run/x/claude": "\x7fELF",
		"/home/ada/t/claude": "#!/usr/bin/env nonesuch\n", "/home/ada/u/claude": "#!/home/ada/u/claude\n",
	})
	for _, dir := range []string{
		"/tmp", "/home/bob/bin", "/home/ada/.ssh", "/", "/data/agentbox/bin", "/run/x", "/home/ada/t", "/home/ada/u",
	} {
		p, err := findOn(host(h), "claude", dir, "/home/ada", []string{"/data/agentbox"})
		var refused *InstallError
		if !errors.As(err, &refused) || refused.Hint() == "" || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %+v, %v", dir, p, err)
		}
	}
}

func TestFindProgramNotFound(t *testing.T) {
	h := newHost(t, map[string]string{"/usr/bin/data": "not executable", "/usr/bin/dir/x": "", "/usr/bin/loop": "->loop", "/usr/bin/ok": "\x7fELF"})
	for _, name := range []string{"", "none", "data", "dir", "loop", "./ok", "bin/ok", "../bin/ok", "/usr/bin/none", "."} {
		if p, err := findOn(host(h), name, "/usr/bin", "/home/ada", nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %+v, %v", name, p, err)
		}
	}
	if p, err := findOn(host(h), "ok", "usr/bin:.:", "/home/ada", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("found on a relative PATH: %+v, %v", p, err)
	}
}
