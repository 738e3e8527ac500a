package profiles

import (
	"encoding"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// scalarCases are, for each scalar, texts that it takes (some with the form that it gives them) and texts that it refuses.
func scalarCases() []scalarCase {
	return []scalarCase{
		scalar[Image]("image", same("localhost/ubuntu"+digest, "docker.io/library/ubuntu:24.04"+digest, "localhost:5000/a/b_c__d-e.f"+digest, "REGISTRY.test:1/x"+digest, "registry.test/a---b"+digest),
			"", "ubuntu", "ubuntu:24.04", "ubuntu@sha256:abc", "ubuntu"+digest, "library/ubuntu"+digest, "ubuntu:24.04"+digest, digest, "Ubuntu"+digest, "docker://ubuntu"+digest, "a b"+digest, "-x"+digest, "--privileged"+digest, "a//b"+digest, "a/../b"+digest,
			"ubuntu@sha512:"+strings.Repeat("a", 128), "ubuntu"+digest+"0", "ubuntu"+digest+"\n", "ubuntu"+strings.ToUpper(digest), strings.Repeat("a", 256)+digest, "user:pw@host/x"+digest),
		scalar[RepoPath]("repo path", same("Containerfile", "build/Containerfile", ".devcontainer/Dockerfile", ".github/x", "a..b/c", "gitx/.gitignore"),
			"", ".", "..", "/etc/passwd", "../x", "a/../../x", "a/../b", "./x", "a//b", "a/", "~/x", "~root/x", ".git", ".git/hooks/x", "sub/.GIT/config", "a\x00b", "a\nb"),
		scalar[HostPath]("host path", same("/etc/token", "~/.config/token", "~/..x"),
			"", "/", "~", "~/", "token", "./token", "~user/token", "/a/../b", "/a//b", "/a/", "~/../x", "~/..", "~/a/../b", "~//etc", "~/.", "/a\x00b", "/a\nb"),
		scalar[HomePath]("home path", same("~/.claude/projects", "~/x", "~/..x"),
			"", "/", "~", "~/", "x", "/etc/x", "~user/x", "~/../x", "~/..", "~/a/../b", "~//etc", "~/.", "~/a/", "~/a\x00b", "~/a\nb", "~/"+strings.Repeat("a", 200)),
		scalar[Cache]("cache", same(Caches()...), "", "NPM", "npm:rw", "npm:", ":ro", "npm:ro:ro", "ruby", "go", "../npm"),
		scalar[Method]("method", same("GET", "M-SEARCH", "PROPFIND", "X_1"), "", "get", "Get", "G T", "GET ", "CONNECT", "connect", "*", "1X", "GET\n", strings.Repeat("A", 33)),
		scalar[Remote]("remote", map[string]string{
			"github.com/acme/billing": "github.com/acme/billing", "GitHub.com/acme/Billing.git": "github.com/acme/Billing",
			"gitlab.example.com/a/b/c.d": "gitlab.example.com/a/b/c.d", "github.com/acme/.github": "github.com/acme/.github", "git.sr.ht/~me/x": "git.sr.ht/~me/x"},
			"", "github.com", "github.com/acme", "github.com/acme/", "github.com//x", "https://github.com/a/b", "git@github.com/a/b", "git@github.com:a/b", "github.com:443/a/b",
			"127.0.0.1/a/b", "localhost/a/b", "github.com/../b", "github.com/a/..", "github.com/a/.", "github.com/a/.git", "github.com/a/.git.git", "github.com/-a/b", "github.com/a/--upload-pack=x", "github.com/a/b c",
			"github.com/a/b?x", "github.com/a/b#x", "github.com/a/%2e%2e", "github.com/a\\b/c", "*.github.com/a/b", "github.com/*/b", "github.com/a/b\n", "github.com"+strings.Repeat("/a", 30)),
		scalar[RefPattern]("ref", same("refs/heads/main", "refs/heads/agentbox/*", "refs/heads/*/fix", "refs/*", "refs/tags/v1.0", "refs/heads/a-b*", "refs/heads/@"),
			"", "main", "heads/main", "refs", "refs/", "refs//x", "/refs/heads/x", "refs/heads/", "refs/heads/*/*", "refs/heads/.x", "refs/heads/x.lock", "refs/heads/x.lock/y", "refs/heads/a..b", "refs/heads/a b",
			"refs/heads/a~b", "refs/heads/a^b", "refs/heads/a:b", "refs/heads/a?b", "refs/heads/[a", "refs/heads/a\\b", "refs/heads/a@{b", "refs/heads/a.", "refs/heads/a\x7f", "+refs/heads/x", "refs/heads/a\nb", "refs/heads/"+strings.Repeat("a", 2000)),
		scalar[RepoName]("repository", same("acme/billing", "a/.github", "A-1/x.y_z"), "", "acme", "acme/", "/x", "a/b/c", "a/..", "-a/b", "a_b/c", "a/b c", "a/.git", "a*/b", strings.Repeat("a", 40)+"/b"),
		scalar[Permission]("permission", same("contents", "pull_requests"), "", "Contents", "pull-requests", "a b", "1", "_x"),
		scalar[Access]("access", same("read", "write"), "", "admin", "READ"),
		scalar[ToolPattern]("tool", same("read_file", "read_*", "*", "a.b/c-d", "*x*"), "", "a b", "read?", "a\x1b", strings.Repeat("a", 129), "[a]"),
		scalar[URL]("URL", same("https://collector.example.com", "https://c.test:4318/v1/x", "http://127.0.0.1:4318", "http://[::1]:4318/", "http://localhost:4318", "https://10.1.2.3:4318", "http://127.9.9.9"),
			"", "collector.example.com", "127.0.0.1:4318", "ftp://a.test", "file:///etc/passwd", "unix:///x", "http://collector.example.com", "http://10.0.0.1:4318", "http://127.0.0.1.evil.test", "http://localhost.evil.test", "http://127.0.0.1@evil.test", "https://user:pw@a.test",
			"https://user@a.test", "https://", "https:///x", "https://a.test:0", "https://a.test:", "https://a.test:99999", "https://a.test?key=1", "https://a.test?", "https://a.test#x", "https:a.test", "https://a b.test", "https://*.a.test", "https://single", "https://0.0.0.0", "https://a.test/\x00", "https://a.test/%zz", "https://a.test/\n", "http://0.0.0.0:4318", "http://[fe80::1%25eth0]:1", "HTTPS ://a.test"),
		scalar[Tier]("tier", same("low", "medium", "high", "critical"), "", "Low", "none", "hihg"),
		scalar[Rootfs]("rootfs", same("host"), "", "image", "/"),
		scalar[Action]("action", same("allow", "ask", "deny"), "", "Allow", "alow", "*"),
		scalar[Mode]("mode", same("review", "direct", "readonly"), "", "read-only", "rw"),
		scalar[Backend]("backend", same("overlay", "copy"), "", "overlayfs"),
		scalar[Runtime]("runtime", same("auto", "container", "gvisor", "microvm"), "", "runsc", "kata"),
		scalar[OnLimit]("on limit", same("ask", "stop"), "", "go on"),
		scalar[Scope]("scope", same("none", "session", "profile", "repo", "user"), "", "global"),
		scalar[Duration]("duration", map[string]string{"90s": "1m30s", "2h": "2h", "1h30m": "1h30m", "30d": "30d", "1d12h": "1d12h", "24h": "1d", "1.5h": "1h30m", "10ms": "10ms", "99999d": "99999d", "10m": "10m", "20h10m": "20h10m", "1d10s": "1d10s", "0d1s": "1s"},
			"", "1", "0s", "0d", "-2h", "-1d", "2 h", "1d-1h", "1.5d", "1h1d", "d", "forever", "99999d999999h", "999999d", "9999999h"),
		scalar[ByteSize]("bytes", map[string]string{"1B": "1B", "512MiB": "512MiB", "1.5GiB": "1536MiB", "2 GB": "2GB", "1KiB": "1KiB", "1KB": "1KB", "10MB": "10MB", "1024000B": "1024KB", "4TiB": "4TiB", "2048TiB": "2048TiB"},
			"", "1", "-1B", "1GiBs", "0B", "1e3B", "99999999999TiB", "GiB", "1gib", "NaNB", "0.5B"),
	}
}

type scalarCase struct {
	kind string
	// parse gives the value as a file would write it.
	parse func(text string) (string, error)
	good  map[string]string
	bad   []string
}

func scalar[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](kind string, good map[string]string, bad ...string) scalarCase {
	return scalarCase{kind: kind, good: good, bad: bad, parse: func(text string) (string, error) {
		var v T
		err := P(&v).UnmarshalText([]byte(text))
		return fmt.Sprint(v), err
	}}
}

func same(texts ...string) map[string]string {
	m := map[string]string{}
	for _, t := range texts {
		m[t] = t
	}
	return m
}

func TestEachScalarTakesWhatIsGoodAndNothingElse(t *testing.T) {
	for _, c := range scalarCases() {
		for text, want := range c.good {
			got, err := c.parse(text)
			if err != nil || got != want {
				t.Errorf("%s %q is %q, %v; want %q", c.kind, text, got, err, want)
			}
			if again, err := c.parse(got); err != nil || again != got {
				t.Errorf("%s %q, printed as %q, is read back as %q, %v", c.kind, text, got, again, err)
			}
		}
		for _, text := range c.bad {
			got, err := c.parse(text)
			if err == nil {
				t.Errorf("%s %q was taken", c.kind, text)
			} else if strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Errorf("%s %q: the error holds control characters: %q", c.kind, text, err)
			}
			if err != nil && strings.Trim(got, "0sB") != "" {
				t.Errorf("%s %q was refused and still set to %q", c.kind, text, got)
			}
		}
	}
}

