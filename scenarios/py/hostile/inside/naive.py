"""A Runtime API without any wall: the control of those who attack one.

It takes whatever looks like a request, keeps no state, and answers that it is fine. `Naive.seen` tells what it took.
"""

import re
import socket
import threading


class Naive:
    def __init__(self, request_id):
        self.request_id, self.seen, self.connections = request_id, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection = self.listener.accept()[0]
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.settimeout(20)
        data = b""
        try:
            while True:
                chunk = connection.recv(1 << 20)
                if not chunk:
                    return
                data += chunk
                if b"\n" not in data:
                    continue
                head, _, body = data.partition(b"\r\n\r\n") if b"\r\n\r\n" in data else (data, b"", b"")
                length = re.search(rb"content-length:\s*(\d+)", head, re.IGNORECASE)
                if length and len(body) < min(int(length[1]), 1 << 23):
                    continue
                if len(self.seen) < 32:
                    self.seen.append(data)
                data = b""
                self.answer(connection, head)
        except OSError:
            return

    def answer(self, connection, head):
        method = head.partition(b" ")[0]
        body = b'{"status":"OK"}'
        extra = b"Lambda-Extension-Identifier: 1\r\nLambda-Runtime-Aws-Request-Id: " + self.request_id.encode() + b"\r\n"
        status = b"202 Accepted" if method == b"POST" else b"200 OK"
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body)
