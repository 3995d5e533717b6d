"""Attempts on files: the host's, the platform's, other functions', and what `/proc` tells."""

import errno
import os
import stat
import struct
import subprocess
import time

from attempts import call, case, in_child

AREA = "files"
# A path that leads nowhere is a denial too; the control shows that the path is right.
NOWHERE = (errno.ENOENT, errno.ENOTDIR)


def prepare_control(facts):
    """Stand-ins for what a function finds, where the control has no such thing; all of it in its own namespaces."""
    tmp = facts["tmp"]
    for name in ("code", "runtime", "opt", "dev"):
        os.makedirs(f"{tmp}/{name}")
        facts[name] = f"{tmp}/{name}"
    with open(f"{tmp}/code/handler.py", "w") as file:
        file.write("x")
    with open(f"{tmp}/neighbour", "w") as file:
        file.write(facts["neighbour_text"])
    facts["neighbour_path"] = f"{tmp}/neighbour"
    facts["shm"] = f"{tmp}/shm"
    os.makedirs(facts["shm"])
    os.makedirs(f"{tmp}/{facts['data_name']}")
    # A bind mount whose root lies in a folder of the data directory's name.
    from attempts import LIBC
    os.makedirs(f"{tmp}/bound")
    LIBC.mount(f"{tmp}/{facts['data_name']}".encode(), f"{tmp}/bound".encode(), None, 4096, None)
    os.set_inheritable(os.open("/", os.O_RDONLY | os.O_DIRECTORY), True)


def place(facts, name, inside):
    return facts.get(name, inside)


def reads(path, wanted=None):
    with open(path, "rb") as file:
        content = file.read(65536)
    return content == wanted.encode() if wanted is not None else len(content) > 0


def writes(path):
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return True


def opens(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
    return True


@case(AREA, "read a host's file by its path", also=NOWHERE)
def _(facts):
    return reads(facts["secret_path"], facts["secret"])


@case(AREA, "read a host's file through the root of some process", also=NOWHERE)
def _(facts):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if reads(f"/proc/{pid}/root{facts['secret_path']}", facts["secret"]):
                return True
        except OSError:
            continue
    return False


@case(AREA, "climb above the root from an open directory", also=NOWHERE)
def _(facts):
    base = os.open(place(facts, "code", "/var/task"), os.O_RDONLY | os.O_DIRECTORY)
    path = "../" * 30 + facts["secret_path"].lstrip("/")
    file = os.open(path, os.O_RDONLY, dir_fd=base)
    return os.read(file, 4096).decode() == facts["secret"]


@case(AREA, "use a descriptor that leaked in")
def _(facts):
    for number in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(number))
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        # Pipes and sockets of its own, and the listing itself, are no leaks.
        if (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)) and not target.startswith("/proc/"):
            return True, target
    return False


@case(AREA, "write into the root", also=NOWHERE)
def _(facts):
    return writes(f"{facts['tmp'] if facts.get('control') else ''}/hostile-probe")


@case(AREA, "write beside its code")
def _(facts):
    return writes(place(facts, "code", "/var/task") + "/hostile-probe")


@case(AREA, "rewrite its code in place")
def _(facts):
    return opens(place(facts, "code", "/var/task") + "/handler.py", os.O_RDWR)


@case(AREA, "write into the runtime's tree")
def _(facts):
    return writes(place(facts, "runtime", "/var/runtime") + "/hostile-probe")


@case(AREA, "write where layers lie")
def _(facts):
    return writes(place(facts, "opt", "/opt") + "/hostile-probe")


@case(AREA, "write among the devices")
def _(facts):
    return writes(place(facts, "dev", "/dev") + "/hostile-probe")


@case(AREA, "gain by a program with the set-id bit")
def _(facts):
    """Starts one that the host has and asks as whom it runs."""

    def as_whom():
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        program = next(p for p in ("/usr/bin/su", "/bin/su", "/usr/bin/passwd") if os.path.exists(p))
        if not os.stat(program).st_mode & stat.S_ISUID:
            raise RuntimeError(f"{program} has no set-id bit")
        with subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as running:
            try:
                return becomes_root(running)
            finally:
                running.kill() if running.poll() is None and os.getuid() == 0 else running.stdin.close()

    return in_child(as_whom)


def becomes_root(running):
    until = time.monotonic() + 1
    while time.monotonic() < until and running.poll() is None:
        with open(f"/proc/{running.pid}/status") as file:
            uids = next(line for line in file if line.startswith("Uid:")).split()
        if uids[2] == "0":
            return True
        time.sleep(0.01)
    return False


@case(AREA, "make a device node")
def _(facts):
    os.mknod(f"{facts['tmp']}/hostile-null", 0o20666, os.makedev(1, 3))
    os.unlink(f"{facts['tmp']}/hostile-null")
    return True


@case(AREA, "find a device beyond the harmless six")
def _(facts):
    """Looks and does not open: some devices act when they are opened."""
    harmless = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)}
    for base, _, names in os.walk("/dev"):
        for name in names:
            status = os.lstat(os.path.join(base, name))
            kind = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
            if kind and (os.major(status.st_rdev), os.minor(status.st_rdev)) not in harmless:
                return True, os.path.join(base, name)
    return False


@case(AREA, "read the kernel's log from its device", also=NOWHERE)
def _(facts):
    return opens("/dev/kmsg")


@case(AREA, "open the pattern of core dumps for writing", also=NOWHERE)
def _(facts):
    return opens("/proc/sys/kernel/core_pattern", os.O_WRONLY)


