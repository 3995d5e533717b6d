"""Files: the host's, the platform's and other functions' stay out of reach."""

import os
import secrets
from pathlib import Path

import pytest

import arena as arenas
import attempts
import files  # noqa: F401 - registers its cases
from flint import invoke

NEIGHBOUR = "def handler(event, context):\n    open('/tmp/neighbour', 'w').write(event)\n    return 1\n"


@pytest.fixture(scope="module")
def results(arena, tmp_path_factory):
    folder = tmp_path_factory.mktemp("secret")
    for parent in (folder, *folder.parents):
        if str(parent).startswith("/tmp/"):
            os.chmod(parent, 0o755)
    secret, text = folder / "secret", secrets.token_hex(16)
    secret.write_text(text)
    machine = next((Path(p).read_text() for p in ("/etc/machine-id", "/var/lib/dbus/machine-id") if Path(p).exists()), "")
    facts = {
        "secret_path": str(secret), "secret": text, "machine_id": machine, "neighbour_text": secrets.token_hex(16),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "data_name": Path(arena.server.data).name,
    }
    with arenas.Cage(64 << 20) as foreign, arena.function({"handler.py": NEIGHBOUR}) as neighbour:
        facts["foreign_cgroup"] = foreign.name
        assert invoke(arena.client, neighbour.name, facts["neighbour_text"]).json == 1
        return arenas.compare(arena, "files", facts)


@pytest.mark.parametrize("one", attempts.of_area("files"), ids=lambda one: one.name)
def test_files(one, results, settled):
    arenas.check(one, results)
