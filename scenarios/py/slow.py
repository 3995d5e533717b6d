"""Slow clients: `slow.py HOST PORT COUNT SECONDS KEY` holds COUNT connections of every kind of slowness, a step a second.

A process of its own, so that it does not take the time of the test that measures good calls beside it. Prints how many
connections the server had closed at the end, by kind, as JSON.
"""

import json
import selectors
import socket
import sys
import time

import frames

HEAD = b"GET /_flint/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
# Shaped like a signature with a key that exists, so that the body is waited for.
SIGNED = (b"POST /2015-03-31/functions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n"
          b"X-Amz-Date: 20261121T090000Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261121/us-east-1/lambda/"
          b"aws4_request, SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64 + b"\r\n\r\n")

# What is sent at once, and what each second after.
KINDS = {
    "silent": (b"", b""),
    "drips a head": (HEAD, b"X-A: b\r\n"),
    "drips letters": (b"G", b"E"),
    "drips a body": (SIGNED, b"{"),
    "stops in a body": (SIGNED + b"{", b""),
    "never reads": (HEAD + b"\r\n", HEAD + b"\r\n"),
    "half a preface": (frames.PREFACE[:10], b""),
    "preface alone": (frames.PREFACE + frames.settings(), b""),
    "half a block": (frames.PREFACE + frames.settings() + frames.frame(frames.HEADERS, 1, 1, frames.fields(*frames.health())),
                     b""),
    "zero window": (frames.PREFACE + frames.settings(window=0) + frames.get(1), b""),
}


def main():
    host, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    key = sys.argv[5].encode()
    kinds = list(KINDS)
    closed = dict.fromkeys(kinds, 0)
    open_ones = {}
    selector = selectors.DefaultSelector()
    for n in range(count):
        kind = kinds[n % len(kinds)]
        one = socket.create_connection((host, port), timeout=10)
        one.sendall(KINDS[kind][0].replace(b"AKIAIOSFODNN7EXAMPLE", key))
        one.setblocking(False)
        open_ones[one] = kind
        if kind != "never reads":
            selector.register(one, selectors.EVENT_READ)
    print("open", flush=True)
    deadline = time.monotonic() + seconds

    def gone(one):
        closed[open_ones.pop(one)] += 1
        try:
            selector.unregister(one)
        except KeyError:
            pass
        one.close()

    while (left := deadline - time.monotonic()) > 0:
        step = time.monotonic() + min(1, left)
        while (wait := step - time.monotonic()) > 0:
            for key, _ in selector.select(wait):
                try:
                    if not key.fileobj.recv(65536):
                        gone(key.fileobj)
                except BlockingIOError:
                    pass
                except OSError:
                    gone(key.fileobj)
        for one, kind in list(open_ones.items()):
            try:
                if KINDS[kind][1]:
                    one.send(KINDS[kind][1])
            except BlockingIOError:
                pass
            except OSError:
                gone(one)
    print(json.dumps(closed))


if __name__ == "__main__":
    main()
