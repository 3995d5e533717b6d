"""Attempts on the kernel: mounts, namespaces, other processes, shared objects, what changes the machine, other tables.

Where a call would change anything, its arguments are such that the kernel refuses them after it has asked for the
permission: the error number that it gives then stands in `reached`.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import socket
import struct
import subprocess
import time

from attempts import LIBC, call, case, in_child, raw_call

AREA = "kernel"
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
)
NO_SUCH_THING = (errno.ENOSYS,)
FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


def prepare_control(facts):
    """In its own namespaces: a mask to take off, and a shared memory segment of somebody else."""
    os.makedirs(f"{facts['tmp']}/mnt")
    os.makedirs(f"{facts['tmp']}/masked")
    LIBC.mount(b"none", f"{facts['tmp']}/masked".encode(), b"tmpfs", 0, None)
    facts["mask"] = f"{facts['tmp']}/masked"
    call("shmget", facts["shm_key"], 4096, 0o1666)
    call("msgget", facts["shm_key"], 0o1666)


def folder(facts):
    path = f"{facts['tmp']}/mnt"
    os.makedirs(path, exist_ok=True)
    return path.encode()


# Mounts.


@case(AREA, "mount by the old call")
def _(facts):
    call("mount", b"none", folder(facts), b"tmpfs", 0, None)
    return call("umount2", folder(facts), 2) == 0


@case(AREA, "open a file system by the new calls")
def _(facts):
    os.close(call("fsopen", b"tmpfs", 0))
    return True


@case(AREA, "clone a tree of mounts")
def _(facts):
    os.close(call("open_tree", -100, b"/", 1))
    return True


@case(AREA, "make a mount writable", reached=(errno.EINVAL,))
def _(facts):
    # Clears MOUNT_ATTR_RDONLY of a mount that is its own in the control, and of the root inside.
    attributes = struct.pack("QQQQ", 0, 1, 0, 0)
    path = facts["mask"].encode() if facts.get("control") else b"/"
    return call("mount_setattr", -100, path, 0, attributes, len(attributes)) == 0


@case(AREA, "take a mask off")
def _(facts):
    path = facts["mask"] if facts.get("control") else "/proc/keys"
    return call("umount2", path.encode(), 2) == 0


@case(AREA, "mount another /proc without masks")
def _(facts):
    call("mount", b"proc", folder(facts), b"proc", 0, None)
    return call("umount2", folder(facts), 2) == 0


@case(AREA, "mount a cgroup hierarchy from a new user namespace")
def _(facts):
    """The way to a release agent on version 1."""

    def act():
        call("unshare", NEWUSER | NEWNS | NEWCGROUP)
        with open("/proc/filesystems") as file:
            old = "\tcgroup\n" in file.read()
        kind, data = (b"cgroup", facts["old_controller"].encode()) if old and facts["old_controller"] else (b"cgroup2", None)
        call("mount", b"none", folder(facts), kind, 0, data)
        return True

    return in_child(act)


@case(AREA, "pivot into another root", reached=(errno.ENOENT,))
def _(facts):
    return call("pivot_root", b"/nowhere-at-all", b"/nowhere-at-all") == 0


@case(AREA, "change its root")
def _(facts):
    return in_child(lambda: call("chroot", facts["tmp"].encode()) == 0)


@case(AREA, "list mounts by their ids", absent=NO_SUCH_THING)
def _(facts):
    request = struct.pack("IIQQQ", 32, 0, 0xFFFFFFFFFFFFFFFF, 0, 0)
    return call("listmount", request, ctypes.create_string_buffer(4096), 16, 0) > 0


@case(AREA, "open a file by a guessed handle", reached=(errno.ESTALE, errno.EINVAL))
def _(facts):
    # An inode number of 2 is the root of most file systems of the host.
    handle = struct.pack("IiII", 8, 1, 2, 0)
    base = os.open(facts["tmp"], os.O_RDONLY)
    return call("open_by_handle_at", base, handle, 0) >= 0


@case(AREA, "ask for a file's handle")
def _(facts):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    return call("name_to_handle_at", -100, facts["tmp"].encode(), handle, ctypes.byref(ctypes.c_int()), 0) == 0


# Namespaces.


@case(AREA, "make a user namespace by unshare")
def _(facts):
    return in_child(lambda: call("unshare", NEWUSER) == 0)


@case(AREA, "make a user namespace by clone")
def _(facts):
    return cloned(call("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0))


@case(AREA, "make a user namespace by clone3")
def _(facts):
    arguments = struct.pack("QQQQQQQQ", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    return cloned(call("clone3", arguments, len(arguments)))


def cloned(pid):
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


@case(AREA, "make a network namespace of its own")
def _(facts):
    return in_child(lambda: call("unshare", NEWNET) == 0)


@case(AREA, "enter a namespace by its file")
def _(facts):
    space = os.open("/proc/self/ns/uts", os.O_RDONLY)
    return in_child(lambda: call("setns", space, 0) == 0)


# Other processes. The victim is a child of its own: the wall is the call.


class Victim:
    def __enter__(self):
        self.pid = os.fork()
        if self.pid == 0:
            signal.pause()
            os._exit(0)
        return self.pid

    def __exit__(self, *_):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended and was reaped


@case(AREA, "trace another process")
def _(facts):
    with Victim() as pid:
        return call("ptrace", 0x4206, pid, 0, 0) == 0


@case(AREA, "read another process's memory")
def _(facts):
    secret = ctypes.create_string_buffer(b"secret", 16)
    with Victim() as pid:
        target = ctypes.create_string_buffer(16)
        here = struct.pack("PN", ctypes.addressof(target), 16)
        there = struct.pack("PN", ctypes.addressof(secret), 16)
        call("process_vm_readv", pid, here, 1, there, 1, 0)
        return target.value == b"secret"


@case(AREA, "write another process's memory")
def _(facts):
    room = ctypes.create_string_buffer(16)
    with Victim() as pid:
        here = struct.pack("PN", ctypes.addressof(room), 16)
        return call("process_vm_writev", pid, here, 1, here, 1, 0) == 16


@case(AREA, "compare kernel objects of two processes", absent=NO_SUCH_THING)
def _(facts):
    with Victim() as pid:
        return call("kcmp", os.getpid(), pid, 0, 1, 1) >= 0


@case(AREA, "take a descriptor out of another process")
def _(facts):
    with Victim() as pid:
        return call("pidfd_getfd", call("pidfd_open", pid, 0), 0, 0) >= 0


@case(AREA, "advise another process's memory away", reached=(errno.EINVAL,))
def _(facts):
    with Victim() as pid:
        where = struct.pack("PN", 0, 0)
        return call("process_madvise", call("pidfd_open", pid, 0), where, 1, 21, 0) >= 0


@case(AREA, "kill what runs above it")
def _(facts):
    """The sandbox's init; another process of its own in the control."""
    if facts.get("control"):
        with Victim() as pid:
            os.kill(pid, signal.SIGKILL)
            return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        os.kill(1, number)
    time.sleep(0.1)
    return not os.path.exists("/proc/1/status")