@case(AREA, "open a setting of the kernel's memory for writing", also=NOWHERE)
def _(facts):
    return opens("/proc/sys/vm/overcommit_memory", os.O_WRONLY)


@case(AREA, "escape the out-of-memory killer")
def _(facts):
    """By being as dear as a process of the host's own, and not the first to go."""
    if facts.get("control"):
        oom_score("500")
    oom_score("0")
    with open("/proc/self/oom_score_adj") as file:
        return file.read().strip() == "0"


def oom_score(value):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(value)


@case(AREA, "open a limit of its own cgroup for writing", also=NOWHERE)
def _(facts):
    """Where the host mounts its cgroups, and wherever else there is a cgroup mount inside."""
    last = FileNotFoundError(errno.ENOENT, "no cgroup file")
    for base in cgroup_mounts():
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cgroup.procs"):
            try:
                return opens(f"{base}/{name}", os.O_WRONLY)
            except OSError as error:
                last = error
    raise last


@case(AREA, "see the cgroups of others", also=NOWHERE)
def _(facts):
    wanted, seen = facts["foreign_cgroup"], []
    for base in cgroup_mounts():
        for _, folders, _ in os.walk(base):
            seen += folders
    return wanted in seen, f"{len(seen)} folders"


def cgroup_mounts():
    found = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"]
    with open("/proc/self/mountinfo") as file:
        found += [line.split()[4] for line in file if " - cgroup" in line]
    return found


@case(AREA, "read the list of keys", also=NOWHERE)
def _(facts):
    try:
        call("add_key", b"user", b"hostile", b"x", 1, -2)
    except OSError:
        pass  # so there may be none of its own; those of others would do
    return reads("/proc/keys")


@case(AREA, "read where the kernel's symbols are", also=NOWHERE)
def _(facts):
    with open("/proc/kallsyms") as file:
        address = file.readline().split()
    return bool(address) and int(address[0], 16) != 0


@case(AREA, "read the machine's id", also=NOWHERE)
def _(facts):
    if not facts["machine_id"]:
        return None, "the host has none"
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/run/machine-id"):
        try:
            if reads(path, facts["machine_id"]):
                return True, path
        except OSError:
            continue
    return False


@case(AREA, "tell the host by its boot id", also=NOWHERE)
def _(facts):
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip() == facts["boot_id"]


@case(AREA, "find the data directory's path in its mounts")
def _(facts):
    for name in ("mountinfo", "mounts", "mountstats"):
        with open(f"/proc/self/{name}") as file:
            for line in file:
                if facts["data_name"] in line:
                    return True, line.strip()
    return False


@case(AREA, "find a host's path in its own maps")
def _(facts):
    """The interpreter's place in the host's tree, by the files that are mapped."""
    if facts.get("control"):
        return "/usr" in open("/proc/self/maps").read() or ".so" in open("/proc/self/maps").read()
    with open("/proc/self/maps") as file:
        shown = {line.split(maxsplit=5)[5].strip() for line in file if line.count("/") > 1}
    strange = [path for path in shown if not path.startswith(("/usr/", "/lib", "/var/lang/", "/var/task/", "/tmp/"))]
    return bool(strange), strange


@case(AREA, "read what another function left in its /tmp", also=NOWHERE)
def _(facts):
    path, text = facts.get("neighbour_path", "/tmp/neighbour"), facts["neighbour_text"]
    if reads_quietly(path, text):
        return True
    return any(reads_quietly(f"/proc/{pid}/root{path}", text) for pid in os.listdir("/proc") if pid.isdigit())


def reads_quietly(path, text):
    try:
        return reads(path, text)
    except OSError:
        return False


@case(AREA, "read the environment of the process above it")
def _(facts):
    parent = 1 if not facts.get("control") else os.getppid()
    return reads(f"/proc/{parent}/environ")


@case(AREA, "open the memory of the process above it")
def _(facts):
    parent = 1 if not facts.get("control") else os.getppid()
    return opens(f"/proc/{parent}/mem")


@case(AREA, "reach the program of the process above it", also=NOWHERE)
def _(facts):
    parent = 1 if not facts.get("control") else os.getppid()
    return opens(f"/proc/{parent}/exe")


@case(AREA, "open its own interpreter for writing", reached=(errno.ETXTBSY,))
def _(facts):
    return opens("/proc/self/exe", os.O_WRONLY)


@case(AREA, "look into /sys", also=NOWHERE)
def _(facts):
    return len(os.listdir("/sys/kernel")) > 0


# Root has no number inside, which is as good a refusal.
@case(AREA, "give a file to root", also=(errno.EINVAL,))
def _(facts):
    path = f"{facts['tmp']}/hostile-given"
    open(path, "w").close()
    os.chown(path, 0, 0)
    return os.stat(path).st_uid == 0


@case(AREA, "give a file capabilities", also=(errno.ENOTSUP,))
def _(facts):
    path = f"{facts['tmp']}/hostile-capable"
    open(path, "w").close()
    # Version 2, effective, CAP_NET_RAW permitted.
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    call("setxattr", path.encode(), b"security.capability", value, len(value), 0)
    return True


@case(AREA, "run a program from /dev/shm")
def _(facts):
    folder = place(facts, "shm", "/dev/shm")
    path = f"{folder}/hostile-true"
    with open("/bin/true", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    os.chmod(path, 0o755)
    try:
        return subprocess.run([path], check=False).returncode == 0
    finally:
        os.unlink(path)


@case(AREA, "raise its limit on core dumps")
def _(facts):
    wanted = struct.pack("QQ", 1 << 20, 1 << 20)
    call("prlimit64", 0, 4, wanted, None)
    return True
