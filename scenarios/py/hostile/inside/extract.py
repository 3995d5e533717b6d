"""The control of the packages: unpackers without a check, in a throw-away place, and what the tricks do to them."""

import bz2
import io
import json
import os
import stat
import struct
import sys
import tarfile
import zlib

import attempts
import control
import zips
from zips import APP, ESCAPED, OUTSIDE


class Read:
    """An entry as a reader without doubts sees it."""

    def __init__(self, name, mode, flags, method, crc, packed, size, extra, data):
        self.name, self.mode, self.flags, self.method, self.crc = name, mode, flags, method, crc
        self.packed, self.size, self.extra, self.data = packed, size, extra, data

    def content(self):
        if self.method == 8:
            try:
                return zlib.decompressobj(-15).decompress(self.data)
            except zlib.error:
                return b""
        return bz2.decompress(self.data) if self.method == 12 else self.data[: self.packed]


    def length(self):
        """Bytes that it unpacks to, without having them all."""
        unpacker, total, left = zlib.decompressobj(-15), 0, self.data
        while left:
            total += len(unpacker.decompress(left, 1 << 20))
            left = unpacker.unconsumed_tail
        return total


def by_directory(data):
    """What the last end record leads to."""
    end = data.rindex(b"PK\x05\x06")
    count, _, start = struct.unpack("<HII", data[end + 10:end + 20])
    at, found = start, []
    while data[at:at + 4] == b"PK\x01\x02":
        (flags, method, _, _, crc, packed, size, names, extras, comments, _, _, outer, offset) = struct.unpack(
            "<HHHHIIIHHHHHII", data[at + 8:at + 46])
        name, extra = data[at + 46:at + 46 + names], data[at + 46 + names:at + 46 + names + extras]
        here = data[offset:offset + 30]
        begin = offset + 30 + sum(struct.unpack("<HH", here[26:30])) if len(here) == 30 else len(data)
        found.append(Read(name, outer >> 16, flags, method, crc, packed, size, extra, data[begin:begin + packed]))
        at += 46 + names + extras + comments
    return found, count


def by_headers(data):
    """What is met on the way from the beginning."""
    at, found = 0, []
    while (at := data.find(b"PK\x03\x04", at)) >= 0:
        flags, method, _, _, crc, packed, size, names, extras = struct.unpack("<HHHHIIIHH", data[at + 6:at + 30])
        begin = at + 30 + names + extras
        name, extra = data[at + 30:at + 30 + names], data[at + 30 + names:begin]
        found.append(Read(name, 0, flags, method, crc, packed, size, extra, data[begin:begin + packed]))
        at = begin + packed
    return found


def unpack(data, root):
    """Follows, makes and permits everything."""
    for entry in by_directory(data)[0]:
        name = entry.name.split(b"\0")[0].replace(b"\\", b"/").decode("utf-8", "surrogateescape")
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFLNK:
            target = entry.content().decode()
            os.symlink(target, path)
            continue
        if kind in (stat.S_IFCHR, stat.S_IFIFO):
            os.mknod(path, entry.mode, os.makedev(1, 3))
            continue
        if name.endswith("/"):
            os.makedirs(path, exist_ok=True)
            continue
        with open(path, "wb") as file:
            file.write(entry.content())
        os.chmod(path, stat.S_IMODE(entry.mode))


def raises(data, root, *errors):
    try:
        unpack(data, root)
    except OSError as error:
        return error.errno in errors
    return False


def after(effect):
    """The effect once everything was unpacked."""

    def check(data, root):
        unpack(data, root)
        return effect(root)

    return check


def escaped(root):
    return os.path.exists(f"{OUTSIDE}/{ESCAPED}") or os.path.exists(os.path.join(root, "..", ESCAPED))


def mode(root, name):
    return os.lstat(os.path.join(root, name)).st_mode


def read(root, name):
    with open(os.path.join(root, name), "rb") as file:
        return file.read()


def leads_out(root):
    return not os.path.realpath(os.path.join(root, "l")).startswith(root + "/")


def named(entries):
    return [entry.name for entry in entries]


def disagree(what):
    """The two readers see something else of the last entry."""
    return lambda data, root: what(by_directory(data)[0][-1]) != what(by_headers(data)[-1])