func TestMoneyIsExact(t *testing.T) {
	for in, want := range map[float64]string{5: "5.00", 0.1: "0.10", 5.10: "5.10", 0.000001: "0.000001", 19.999999: "19.999999", 1e9: "1000000000.00", 0.29: "0.29", 1.005: "1.005"} {
		var m Money
		if err := m.unmarshalFloat(in); err != nil || m.String() != want {
			t.Errorf("%v is %s, %v", in, m, err)
		}
	}
	for _, in := range []float64{0, -1, -0.01, 0.0000001, 0.1234567, 1e10, 1e300, math.Inf(1), math.Inf(-1), math.NaN()} {
		if err := new(Money).unmarshalFloat(in); err == nil {
			t.Errorf("%v was taken", in)
		}
	}
	for _, in := range []int64{0, -1, math.MaxInt64, math.MinInt64, maxDollars + 1} {
		if err := new(Money).unmarshalInt(in); err == nil {
			t.Errorf("%d was taken", in)
		}
	}
	var m Money
	if err := m.unmarshalInt(20); err != nil || m != 20_000_000 {
		t.Errorf("20 is %d, %v", m, err)
	}
}

func TestCountIsPositive(t *testing.T) {
	for in, good := range map[int64]bool{1: true, math.MaxInt64: true, 0: false, -1: false} {
		var c Count
		if err := c.unmarshalInt(in); (err == nil) != good || good && int64(c) != in {
			t.Errorf("%d: %d, %v", in, c, err)
		}
	}
}