# Shared objects.


@case(AREA, "find a shared memory segment of the host", also=(errno.ENOENT,))
def _(facts):
    return call("shmget", facts["shm_key"], 4096, 0) >= 0


@case(AREA, "find a message queue of the host", also=(errno.ENOENT,))
def _(facts):
    return call("msgget", facts["shm_key"], 0) >= 0


@case(AREA, "make a POSIX message queue")
def _(facts):
    name = b"hostile-queue"
    os.close(call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None))
    return True


@case(AREA, "read POSIX shared memory of the host", also=(errno.ENOENT,))
def _(facts):
    with open("/dev/shm/" + facts["shm_name"]) as file:
        return file.read() == facts["shm_text"]


@case(AREA, "look at a session's keyring")
def _(facts):
    return call("keyctl", 0, -3, 1) > 0


@case(AREA, "add a key")
def _(facts):
    return call("add_key", b"user", b"hostile", b"x", 1, -2) > 0


@case(AREA, "ask for a key by its name", reached=(errno.ENOKEY,))
def _(facts):
    return call("request_key", b"user", b"hostile-none", None, 0) > 0


# Sockets beyond TCP, UDP and the local ones.


def opens_socket(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return True


@case(AREA, "talk to the hypervisor by vsock", also=FAMILY, absent=FAMILY)
def _(facts):
    return opens_socket(40, socket.SOCK_STREAM)


@case(AREA, "talk to the firewall by netlink", also=FAMILY, absent=FAMILY)
def _(facts):
    return opens_socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)


