//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// freePort is a port that nobody listens on. The proxies that are not ours take a number only.
func freePort() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// find looks a program up where Debian puts those of administrators too.
func find(name, install string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (Debian: %s)", name, install)
}

func (b *bench) signedByOther() (string, error) {
	pem, err := os.ReadFile(filepath.Join(b.work, otherCA))
	if err != nil {
		return "", err
	}
	at := strings.Index(string(pem), "-----BEGIN CERTIFICATE")
	return string(pem[at:]), nil
}

// other tells where a proxy that is not ours serves, once it does.
func (b *bench) other(c *child, port string, err error) (*child, error) {
	if err != nil {
		return nil, err
	}
	c.place.Addr = net.JoinHostPort("127.0.0.1", port)
	c.place.CA, err = b.signedByOther()
	return c, err
}

// mitmScript has answers passed on as they come. Otherwise mitmproxy keeps each whole, and a stream for ever.
const mitmScript = `def responseheaders(flow):
    flow.response.stream = True
`

// mitmproxy opens every tunnel, writes nothing to the terminal and keeps no flow.
func (b *bench) mitmproxy(ctx context.Context) (*child, error) {
	program, err := find("mitmdump", "mitmproxy")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(b.work, "mitmproxy")
	pem, err1 := os.ReadFile(filepath.Join(b.work, otherCA))
	port, err2 := freePort()
	if err := errors.Join(err1, err2, os.Mkdir(conf, 0o700), write(conf, "mitmproxy-ca.pem", pem), write(conf, "stream.py", []byte(mitmScript))); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "--listen-host", "127.0.0.1", "--listen-port", port, "--flow-detail", "0", "-s", filepath.Join(conf, "stream.py"),
		"--set", "confdir="+conf, "--set", "ssl_verify_upstream_trusted_ca="+filepath.Join(b.work, serverCA))
	cmd.Env = append(os.Environ(), "PYTHONUNBUFFERED=1")
	c, err := b.until(cmd, "server listening at")
	return b.other(c, port, err)
}

const squidConf = `http_port 127.0.0.1:%[1]s ssl-bump tls-cert=%[2]s/other-ca.pem generate-host-certificates=on dynamic_cert_mem_cache_size=16MB
sslcrtd_program %[3]s -s %[2]s/squid-certs -M 16MB
sslcrtd_children 4 startup=1
ssl_bump bump all
tls_outgoing_options cafile=%[2]s/server-ca.pem
http_access allow all
cache deny all
cache_mem 8 MB
access_log none
cache_store_log none
cache_log %[2]s/squid.log
pid_filename %[2]s/squid.pid
coredump_dir %[2]s
hosts_file /etc/hosts
dns_nameservers 127.0.0.1
max_filedescriptors 8192
shutdown_lifetime 0 seconds
`

// squid opens every tunnel, caches nothing and writes no access log. It looks localhost up in /etc/hosts.
func (b *bench) squid(ctx context.Context) (*child, error) {
	program, err := find("squid", "squid-openssl")
	if err != nil {
		return nil, err
	}
	certgen := "/usr/lib/squid/security_file_certgen"
	if _, err := os.Stat(certgen); err != nil {
		return nil, errors.New("this squid has no ssl-bump (Debian: squid-openssl)")
	}
	if out, err := exec.CommandContext(ctx, certgen, "-c", "-s", filepath.Join(b.work, "squid-certs"), "-M", "16MB").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making squid's store of certificates: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := write(b.work, "squid.conf", fmt.Appendf(nil, squidConf, port, b.work, certgen)); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-N", "-d", "1", "-f", filepath.Join(b.work, "squid.conf"))
	c, err := b.until(cmd, "Accepting SSL bumped HTTP Socket connections")
	return b.other(c, port, err)
}

// srtScript runs srt's HTTP proxy by itself, as its sandbox does: every host allowed, tunnels passed on as they are, or
// opened when there is an authority to sign with.
const srtScript = `import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
const [root, ca, key] = process.argv.slice(2);
const load = name => import(pathToFileURL(join(root, 'dist', 'sandbox', name)).href);
const { createHttpProxyServer } = await load('http-proxy.js');
const options = { filter: async () => true };
if (ca) {
  const { createMitmCA } = await load('mitm-ca.js');
  options.mitmCA = createMitmCA({ caCertPem: readFileSync(ca, 'utf8'), caKeyPem: readFileSync(key, 'utf8') });
  options.filterRequest = async () => ({ action: 'allow' });
}
const server = createHttpProxyServer(options);
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ Addr: '127.0.0.1:' + server.address().port })));
process.stdin.resume().on('end', () => process.exit(0));
`

// srtProxy gives srt's proxy; opened says that it opens tunnels.
func (b *bench) srtProxy(opened bool) func(context.Context) (*child, error) {
	return func(ctx context.Context) (*child, error) {
		if b.srt == "" {
			return nil, errors.New("srt's package is not installed (npm: @anthropic-ai/sandbox-runtime)")
		}
		node, err := find("node", "nodejs")
		if err != nil {
			return nil, err
		}
		script := filepath.Join(b.work, "srt.mjs")
		if err := write(b.work, "srt.mjs", []byte(srtScript)); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, node, script, b.srt)
		if opened {
			if err := b.splitOther(); err != nil {
				return nil, err
			}
			cmd.Args = append(cmd.Args, filepath.Join(b.work, "srt-ca.pem"), filepath.Join(b.work, "srt-key.pem"))
		}
		cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+filepath.Join(b.work, serverCA))
		c, err := b.greet(cmd, "srt's proxy")
		if err == nil && opened {
			c.place.CA, err = b.signedByOther()
		}
		return c, err
	}
}

// splitOther writes the certificate and the key of the others' authority apart.
func (b *bench) splitOther() error {
	both, err := os.ReadFile(filepath.Join(b.work, otherCA))
	if err != nil {
		return err
	}
	at := strings.Index(string(both), "-----BEGIN CERTIFICATE")
	return errors.Join(write(b.work, "srt-ca.pem", both[at:]), write(b.work, "srt-key.pem", both[:at]))
}
