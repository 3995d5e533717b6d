"""Attempts on the network: out of the sandbox's own loopback there is no way, and on it nothing is to be stolen."""

import errno
import fcntl
import os
import socket
import struct

from attempts import case, loopback_up

AREA = "network"
NOBODY = (errno.ECONNREFUSED, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENETUNREACH)
FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
# Taken: somebody else has it, and keeps it.
TAKEN = (errno.EADDRINUSE,)

# Kept open until the control ends.
LISTENERS = []


def prepare_control(facts):
    """The host's services again, in the control's own network, where nothing stands between."""
    for family, port in ((socket.AF_INET, facts["tcp_port"]), (socket.AF_INET6, facts["tcp6_port"])):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", port))
        listener.listen()
        LISTENERS.append(listener)
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind(("127.0.0.1", facts["udp_port"]))
    LISTENERS.append(echo)
    if os.fork() == 0:
        data, peer = echo.recvfrom(64)
        echo.sendto(data, peer)
        os._exit(0)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + facts["abstract"])
    abstract.listen()
    LISTENERS.append(abstract)
    facts["unix_path"] = facts["tmp"] + "/socket"
    named = socket.socket(socket.AF_UNIX)
    named.bind(facts["unix_path"])
    named.listen()
    LISTENERS.append(named)
    runtime = socket.socket()
    # What a careless listener would allow.
    runtime.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    runtime.bind(("127.0.0.1", 9001))
    runtime.listen()
    LISTENERS.append(runtime)
    serve_anybody(facts["server_port"])
    with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
        file.write("0 2147483647")


def serve_anybody(port):
    """A server that asks nobody who it is."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    LISTENERS.append(listener)
    if os.fork() == 0:
        while True:
            own, _ = listener.accept()
            own.recv(65536)
            own.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            own.close()


def manages(facts, request):
    """Whether the server at its own port takes a management call as it stands. It is reached here, and asks who calls."""
    with socket.socket() as own:
        own.settimeout(5)
        own.connect(("127.0.0.1", facts["server_port"]))
        own.sendall(request.replace(b"PORT", str(facts["server_port"]).encode()))
        answer = own.recv(65536)
    return answer.startswith(b"HTTP/1.1 200"), answer[:80].decode(errors="replace")


def connects(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as own:
        own.settimeout(2)
        own.connect(address)
    return True


@case(AREA, "connect to a service on the host's loopback", also=NOBODY)
def _(facts):
    return connects(socket.AF_INET, ("127.0.0.1", facts["tcp_port"]))


@case(AREA, "connect to a service on the host's loopback by IPv6", also=NOBODY)
def _(facts):
    return connects(socket.AF_INET6, ("::1", facts["tcp6_port"]))


@case(AREA, "manage the server without a signature")
def _(facts):
    return manages(facts, b"GET /2015-03-31/functions/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n")


@case(AREA, "manage the server with a signature of nobody's")
def _(facts):
    scope = b"AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/lambda/aws4_request"
    return manages(facts, b"GET /2015-03-31/functions/ HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX-Amz-Date: 20260101T000000Z\r\n"
                   b"Authorization: AWS4-HMAC-SHA256 Credential=" + scope + b", SignedHeaders=host;x-amz-date, Signature="
                   + b"0" * 64 + b"\r\n\r\n")


@case(AREA, "reach a datagram service on the host's loopback", also=NOBODY)
def _(facts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(2)
        own.connect(("127.0.0.1", facts["udp_port"]))
        own.send(b"hello")
        return own.recv(64) == b"hello"


@case(AREA, "connect to an abstract socket of the host", also=NOBODY)
def _(facts):
    return connects(socket.AF_UNIX, "\0" + facts["abstract"])


@case(AREA, "connect to a named socket of the host", also=NOBODY)
def _(facts):
    return connects(socket.AF_UNIX, facts["unix_path"])


@case(AREA, "find a neighbour's Runtime API", seconds=30)
def _(facts):
    """Everybody's is at the same address: a second listener on this loopback would be somebody else's."""
    found = []
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        for port in range(1, 65536):
            if host != "127.0.0.1" and not 8990 <= port <= 9100:
                continue
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as own:
                # A port may connect to itself by chance; then its two ends are the same.
                if own.connect_ex((host, port)) == 0 and own.getsockname() != own.getpeername():
                    found.append((host, port))
    own = (("127.0.0.1", 9001), ("127.0.0.1", facts["server_port"]))
    return any(f not in own for f in found), found


@case(AREA, "see the host's sockets in /proc")
def _(facts):
    wanted = f":{facts['tcp_port']:04X} "
    with open("/proc/net/tcp") as file:
        lines = file.read().splitlines()
    return any(wanted in line for line in lines), f"{len(lines)} lines"


@case(AREA, "open a raw socket", also=FAMILY)
def _(facts):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return True


@case(AREA, "see packets before anybody does", also=FAMILY)
def _(facts):
    socket.socket(17, socket.SOCK_RAW, socket.htons(3)).close()
    return True


@case(AREA, "send a ping", also=FAMILY)
def _(facts):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    return True


@case(AREA, "give itself another address")
def _(facts):
    """RTM_NEWADDR of an address for documentation, on loopback."""
    index = socket.if_nametoindex("lo")
    attribute = struct.pack("HH4s", 8, 2, socket.inet_aton("192.0.2.77"))
    body = struct.pack("BBBBI", socket.AF_INET, 32, 0, 0, index) + attribute
    return netlink(20, body)


@case(AREA, "make another interface")
def _(facts):
    """RTM_NEWLINK of a pair of virtual ones."""
    kind = struct.pack("HH4s", 8, 1, b"veth")
    attribute = struct.pack("HH", 4 + len(kind), 18) + kind
    return netlink(16, struct.pack("BBHiII", 0, 0, 0, 0, 0, 0) + attribute)


def netlink(kind, body):
    """True if the kernel acknowledged the request; raises what it answered else."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as own:
        own.settimeout(5)
        # NLM_F_REQUEST, ACK, CREATE, EXCL
        own.send(struct.pack("IHHII", 16 + len(body), kind, 0x1 | 0x4 | 0x400 | 0x200, 1, 0) + body)
        answer = own.recv(4096)
    code = struct.unpack("i", answer[16:20])[0]
    if code:
        raise OSError(-code, os.strerror(-code))
    return True


