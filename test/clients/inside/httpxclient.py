"""Fetches URLs with httpx, over HTTP/2 where the other side has it, and prints protocol, status and body."""
import sys

import httpx

with httpx.Client(http2=sys.argv[1] == "2") as client:
    for url in sys.argv[2:]:
        answer = client.get(url)
        print(answer.http_version, answer.status_code, answer.text, end="")