@case(AREA, "hear the kernel's device events", also=FAMILY)
def _(facts):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as own:
        own.bind((0, 1))
    return True


@case(AREA, "open a socket for kernel bypass", also=FAMILY, absent=FAMILY)
def _(facts):
    return opens_socket(44, socket.SOCK_RAW)


@case(AREA, "use the kernel's ciphers by a socket", also=FAMILY, absent=FAMILY)
def _(facts):
    return opens_socket(38, socket.SOCK_SEQPACKET)


@case(AREA, "open a multipath TCP socket", also=FAMILY, absent=FAMILY)
def _(facts):
    return opens_socket(socket.AF_INET, socket.SOCK_STREAM, 262)


# A user without a number inside is as good a refusal.
@case(AREA, "claim to be root over a local socket", also=(errno.EINVAL,))
def _(facts):
    if not facts.get("control"):
        return claims(0)
    # Root may claim to be anybody.
    return claims(12345)


def claims(uid):
    one, two = socket.socketpair()
    two.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, 2, struct.pack("iII", os.getpid(), uid, uid))])
    _, extra, _, _ = two.recvmsg(1, 64)
    return struct.unpack("iII", extra[0][2])[1] == uid


@case(AREA, "force a socket's buffers beyond their limits", also=(errno.ENOPROTOOPT,))
def _(facts):
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, 32, 1 << 28)
        return own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 1 << 28


# The kernel's larger machines.


@case(AREA, "set up an io_uring", reached=(errno.EFAULT,), absent=NO_SUCH_THING)
def _(facts):
    return call("io_uring_setup", 1, None) >= 0


@case(AREA, "make a BPF map", absent=NO_SUCH_THING)
def _(facts):
    attributes = struct.pack("IIII", 2, 4, 4, 1) + bytes(112)
    os.close(call("bpf", 0, attributes, len(attributes)))
    return True


@case(AREA, "open a performance counter", absent=NO_SUCH_THING)
def _(facts):
    attributes = struct.pack("IIQ", 1, 128, 0) + bytes(112)
    os.close(call("perf_event_open", attributes, 0, -1, -1, 0))
    return True


@case(AREA, "handle page faults by itself", absent=NO_SUCH_THING)
def _(facts):
    os.close(call("userfaultfd", os.O_CLOEXEC))
    return True


@case(AREA, "watch whole file systems")
def _(facts):
    os.close(call("fanotify_init", 0, os.O_RDONLY))
    return True


# What changes the machine.


@case(AREA, "load a module", reached=(errno.ENOEXEC, errno.EFAULT), absent=NO_SUCH_THING)
def _(facts):
    return call("init_module", None, 0, b"") == 0


@case(AREA, "unload a module", reached=(errno.EFAULT, errno.ENOENT), absent=NO_SUCH_THING)
def _(facts):
    return call("delete_module", None, 0) == 0


@case(AREA, "load another kernel", reached=(errno.EINVAL,), absent=NO_SUCH_THING)
def _(facts):
    return call("kexec_load", 0, 0, None, 0x0000FFFE) == 0


@case(AREA, "reboot", reached=(errno.EINVAL,))
def _(facts):
    # Wrong magic numbers, which are looked at after the permission.
    return call("reboot", 1, 2, 3, None) == 0


@case(AREA, "set the clock's zone", reached=(errno.EINVAL,))
def _(facts):
    # A zone that can't be, which is looked at after the permission.
    return call("settimeofday", None, struct.pack("ii", 99_999, 0)) == 0


@case(AREA, "set the clock", no_control="the kernel has no argument that it refuses after the permission")
def _(facts):
    # A time that can't be is refused before the permission; inside, the filter comes before both.
    call("clock_settime", 0, struct.pack("qq", -1, -1))
    return True


@case(AREA, "bend the clock's speed", reached=(errno.EINVAL,))
def _(facts):
    # ADJ_TICK with a tick that can't be.
    request = ctypes.create_string_buffer(struct.pack("I", 0x4000) + bytes(252))
    return call("adjtimex", request) >= 0