EFFECTS = {
    "a name that climbs by dots": after(escaped),
    "an absolute name": after(escaped),
    "a name that climbs by backslashes": after(escaped),
    "a name with a NUL": after(lambda root: read(root, "app.py") == b"evil"),
    "a name for a terminal": after(lambda root: "\x1b]0;x\x07" in os.listdir(root)),
    "a name of two lines": after(lambda root: "a\nb" in os.listdir(root)),
    "a name with an empty part": after(lambda root: read(root, "a/b") == b"two"),
    "a name that is no text": after(lambda root: b"\xff\xfe" in os.listdir(root.encode())),
    "a name of three hundred letters": lambda data, root: raises(data, root, 36),
    "a thousand directories deep": after(lambda root: os.path.isdir(root + "/d" * 1000)),
    "a second name in an extra field": lambda data, root: by_directory(data)[0][-1].extra[9:] == b"../" + ESCAPED.encode(),
    "a link to elsewhere": after(leads_out),
    "a link that climbs": after(leads_out),
    "a link that descends and climbs": lambda data, root: os.mkdir(root + "/a") or after(leads_out)(data, root),
    "a file through a link": after(escaped),
    "a file through a link inside": after(lambda root: read(root, "app.py") == b"evil"),
    "links in a circle": after(lambda root: os.path.islink(root + "/a") and not os.path.exists(root + "/a")),
    "a link of a megabyte": lambda data, root: raises(data, root, 36),
    "a device": after(lambda root: stat.S_ISCHR(mode(root, "n"))),
    "a pipe": after(lambda root: stat.S_ISFIFO(mode(root, "p"))),
    "a program with the set-id bit": after(lambda root: mode(root, "s") & 0o6000 == 0o6000),
    "a file that everybody may write": after(lambda root: mode(root, "w") & 0o002),
    "a file that nobody may read": after(lambda root: mode(root, "r") & 0o777 == 0),
    "the same name twice": after(lambda root: read(root, "t") == b"two"),
    "a file where a directory is": lambda data, root: raises(data, root, 17, 20),
    "a directory with content": lambda data, root: by_directory(data)[0][-1].content() == b"hidden",
    "two names in two headers": disagree(lambda entry: entry.name),
    "two sizes in two headers": disagree(lambda entry: entry.content()),
    "two methods in two headers": disagree(lambda entry: entry.content()),
    "a file in no directory": lambda data, root: b"hidden" in named(by_headers(data)) and b"hidden" not in named(by_directory(data)[0]),
    "a file in the directory only": lambda data, root: by_directory(data)[0][-1].data == b"",
    "many files of one content": lambda data, root: sum(e.length() for e in by_directory(data)[0]) > 100 * len(data),
    "300 MiB in 300 KiB": lambda data, root: by_directory(data)[0][-1].length() > 250 << 20,
    "a size that is too small": lambda data, root: len(by_directory(data)[0][-1].content()) > by_directory(data)[0][-1].size,
    "seventy thousand files": lambda data, root: len(by_headers(data)) == 70_000,
    "a count that is too small": lambda data, root: len(by_directory(data)[0]) > by_directory(data)[1],
    "a wrong checksum": lambda data, root: zlib.crc32(by_directory(data)[0][-1].content()) != by_directory(data)[0][-1].crc,
    "a flag of encryption": lambda data, root: by_directory(data)[0][-1].flags & 1 and by_directory(data)[0][-1].content() == b"x",
    "another compression": after(lambda root: read(root, "z") == b"x" * 100),
    "a descriptor that disagrees": lambda data, root: struct.pack("<I", 0x08074B50) + struct.pack("<I", 1) in data,
    "sizes in 64 bits that disagree": lambda data, root: struct.unpack("<Q", by_directory(data)[0][-1].extra[4:12])[0] != 10,
    "a part of many disks": after(lambda root: read(root, "d") == b"x"),
    "an archive in the comment of another": lambda data, root: b"first" in named(by_headers(data)) and b"second" in named(by_headers(data)),
    "a script before the archive": lambda data, root: os.waitstatus_to_exitcode(os.system(script(data, root))) == 7,
    "bytes behind the archive": after(lambda root: read(root, "a") == b"x"),
    "bytes before the directory": after(lambda root: read(root, "a") == b"x"),
    "half an archive": lambda data, root: b"a" in named(by_headers(data)),
    "an archive in an archive": lambda data, root: unpack(by_directory(data)[0][-1].content(), root) or escaped(root),
    "a tar archive": lambda data, root: tarfile.open(fileobj=io.BytesIO(data)).getnames() == ["../" + ESCAPED],
}


def script(data, root):
    path = root + "/script"
    with open(path, "wb") as file:
        file.write(data)
    return f"sh {path}"


def main():
    event = json.load(sys.stdin)
    control.guard(event["facts"])
    sys.setrecursionlimit(5000)
    tmp, results = event["facts"]["tmp"], {}
    for name, (make, _) in zips.TRICKS.items():
        for place in (tmp, OUTSIDE):
            attempts.LIBC.mount(b"none", place.encode(), b"tmpfs", 0, b"size=512m")
        root = tmp + "/root/inner"
        os.makedirs(root)
        print(name, file=sys.stderr, flush=True)
        try:
            results[name] = ("worked" if EFFECTS[name](make(), root) else "refused", "")
        except Exception as error:  # noqa: BLE001 - told by the one who asks
            results[name] = ("undecided", repr(error))
        for place in (tmp, OUTSIDE):
            attempts.LIBC.umount2(place.encode(), 2)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    assert set(EFFECTS) == set(zips.TRICKS) and APP
    main()
