"""Carries out attempts with raw sockets and prints a line for each: what became of its steps.

The first argument names a file of JSON, a list of attempts: "connect" is the authority of a CONNECT to the proxy,
"direct" a name to look up, with "port"; with neither the bytes go to the proxy itself. "tls" is the name in the TLS
greeting ("" is none); left out there is no TLS. "send" are the bytes, as Latin-1. A line has the status of the CONNECT,
whether TLS came about, and the status of each answer.
"""
import json
import re
import socket
import ssl
import sys
import time

PROXY = ("127.0.0.1", 3128)
WAIT = 30


def everything(conn):
    """Reads to the end, however the other side ends it."""
    data = b""
    try:
        while len(data) < 1 << 20:
            part = conn.recv(65536)
            if not part:
                return data
            data += part
    except (ConnectionError, ssl.SSLError, socket.timeout) as err:
        if isinstance(err, socket.timeout):
            data += b" HTTP/1.1 hung"
    return data


def open_way(attempt, said):
    """Opens the connection of an attempt; None when that is refused."""
    if "direct" in attempt:
        try:
            found = socket.getaddrinfo(attempt["direct"], attempt["port"], type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            said.append("no-name")
            return None
        try:
            return socket.create_connection(found[0][4][:2], WAIT)
        except OSError:
            said.append("no-listener")
            return None
    conn = socket.create_connection(PROXY, WAIT)
    if "connect" not in attempt:
        return conn
    authority = attempt["connect"].encode("latin-1")
    conn.sendall(b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        part = conn.recv(1)
        if not part:
            break
        head += part
    status = re.match(rb"HTTP/1\.1 (\d+)", head)
    said.append("CONNECT:" + (status.group(1).decode() if status else "closed"))
    if said[-1] != "CONNECT:200":
        return None
    return conn


def carry_out(attempt):
    said = []
    conn = open_way(attempt, said)
    if conn is None:
        return said
    conn.settimeout(WAIT)
    if "tls" in attempt:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if "alpn" in attempt:
            context.set_alpn_protocols(attempt["alpn"])
        try:
            conn = context.wrap_socket(conn, server_hostname=attempt["tls"] or None)
        except (OSError, ssl.SSLError):
            said.append("TLS:closed")
            return said
        said.append("TLS:ok")
    try:
        conn.sendall(attempt["send"].encode("latin-1"))
    except OSError:
        pass
    statuses = re.findall(rb"HTTP/1\.1 (\d+|hung)", everything(conn))
    said.append("HTTP:" + (",".join(s.decode() for s in statuses) or "closed"))
    return said


for one in json.load(open(sys.argv[1])):
    start = time.monotonic()
    print(" ".join(carry_out(one)), flush=True)
    if time.monotonic() - start > 10:
        print(f"{one} took {time.monotonic() - start:.0f} s", file=sys.stderr)
