package profiles

import (
	"fmt"
	"strings"
	"testing"
)

// crowded are profiles with as much as the format lets them have of what is compared with each other. Where a check took
// the product of it, the tests would not end.
func crowded() map[string]string {
	rules := numbered("", "[[network.rule]]\nhost='h%d.example.com'\naction='allow'\n", 25_000)
	oneHost := numbered("", "[[network.rule]]\nhost='*.example.com'\naction='deny'\npaths=['/p%d/**']\n", 25_000)
	credentials := func(env string) string {
		var b strings.Builder
		for i := range 256 {
			fmt.Fprintf(&b, "[[credential]]\nname='n%d'\nsource={keyring='k'}\nheader='x-%d: {token}'\n%shosts=[", i, i, strings.ReplaceAll(env, "#", fmt.Sprint(i)))
			for j := range 256 {
				fmt.Fprintf(&b, "'h%d.example.com',", (i*256+j)%25_000)
			}
			b.WriteString("]\n")
		}
		return b.String()
	}
	words := numbered("", "'a%d',", 256)
	servers := strings.ReplaceAll(numbered("", "[[mcp]]\nname='n%d'\ncommand=['x']\nallow=[#]\nask=[#]\ndeny=[#]\n", 200), "#", words)
	return map[string]string{
		"hosts of credentials, each with its rule":  rules + credentials("env='E#'\n"),
		"hosts of credentials, all under one rule":  oneHost + credentials("env='E#'\n"),
		"credentials that no file mentions":         rules + credentials("") + "[[agent.file]]\npath='~/x'\ncontent='" + strings.Repeat("{placeholder.n0}", 50_000) + "'\n",
		"patterns of variables":                     "agent.pass=[" + numbered("", "'P%d*',", 1000) + "]\n" + credentials("env='E#'\n"),
		"remotes":                                   oneHost + numbered("", "[[git]]\nremote='h%d.example.com/a/b'\n", 256),
		"tools":                                     servers,
		"files":                                     numbered("", "[[agent.file]]\npath='~/%d.json'\ncontent='{}'\n", 256),
		"rules that say the same":                   strings.Repeat("[[network.rule]]\nhost='a.example.com'\naction='allow'\n", 49_000),
		"rules under a denial":                      "[[network.rule]]\nhost='*.example.com'\naction='deny'\n" + rules,
		"rules with many methods, denied and asked": strings.Repeat("[[network.rule]]\nhost='a.example.com'\naction='deny'\nmethods=["+numbered("", "'M%d',", 100)+"]\npaths=['/a','/b']\n", 2000),
	}
}

func TestCrowdedProfilesAreCheckedQuickly(t *testing.T) {
	for what, text := range crowded() {
		t.Run(what, func(t *testing.T) {
			_, err := Parse("x", []byte("version=1\nagent.command=['x']\n"+text), "x.toml")
			if problems, ok := err.(Problems); err != nil && (!ok || problems[0].Code == "too-large" || problems[0].Code == "not-toml") {
				t.Error(err)
			}
		})
	}
}