@case(AREA, "take its loopback down", also=(errno.ENOTTY,))
def _(facts):
    try:
        with socket.socket() as own:
            fcntl.ioctl(own, 0x8914, struct.pack("16sH14x", b"lo", 0x8))
        return True
    finally:
        if facts.get("control"):
            loopback_up()


@case(AREA, "listen where the resolver will be")
def _(facts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 53))
    return True


@case(AREA, "share the Runtime API's port", also=TAKEN)
def _(facts):
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("127.0.0.1", 9001))
        own.listen()
    return True


@case(AREA, "share the endpoint's port", also=TAKEN)
def _(facts):
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("127.0.0.1", facts["server_port"]))
        own.listen()
    return True


@case(AREA, "mark its packets for the host's routing", also=(errno.ENOPROTOOPT,))
def _(facts):
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, 36, 1)
    return True


# Nothing is sent to any of these, not even by a control: inside there is no route, and that is what is asserted.

NO_ROUTE = "nothing is ever sent there, not even by a control"


def nowhere(family, address):
    """True unless the connection failed at once for want of a route."""
    with socket.socket(family) as own:
        own.settimeout(2)
        own.connect((address, 80))
    return True


@case(AREA, "reach the metadata address", refused=(errno.ENETUNREACH,), no_control=NO_ROUTE)
def _(facts):
    return nowhere(socket.AF_INET, "169.254.169.254")


@case(AREA, "reach the metadata address by IPv6", refused=(errno.ENETUNREACH, errno.EADDRNOTAVAIL), no_control=NO_ROUTE)
def _(facts):
    return nowhere(socket.AF_INET6, "fd00:ec2::254")


@case(AREA, "reach a private range", refused=(errno.ENETUNREACH,), no_control=NO_ROUTE)
def _(facts):
    for address in ("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"):
        try:
            return nowhere(socket.AF_INET, address)
        except OSError as error:
            if error.errno != errno.ENETUNREACH:
                raise
    return False


@case(AREA, "reach any other address", refused=(errno.ENETUNREACH,), no_control=NO_ROUTE)
def _(facts):
    # An address for documentation.
    return nowhere(socket.AF_INET, "192.0.2.1")
