package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// strangeHost is passed through unopened, to a server whose certificate nobody inside trusts.
const strangeHost = "strange.example.com"

// trusting is a program that fetches a page: command holds HOST, and prints what it got.
type trusting struct {
	name, command string
	fetched       bool // TestHTTPClients has it fetch a page, so it is only to refuse here
}

// trustingPrograms are one for each way to find roots. All are unmodified, and none is told more than the environment
// and the files say to everybody.
func trustingPrograms() []trusting {
	const get = `'GET /a HTTP/1.0\r\nHost: HOST\r\n\r\n'`
	return []trusting{
		{name: "curl", command: "curl -sS https://HOST/a", fetched: true},
		{name: "wget", command: "wget -q -O - https://HOST/a", fetched: true},
		{name: "OpenSSL, a directory", command: "printf " + get + " | openssl s_client -quiet -no-CAfile -no-CAstore -CApath /etc/ssl/certs -verify_return_error -connect HOST:443 -servername HOST"},
		{name: "OpenSSL, no variables", command: "printf " + get + " | env -i PATH=$PATH openssl s_client -quiet -verify_return_error -connect HOST:443 -servername HOST"},
		{name: "GnuTLS", command: "printf " + get + " | gnutls-cli -p 443 HOST"},
		{name: "NSS", command: "tstclnt -Q -h HOST -p 443 -d sql:$HOME/.pki/nssdb && echo hello /a"},
		{name: "Python requests", command: `python3 -c 'import requests; print(requests.get("https://HOST/a").text)'`, fetched: true},
		{name: "Ruby", command: `ruby -ropen-uri -e 'print URI.open("https://HOST/a").read'`},
		{name: "PHP", command: `php -r 'echo file_get_contents("https://HOST/a");'`},
		{name: "Perl LWP", command: `perl -MLWP::UserAgent -e '$r = LWP::UserAgent->new(env_proxy => 1)->get("https://HOST/a"); die $r->as_string if !$r->is_success; print $r->content'`},
		{name: "Perl HTTP::Tiny", command: `perl -MHTTP::Tiny -e '$r = HTTP::Tiny->new(verify_SSL => 1)->get("https://HOST/a"); die $r->{content} if !$r->{success}; print $r->{content}'`},
		{name: "Erlang", command: `erl -noinput -eval 'application:ensure_all_started(ssl), application:ensure_all_started(inets), {ok, {_, _, B}} = httpc:request(get, ` +
			`{"https://HOST/a", []}, [{ssl, [{verify, verify_peer}, {cacerts, public_key:cacerts_get()}]}], [{body_format, binary}]), io:put_chars(B), halt(0).'`},
		{name: "Guile", command: `guile -c '(use-modules (web client) (ice-9 receive)) (receive (response body) (http-get "https://HOST/a") (display body))'`},
		{name: "Java", command: "java -XX:TieredStopAtLevel=1 Fetch.java https://HOST/a", fetched: true},
		{name: "Node", command: `node -e 'fetch("https://HOST/a").then(r => r.text()).then(t => process.stdout.write(t))'`, fetched: true},
		{name: "Deno", command: `DENO_DIR=/tmp/deno node_modules/@deno/linux-x64-glibc/deno eval 'console.log(await (await fetch("https://HOST/a")).text())'`},
		{name: "Bun", command: `node_modules/@oven/bun-linux-x64/bin/bun -e 'console.log(await (await fetch("https://HOST/a")).text())'`},
	}
}

