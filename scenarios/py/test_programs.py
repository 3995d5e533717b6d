"""Ordinary programs work inside, and the system calls that are reachable from there are counted."""

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clients
import flint
import seccomp

HERE = Path(__file__).parent / "programs"
PACKAGES = ("numpy==2.2.6", "pillow==11.3.0", "pypdf==6.1.1")
ESBUILD = "esbuild@0.25.10"
#: The kernel lets these two by whatever a filter says: its own probes call them. From anywhere else they answer an error
#: or end the process.
UNFILTERED = {335: "uretprobe", 336: "uprobe"}
#: Above every number that this generation of kernels has.
NUMBERS = 600


def wheels(version):
    def install(directory):
        clients.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(directory),
                     "--python-version", version, "--only-binary=:all:", "--platform", "manylinux2014_x86_64",
                     "--platform", "manylinux_2_28_x86_64", *PACKAGES], directory)
    found = clients.tree(clients.cached(f"ordinary-{version}", install))
    return {n: c for n, c in found.items() if "/tests/" not in n and not n.startswith("bin/")}


def esbuild():
    """A program that was written in Go, from npm."""
    def install(directory):
        clients.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory), ESBUILD],
                    directory)
    if not shutil.which("npm"):
        clients.lacks("esbuild needs npm")
    [binary] = clients.cached("esbuild", install).glob("node_modules/@esbuild/*/bin/esbuild")
    return binary.read_bytes()


@pytest.fixture(scope="module")
def told(shared, functions):
    """{program: None or what went wrong}, of all programs."""
    for needed in ("java", "git", "cc", "perl", "openssl"):
        if not Path("/usr/bin", needed).exists():
            clients.lacks(f"/usr/bin/{needed} is missing")
    files = {
        "ordinary.py": (HERE / "ordinary.py").read_text(), "esbuild!": esbuild(),
        "ordinary!": Path(flint.BINARY).with_name("ordinary").read_bytes(),
        **wheels(shared.python().removeprefix("python")),
    }
    # Above the limit of a package in a request: the wheels go into a layer.
    own = {name: files.pop(name) for name in ("ordinary.py", "ordinary!")}
    name = "ordinary-" + secrets.token_hex(4)
    layer = functions.publish_layer_version(
        LayerName=name, Content={"ZipFile": flint.zipped({f"python/{n}": c for n, c in files.items() if n != "esbuild!"})})
    shared.create(functions, name, {**own, "esbuild!": files["esbuild!"]}, handler="ordinary.handler", Timeout=120, MemorySize=768,
                  Layers=[layer["LayerVersionArn"]])
    answer = flint.invoke(shared.client("lambda", timeout=150), name, {"memory": 768})
    assert answer.error is None, answer
    found = answer.json

    node = "ordinary-" + secrets.token_hex(4)
    runtime = next(r["Identifier"] for r in shared.runtimes() if r["Identifier"].startswith("nodejs"))
    shared.create(functions, node, {"ordinary.js": (HERE / "ordinary.js").read_text()}, handler="ordinary.handler", Runtime=runtime,
                  Timeout=60, MemorySize=512)
    answer = flint.invoke(functions, node, {"memory": 512})
    assert answer.error is None, answer
    return {**found, **answer.json}


def test_ordinary_programs_work(told):
    failed = {name: problem for name, problem in told.items() if problem}
    assert not failed, "\n".join(f"{name}: {problem}" for name, problem in failed.items())
    assert len(told) >= 25
    flint.figure("ordinary_programs", len(told))


@pytest.fixture(scope="module")
def reach(shared, functions):
    """(what came of each number inside, the filters of that very process)."""
    name = "reach-" + secrets.token_hex(4)
    shared.create(functions, name, {"reach.py": (HERE / "reach.py").read_text()}, handler="reach.handler", Timeout=60, MemorySize=256)
    found = flint.invoke(functions, name, {"numbers": NUMBERS})
    assert found.error is None, found
    own = [pid for pid in shared.host().processes() if b"reach" in Path(f"/proc/{pid}/environ").read_bytes()]
    assert own, "the environment lives on"
    # From a process of its own: whoever traces must wait for what it traces, and pytest has threads.
    code = "import seccomp, json, sys; print(json.dumps(seccomp.programs(int(sys.argv[1]))))"
    done = subprocess.run([sys.executable, "-c", code, str(own[0])], cwd=Path(__file__).parent, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return found.json, json.loads(done.stdout)


def test_reachable_system_calls_are_counted(reach):
    """By the program that the kernel has in force for the function, followed for every number and all arguments."""
    _, [program] = reach
    numbers = [*range(1024), *(0x40000000 | n for n in range(1024))]
    open_to = [n for n in numbers if seccomp.reached(seccomp.outcomes(program, n))]
    assert not [n for n in open_to if n >= NUMBERS], "a number that nothing has tried"
    open_to += [n for n in UNFILTERED if n not in open_to]
    flint.figure("reachable_system_calls", len(open_to))
    assert 60 <= len(open_to) <= 150, len(open_to)
    for arch in (0x40000003, 0xC00000B7):
        assert {a for n in numbers for a in seccomp.outcomes(program, n, arch)} == {seccomp.KILL}


def test_what_is_refused_is_refused_by_the_filter(reach):
    """What came of each number when it was really called agrees with the program."""
    found, [program] = reach
    wrong = {}
    for number in range(NUMBERS):
        actions, came = seccomp.outcomes(program, number), found["found"][str(number)]
        if not seccomp.reached(actions):
            errors = {a & 0xFFFF for a in actions}
            good = came[0] == "answer" and came[1] in (0, -1) and came[2] in errors and (came[1] == 0) == (came[2] == 0)
            good = good or (number in UNFILTERED and came in (["signal", 4], ["answer", -1, 6]))
        elif actions == {seccomp.ALLOW}:
            # It was the kernel that answered, in whatever way: but never that there is no such call.
            good = came[0] != "answer" or came[2] != 38
        else:
            good = came[0] == "answer"
        if not good:
            wrong[number] = (came, [hex(a) for a in actions])
    assert not wrong, wrong
    assert found["x32"] == ["answer", -1, 38]
    assert found["old table"] == 31, "SIGSYS"
