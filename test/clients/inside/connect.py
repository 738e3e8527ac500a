"""Opens a CONNECT tunnel through the proxy to the authority that is given, and copies both ways, as nc -X does."""
import os
import socket
import sys
import threading

conn = socket.create_connection(("127.0.0.1", 3128))
conn.sendall(f"CONNECT {sys.argv[1]} HTTP/1.1\r\nHost: {sys.argv[1]}\r\n\r\n".encode())
head = b""
while b"\r\n\r\n" not in head:
    part = conn.recv(1)
    if not part:
        break
    head += part
if b" 200 " not in head.split(b"\r\n")[0]:
    sys.exit("connect: " + head.split(b"\r\n")[0].decode())


def up():
    while True:
        data = os.read(0, 65536)
        if not data:
            conn.shutdown(socket.SHUT_WR)
            return
        conn.sendall(data)


threading.Thread(target=up, daemon=True).start()
while True:
    data = conn.recv(65536)
    if not data:
        break
    os.write(1, data)