// Every program trusts the run's authority, each by the store that it reads, and still trusts nobody else: the same
// command on the same box gets nothing from a server with a certificate of another authority.
func TestTrustStores(t *testing.T) {
	w := newTown(t, map[string]http.Handler{secureHost: http.HandlerFunc(hello), strangeHost: http.HandlerFunc(hello)})
	w.lets(allow(secureHost) + allow(strangeHost, "inspect = false"))
	w.program("Fetch.java")
	w.bring("@deno", "@oven")
	programs := trustingPrograms()
	programs = append(programs, trusting{name: "Go", command: w.ownClient("fetch") + " https://HOST/a"})
	fetching := slices.DeleteFunc(slices.Clone(programs), func(p trusting) bool { return p.fetched })
	for host, some := range map[string][]trusting{secureHost: fetching, strangeHost: programs} {
		said := w.eachSays(some, host)
		for i, p := range some {
			t.Run(p.name+" from "+host, func(t *testing.T) {
				if got := strings.Contains(said[i], "hello /a"); got != (host == secureHost) {
					t.Errorf("it says %.2000q", said[i])
				}
			})
		}
	}
	for _, v := range w.visits() {
		if v.host == strangeHost {
			t.Errorf("a program asked a server that it may not trust: %+v", v)
		}
	}
	if n := w.greetings(strangeHost); n < len(programs) {
		t.Errorf("%d programs came as far as the certificate of %s, of %d", n, strangeHost, len(programs))
	}
}

// greetings counts the TLS connections for a name.
func (w *town) greetings(host string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.named {
		if name == host {
			n++
		}
	}
	return n
}

// Without the store that it reads, a program refuses, and agentbox says why: what agentbox lays is what makes the others trust.
func TestProgramsWithoutTheirTrustStore(t *testing.T) {
	w := newTown(t, map[string]http.Handler{secureHost: http.HandlerFunc(hello)})
	w.lets(allow(secureHost))
	w.bring("@deno", "@oven")
	programs := []trusting{
		{name: "OpenSSL", command: "openssl s_client -no-CAfile -no-CAstore -no-CApath -verify_return_error -connect HOST:443 -servername HOST"},
		{name: "NSS", command: "mkdir /tmp/nss; certutil -N -d sql:/tmp/nss --empty-password; tstclnt -Q -h HOST -p 443 -d sql:/tmp/nss && echo hello /a"},
		{name: "Python", command: `python3 -c 'import ssl, urllib.request as u; print(u.urlopen("https://HOST/a", context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).read())'`},
		{name: "Deno", command: `DENO_DIR=/tmp/deno env -u DENO_CERT -u NODE_EXTRA_CA_CERTS node_modules/@deno/linux-x64-glibc/deno eval 'console.log(await (await fetch("https://HOST/a")).text())'`},
		{name: "Bun", command: `SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/nowhere env -u NODE_EXTRA_CA_CERTS node_modules/@oven/bun-linux-x64/bin/bun -e 'console.log(await (await fetch("https://HOST/a")).text())'`},
	}
	for i, said := range w.eachSays(programs, secureHost) {
		if strings.Contains(said, "hello /a") {
			t.Errorf("%s says %.2000q", programs[i].name, said)
		}
	}
	if v := w.visits(); len(v) > 0 {
		t.Errorf("a server was asked: %+v", v)
	}
	told := w.refusals()
	if len(told) != len(programs) || slices.ContainsFunc(told, func(r string) bool { return !strings.Contains(r, "docs/TRUST.md") }) {
		t.Errorf("agentbox tells %q, want for each of the programs that it may not trust the authority", told)
	}
}

// eachSays runs the programs one after the other in one run, and gives what each says.
func (w *town) eachSays(programs []trusting, host string) []string {
	w.t.Helper()
	var script strings.Builder
	script.WriteString("exec 2>&1; export ERL_CRASH_DUMP=/dev/null\n")
	for _, p := range programs {
		fmt.Fprintf(&script, "( %s ); echo \"(exit $?)\"; printf '\\036'\n", strings.ReplaceAll(p.command, "HOST", host))
	}
	said := strings.Split(w.run(script.String()).exits(0).out, "\x1e")
	if len(said) != len(programs)+1 {
		w.t.Fatalf("%d answers of %d programs:\n%q", len(said)-1, len(programs), said)
	}
	return said
}
