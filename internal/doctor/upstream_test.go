package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/profiles"
)

const corporate = `[upstream]
proxy = "http://proxy.corp.example:3128"
proxy_user = "ann"
proxy_password = { env = "CORP" }
[[upstream.client_certificate]]
hosts = ["api.corp.example", "b.corp.example"]
cert = "~/ann.pem"
key = "~/ann.key"
`

func TestTheUpstreamProxyAndClientCertificates(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		spoil  func(*box, string)
		want   []string // a part of each finding, as "status detail fix"
	}{
		"nothing is said": {"", nil, nil},
		"well":            {corporate, nil, []string{"info http://proxy.corp.example:3128; it resolves names, so that addresses are not checked here; as ann ", "info /home/ann/ann.pem for api.corp.example, b.corp.example"}},
		"it does not resolve": {`[upstream]
proxy = "socks5://p:1"`, nil, []string{"info socks5://p:1 "}},
		"no password": {corporate, func(b *box, _ string) { delete(b.env, "CORP") }, []string{"warn http://proxy.corp.example:3128; it resolves names, so that addresses are not checked here; as ann; its password is not set in $CORP export CORP=", "info"}},
		"an open key": {corporate, func(_ *box, home string) { _ = os.Chmod(filepath.Join(home, "ann.key"), 0o644) }, []string{"info", "fail /home/ann/ann.key can be read by others (mode 644) chmod 600 /home/ann/ann.key"}},
		"no key":      {corporate, func(_ *box, home string) { _ = os.Remove(filepath.Join(home, "ann.key")) }, []string{"info", "fail /home/ann/ann.key cannot be read"}},
		"no file":     {corporate, func(_ *box, home string) { _ = os.Remove(filepath.Join(home, "ann.pem")) }, []string{"info", "fail /home/ann/ann.pem cannot be read"}},
		"a mistake":   {"[upstream]\nproxy = \"ann:s3cret@p\"\n", nil, []string{"fail config.toml:2:9: the URL of a proxy holds a name or a password correct it"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := healthy(t)
			home := filepath.Join(b.Root, "home/ann")
			b.env["HOME"], b.env["CORP"] = "/home/ann", "s3cret"
			if err := os.MkdirAll(home, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"ann.pem", "ann.key"} {
				if err := os.WriteFile(filepath.Join(home, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b.Upstream = func() (profiles.Upstream, error) {
				config, err := profiles.LoadConfig([]byte(c.config), "config.toml")
				return config.Upstream, err
			}
			if c.spoil != nil {
				c.spoil(b, home)
			}
			var got []string
			for _, f := range b.upstream() {
				got = append(got, string(f.Status)+" "+f.Detail+" "+f.Fix)
			}
			if len(got) != len(c.want) || strings.Contains(strings.Join(got, ""), "s3cret") {
				t.Fatalf("got %q", got)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
	if b := healthy(t); b.upstream() != nil {
		t.Error("something is said of a machine that has no configuration")
	}
}
