"""The network: a function has its own loopback, its Runtime API and the way to the server's front on it, and nothing else."""

import os
import secrets
import socket
import threading

import pytest

import arena as arenas
import attempts
import network  # noqa: F401 - registers its cases


@pytest.fixture(scope="module")
def results(arena, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sockets")
    for parent in (folder, *folder.parents):
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp, socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(60)
        facts = {
            "tcp_port": tcp.getsockname()[1], "tcp6_port": tcp6.getsockname()[1], "udp_port": udp.getsockname()[1],
            "server_port": arena.server.address[1], "abstract": "hostile-" + secrets.token_hex(8),
            "unix_path": str(folder / "socket"),
        }
        abstract.bind("\0" + facts["abstract"])
        named.bind(facts["unix_path"])
        os.chmod(facts["unix_path"], 0o777)
        abstract.listen()
        named.listen()
        heard = []
        threading.Thread(target=echo, args=(udp, heard), daemon=True).start()
        results = arenas.compare(arena, "network", facts)
        assert not heard, "a datagram came out of the sandbox"
        return results


def echo(udp, heard):
    try:
        data, peer = udp.recvfrom(64)
    except OSError:
        return
    heard.append(data)
    udp.sendto(data, peer)


@pytest.mark.parametrize("one", attempts.of_area("network"), ids=lambda one: one.name)
def test_network(one, results, settled):
    arenas.check(one, results)
