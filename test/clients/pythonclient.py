#!/usr/bin/env python3
"""Fetches a URL and prints the body. It has no idea of proxies: an opener whose table of proxies is empty."""
import sys
import urllib.request


def main(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as answer:
        sys.stdout.buffer.write(answer.read())


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError as err:
        sys.exit(f"pythonclient: {err}")
