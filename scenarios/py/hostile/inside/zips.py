"""Zip archives with every known trick, written byte by byte; each has `app.py` beside it."""

import binascii
import bz2
import io
import struct
import tarfile
import zlib

APP = b"import os\ndef handler(event, context):\n    return tree()\n" + b"""
def tree():
    found = {}
    for base, folders, names in os.walk("/var/task"):
        for name in folders + names:
            path = os.path.join(base, name)
            status = os.lstat(path)
            link = os.readlink(path) if os.path.islink(path) else None
            text = open(path, "rb").read(64).decode("latin-1") if os.path.isfile(path) else None
            found[os.path.relpath(path, "/var/task")] = [oct(status.st_mode), link, text, status.st_uid]
    return found
"""

FILE, LINK, DIRECTORY = 0o100644, 0o120777, 0o040755
# Where nothing may ever appear; a mount of its own in the control.
OUTSIDE = "/mnt"
ESCAPED = "hostile-escaped"


class Entry:
    """One entry; what is not said otherwise in `central` or `local` is the same in both of its headers."""

    def __init__(self, name, content=b"x", mode=FILE, method=8, flags=0, central=None, local=None, descriptor=None,
                 extra=b"", packed=None):
        self.name = name if isinstance(name, bytes) else name.encode()
        self.content, self.mode, self.extra, self.descriptor = content, mode, extra, descriptor
        self.packed = deflate(content) if packed is None and method == 8 else content if packed is None else packed
        self.said = {
            "name": self.name, "flags": flags, "method": method, "crc": binascii.crc32(content), "packed": len(self.packed),
            "size": len(content), "extra": extra,
        }
        self.central, self.local = {**self.said, **(central or {})}, {**self.said, **(local or {})}

    def head(self):
        s = self.local
        return struct.pack(
            "<IHHHHHIIIHH", 0x04034B50, 20, s["flags"], s["method"], 0, 0x5021, s["crc"], s["packed"], s["size"],
            len(s["name"]), len(s["extra"])
        ) + s["name"] + s["extra"]

    def record(self, offset):
        s = self.central
        return struct.pack(
            "<IHHHHHHIIIHHHHHII", 0x02014B50, 3 << 8 | 20, 20, s["flags"], s["method"], 0, 0x5021, s["crc"], s["packed"],
            s["size"], len(s["name"]), len(s["extra"]), 0, s.get("disk", 0), 0, self.mode << 16, s.get("offset", offset)
        ) + s["name"] + s["extra"]


def deflate(content):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def archive(entries, hidden=(), count=None, disk=0, comment=b"", app=True, between=b""):
    """`hidden` entries have no record in the central directory."""
    entries = ([Entry("app.py", APP)] if app else []) + list(entries)
    data, records = b"", b""
    for entry in [*entries, *hidden]:
        offset = len(data)
        data += entry.head() + entry.packed + (entry.descriptor or b"")
        if entry not in hidden:
            records += entry.record(offset)
    data += between
    count = len(entries) if count is None else count
    end = struct.pack("<IHHHHIIH", 0x06054B50, disk, disk, count, count, len(records), len(data), len(comment))
    return data + records + end + comment


def overlapping():
    """Many records of one and the same content."""
    first = Entry("0", bytes(1 << 20))
    data = first.head() + first.packed
    app = Entry("app.py", APP)
    offset = len(data)
    data += app.head() + app.packed
    records = app.record(offset)
    for number in range(400):
        entry = Entry(str(number), bytes(1 << 20))
        records += entry.record(0)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 401, 401, len(records), len(data), 0)
    return data + records + end


def many(count):
    """More entries than a directory without 64-bit records can count."""
    data, records = bytearray(), bytearray()
    for number in range(count):
        entry = Entry(b"%d" % number, b"", method=0)
        records += entry.record(len(data))
        data += entry.head()
    data, records = bytes(data), bytes(records)
    large = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, len(records), len(data))
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(data) + len(records), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, len(records), len(data), 0)
    return data + records + large + locator + end


def as_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo("../" + ESCAPED)
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


def zip64_extra(size, packed):
    return struct.pack("<HHQQ", 1, 16, size, packed)


def unicode_path(name, original):
    body = struct.pack("<BI", 1, binascii.crc32(original)) + name
    return struct.pack("<HH", 0x7075, len(body)) + body



def huge(count):
    """`count` MiB of zeros, packed without having them all."""
    packer, crc, packed, block = zlib.compressobj(9, zlib.DEFLATED, -15), 0, b"", bytes(1 << 20)
    for _ in range(count):
        packed += packer.compress(block)
        crc = binascii.crc32(block, crc)
    packed += packer.flush()
    said = {"crc": crc, "packed": len(packed), "size": count << 20}
    return archive([Entry("zeros", b"", central=said, local=said, packed=packed)])


REJECTED, INERT = "rejected", "inert"

