"""Opens HTTP/2 streams with headers that a well-behaved client would not send, one after the other on one connection
to a host through the proxy, and prints for each its status, or how it or the connection was ended.

Arguments: the authority of the CONNECT, "tls" or "plain", and a file of JSON, a list of streams: each a list of headers.
"""
import json
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events

authority, way, path = sys.argv[1:]


def connect():
    conn = socket.create_connection(("127.0.0.1", 3128), 30)
    conn.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += conn.recv(1)
    if way == "plain":
        return conn
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    conn = context.wrap_socket(conn, server_hostname=authority.split(":")[0])
    assert conn.selected_alpn_protocol() == "h2"
    return conn


class Session:
    def __init__(self):
        self.conn = connect()
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False,
                                           normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.conn.sendall(self.h2.data_to_send())

    def ask(self, headers):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers, end_stream=True)
        self.flush()
        said = None
        while True:
            data = self.conn.recv(65536)
            if not data:
                return "closed", False
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ConnectionTerminated):
                    return f"goaway:{int(event.error_code)}", False
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    said = dict(event.headers)[":status"]
                if isinstance(event, h2.events.StreamReset):
                    return said or f"reset:{int(event.error_code)}", True
                if isinstance(event, h2.events.StreamEnded):
                    self.flush()
                    return said, True
            self.flush()


session = Session()
for headers in json.load(open(path)):
    try:
        said, alive = session.ask([tuple(h) for h in headers])
    except (OSError, ssl.SSLError) as err:
        said, alive = type(err).__name__, False
    print(said, flush=True)
    if not alive:
        session = Session()