@case(AREA, "swap to a file", reached=(errno.ENOENT,), absent=NO_SUCH_THING)
def _(facts):
    return call("swapon", b"/nowhere-at-all", 0) == 0


@case(AREA, "account for all processes", reached=(errno.ENOENT,), absent=NO_SUCH_THING)
def _(facts):
    return call("acct", b"/nowhere-at-all") == 0


@case(AREA, "read the kernel's log by its call")
def _(facts):
    return call("syslog", 10, None, 0) > 0


@case(AREA, "rename the host")
def _(facts):
    return call("sethostname", b"hostile", 7) == 0


@case(AREA, "speak to the hardware's ports", absent=NO_SUCH_THING)
def _(facts):
    return in_child(lambda: call("iopl", 3) == 0)


# Itself, but more than itself.


@case(AREA, "become root")
def _(facts):
    def act():
        if facts.get("control"):
            call("setresuid", 65534, 65534, 0)
        call("setresuid", 0, 0, 0)
        return os.geteuid() == 0

    return in_child(act)


@case(AREA, "drop its groups")
def _(facts):
    return in_child(lambda: call("setgroups", 0, None) == 0)


@case(AREA, "take a capability back")
def _(facts):
    # CAP_SYS_ADMIN, effective and permitted.
    header, bit = struct.pack("Ii", 0x20080522, 0), 1 << 21
    data = struct.pack("IIIIII", bit, bit, 0, 0, 0, 0)
    return in_child(lambda: call("capset", header, data) == 0)


@case(AREA, "raise its own priority")
def _(facts):
    return in_child(lambda: call("setpriority", 0, 0, -5) == 0)


@case(AREA, "demand the disk first")
def _(facts):
    # The real-time class.
    return in_child(lambda: call("ioprio_set", 1, 0, 1 << 13 | 4) == 0)


@case(AREA, "pin more memory than it may", also=(errno.ENOMEM,))
def _(facts):
    room = mmap.mmap(-1, 1 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    call("mlock", address, 1 << 20)
    with open("/proc/self/status") as file:
        locked = next(line for line in file if line.startswith("VmLck:")).split()
    return int(locked[1]) >= 1024, " ".join(locked)


@case(AREA, "switch address randomisation off")
def _(facts):
    def act():
        call("personality", 0x0040000)
        return call("personality", 0xFFFFFFFF) & 0x0040000 != 0

    return in_child(act)


@case(AREA, "change its segment table", absent=NO_SUCH_THING)
def _(facts):
    return call("modify_ldt", 0, ctypes.create_string_buffer(64), 64) >= 0


@case(AREA, "change how root's rights are inherited")
def _(facts):
    # PR_SET_SECUREBITS, SECBIT_NOROOT
    return in_child(lambda: call("prctl", 28, 1, 0, 0, 0) == 0)


# Other tables of system calls.


@case(AREA, "make system calls by the 32-bit table")
def _(facts):
    """`mov eax, 20; int 0x80; ret`: 20 is getpid there, and writev here."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("b814000000cd80c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()


@case(AREA, "make system calls by the x32 table", absent=NO_SUCH_THING)
def _(facts):
    return raw_call(0x40000000 | 39) == os.getpid()


@case(AREA, "push characters into a terminal", also=(errno.ENOENT, errno.ENOTTY, errno.EIO))
def _(facts):
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK: unlock it
    number = struct.unpack("i", fcntl.ioctl(master, 0x80045430, bytes(4)))[0]  # TIOCGPTN: which it is
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(slave, 0x5412, b"x")
    fcntl.ioctl(slave, 0x5412, b"\n")
    return os.read(slave, 2) == b"x\n"


@case(AREA, "run a program that nobody sees", no_control="harmless by itself: what runs keeps every wall")
def _(facts):
    """A program in anonymous memory is as confined as any: it must not have lost the filter."""
    program = os.memfd_create("hostile", 0)
    with open("/bin/cat", "rb") as file:
        os.write(program, file.read())
    done = subprocess.run(
        ["cat", "/proc/self/status"], executable=f"/proc/self/fd/{program}", pass_fds=[program], capture_output=True, text=True
    )
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    return status["Seccomp"] != "2" or status["NoNewPrivs"] != "1" or int(status["CapBnd"], 16) != 0