# name: (what makes it, what must come of it)
TRICKS = {
    "a name that climbs by dots": (lambda: archive([Entry("../" + ESCAPED)]), REJECTED),
    "an absolute name": (lambda: archive([Entry(f"{OUTSIDE}/{ESCAPED}")]), REJECTED),
    "a name that climbs by backslashes": (lambda: archive([Entry("..\\" + ESCAPED)]), REJECTED),
    "a name with a NUL": (lambda: archive([Entry(b"app.py\0.txt", b"evil")]), REJECTED),
    "a name for a terminal": (lambda: archive([Entry(b"\x1b]0;x\x07")]), REJECTED),
    "a name of two lines": (lambda: archive([Entry("a\nb")]), REJECTED),
    "a name with an empty part": (lambda: archive([Entry("a/b", b"one"), Entry("a//b", b"two")]), REJECTED),
    "a name that is no text": (lambda: archive([Entry(b"\xff\xfe", flags=1 << 11)]), REJECTED),
    "a name of three hundred letters": (lambda: archive([Entry("n" * 300)]), REJECTED),
    "a thousand directories deep": (lambda: archive([Entry("d/" * 1000 + "x")]), REJECTED),
    "a second name in an extra field": (
        lambda: archive([Entry("good", extra=unicode_path(b"../" + ESCAPED.encode(), b"good"))]), REJECTED),
    "a link to elsewhere": (lambda: archive([Entry("l", OUTSIDE.encode(), LINK)]), REJECTED),
    "a link that climbs": (lambda: archive([Entry("l", b"../../" + OUTSIDE.encode(), LINK)]), REJECTED),
    "a link that descends and climbs": (lambda: archive([Entry("l", b"a/../../..", LINK)]), REJECTED),
    "a file through a link": (lambda: archive([Entry("d", OUTSIDE.encode(), LINK), Entry(f"d/{ESCAPED}")]), REJECTED),
    "a file through a link inside": (lambda: archive([Entry("d", b".", LINK), Entry("d/app.py", b"evil")]), REJECTED),
    "links in a circle": (lambda: archive([Entry("a", b"b", LINK), Entry("b", b"a", LINK)]), INERT),
    "a link of a megabyte": (lambda: archive([Entry("l", b"x" * (1 << 20), LINK)]), REJECTED),
    "a device": (lambda: archive([Entry("n", b"", 0o020666)]), REJECTED),
    "a pipe": (lambda: archive([Entry("p", b"", 0o010666)]), REJECTED),
    "a program with the set-id bit": (lambda: archive([Entry("s", b"x", 0o106755)]), INERT),
    "a file that everybody may write": (lambda: archive([Entry("w", b"x", 0o100666)]), INERT),
    "a file that nobody may read": (lambda: archive([Entry("r", b"x", 0o100000)]), INERT),
    "the same name twice": (lambda: archive([Entry("t", b"one"), Entry("t", b"two")]), REJECTED),
    "a file where a directory is": (lambda: archive([Entry("c"), Entry("c/d")]), REJECTED),
    "a directory with content": (lambda: archive([Entry("d/", b"hidden", DIRECTORY)]), REJECTED),
    "two names in two headers": (lambda: archive([Entry("good", local={"name": b"evil"})]), REJECTED),
    "two sizes in two headers": (lambda: archive([Entry("s", b"x" * 100, method=0, local={"size": 50, "packed": 50})]), REJECTED),
    "two methods in two headers": (lambda: archive([Entry("m", b"x" * 9, local={"method": 0})]), REJECTED),
    "a file in no directory": (lambda: archive([], hidden=[Entry("hidden")]), REJECTED),
    "a file in the directory only": (lambda: archive([Entry("ghost", central={"offset": 1 << 24})]), REJECTED),
    "many files of one content": (overlapping, REJECTED),
    "300 MiB in 300 KiB": (lambda: huge(300), REJECTED),
    "a size that is too small": (lambda: archive([Entry("big", bytes(1 << 20), central={"size": 10}, local={"size": 10})]), REJECTED),
    "seventy thousand files": (lambda: many(70_000), REJECTED),
    "a count that is too small": (lambda: archive([Entry("a"), Entry("b")], count=2), REJECTED),
    "a wrong checksum": (lambda: archive([Entry("c", central={"crc": 1}, local={"crc": 1})]), REJECTED),
    "a flag of encryption": (lambda: archive([Entry("e", flags=1)]), REJECTED),
    "another compression": (
        lambda: archive([Entry("z", b"x" * 100, method=12, packed=bz2.compress(b"x" * 100))]), REJECTED),
    "a descriptor that disagrees": (lambda: archive([Entry(
        "d", b"x" * 100, flags=8, local={"crc": 0, "size": 0, "packed": 0},
        descriptor=struct.pack("<IIII", 0x08074B50, 1, 2, 3))]), REJECTED),
    "sizes in 64 bits that disagree": (lambda: archive([Entry("z", b"x" * 10, extra=zip64_extra(1 << 40, 1 << 40))]), REJECTED),
    "a part of many disks": (lambda: archive([Entry("d")], disk=7), REJECTED),
    "an archive in the comment of another": (
        lambda: archive([Entry("first")], comment=archive([Entry("second")])), REJECTED),
    "a script before the archive": (lambda: b"#!/bin/sh\nexit 7\n" + archive([Entry("a")]), REJECTED),
    "bytes behind the archive": (lambda: archive([Entry("a")]) + b"trailing", REJECTED),
    "bytes before the directory": (lambda: archive([Entry("a")], between=b"between" * 9), REJECTED),
    "half an archive": (lambda: archive([Entry("a")])[:-30], REJECTED),
    "an archive in an archive": (lambda: archive([Entry("inner.zip", archive([Entry("../" + ESCAPED)]))]), INERT),
    "a tar archive": (as_tar, REJECTED),
}