func TestTheHostOfARemote(t *testing.T) {
	var r Remote
	if err := r.UnmarshalText([]byte("GITHUB.com/a/b.git")); err != nil || r.Host().String() != "github.com" {
		t.Errorf("%q, %v", r.Host(), err)
	}
}

// Whatever a scalar takes is plain text, and is read back as it is printed.
func FuzzScalars(f *testing.F) {
	cases := scalarCases()
	for i, c := range cases {
		for text := range c.good {
			f.Add(i, text)
		}
		for _, text := range c.bad {
			f.Add(i, text)
		}
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		c := cases[uint(i)%uint(len(cases))] //nolint:gosec // any case will do
		got, err := c.parse(text)
		if err != nil {
			return
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			t.Errorf("%s %q was taken", c.kind, text)
		}
		if again, err := c.parse(got); err != nil || again != got {
			t.Errorf("%s %q, printed as %q, is read back as %q, %v", c.kind, text, got, again, err)
		}
	})
}

func FuzzMoney(f *testing.F) {
	for _, x := range []float64{5, 0.1, 5.10, 1e-6, 1e9, -1, math.NaN(), math.Inf(1), 0.1 + 0.2} {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, x float64) {
		var m, again Money
		if m.unmarshalFloat(x) != nil {
			return
		}
		back, err := strconv.ParseFloat(m.String(), 64)
		if err != nil || back != x || m <= 0 || again.unmarshalFloat(back) != nil || again != m {
			t.Errorf("%v is %d, printed as %s, and read back as %v, %d", x, m, m, back, again)
		}
	})
}
