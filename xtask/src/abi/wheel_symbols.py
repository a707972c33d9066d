"""Dynamic symbols of the shared libraries in a Python wheel, without downloading all of it.

usage: wheel_symbols.py [--whole] REQUIREMENT [PATTERN…]
       wheel_symbols.py --files DIRECTORY REQUIREMENT PATTERN…

A wheel is a zip file: pip's own reader of remote wheels fetches its directory and then only the members asked for. Of
a member only the beginning is decompressed: linkers put the tables of dynamic symbols first. `--whole` reads whole
members where the tables are not there (tools that edit a library's paths move them to its end).

`--files` copies the files with these names into a directory, without the folders that they are in.

Prints `member<TAB>D or U<TAB>name<TAB>version`, D for defined and U for undefined, version - where there is none.
"""

import fnmatch
import os
import struct
import subprocess
import sys
import tempfile
from zipfile import ZipFile

from pip._internal.commands.download import DownloadCommand
from pip._internal.network.lazy_wheel import LazyZipOverHTTP
from pip._internal.req.constructors import install_req_from_line

# The tables of the largest libraries are within this much.
HEAD = 4 << 20
# Names that only the C library has.
KNOWN = {b"malloc", b"free", b"memcpy", b"memset", b"strlen", b"abort", b"memmove", b"strcmp", b"getenv", b"printf"}
PLATFORMS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux2010", "manylinux1"]


def link(requirement, session, command, options):
    """The wheel that pip would download."""
    from pip._internal.cli.cmdoptions import make_target_python

    finder = command._build_package_finder(
        options=options, session=session, target_python=make_target_python(options)
    )
    wanted = install_req_from_line(requirement).req
    best = finder.find_best_candidate(wanted.name, wanted.specifier).best_candidate
    if best is None:
        sys.exit(f"{requirement}: the index has no wheel for this")
    return best.link


def elf_hash(name):
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
    return value


class Head:
    """The tables at the beginning of a library, in the order of GNU's linker."""

    def __init__(self, data):
        self.data = data
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("no 64-bit library")
        end = 0
        offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
        end = offset + size * count
        for i in range(count):
            kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", data, offset + i * size)
            if kind == 4:
                end = max(end, at + length)
        self.symbols(self.align(end, 8))

    @staticmethod
    def align(value, to):
        return (value + to - 1) // to * to

    def words(self, at, count):
        return struct.unpack_from(f"<{count}I", self.data, at)

    def symbols(self, at):
        count, end = 0, at
        # Either hash table or both: each tells how many symbols there are.
        for _ in range(2):
            for table in (self.gnu_hash, self.sysv_hash):
                found = table(end)
                if found:
                    count, end = found
                    end = self.align(end, 8)
                    break
        table, strings = end, end + 24 * count
        if count == 0 or any(self.data[table : table + 24]) or self.data[strings] != 0:
            raise ValueError("the symbols are not at the beginning")
        self.strings = strings
        self.entries = [struct.unpack_from("<IBBHQQ", self.data, table + 24 * i) for i in range(count)]
        self.size = max(entry[0] for entry in self.entries)
        versions = strings + self.size + len(self.text(self.size)) + 1
        self.versions(versions, count)

    def gnu_hash(self, at):
        buckets, first, bloom, _ = self.words(at, 4)
        if not 0 < buckets < 1 << 20 or bloom == 0 or bloom & (bloom - 1) or bloom > 1 << 20 or first > 1 << 20:
            return None
        start = at + 16 + 8 * bloom
        last = max(self.words(start, buckets))
        chains = start + 4 * buckets
        if last < first:
            return None
        while self.words(chains + 4 * (last - first), 1)[0] & 1 == 0:
            last += 1
        return last + 1, chains + 4 * (last - first + 1)

    def sysv_hash(self, at):
        buckets, chains = self.words(at, 2)
        if not 0 < buckets < 1 << 20 or not 0 < chains < 1 << 22 or buckets > 4 * chains:
            return None
        return chains, at + 4 * (2 + buckets + chains)

    def text(self, at):
        start = self.strings + at
        return self.data[start : self.data.index(b"\0", start)]

    def versions(self, at, count):
        """`.gnu.version` and the two tables behind it: their hashes of names say that they were found. The end of the
        strings is not known exactly: some names are only the tables'."""
        self.names = {}
        for start in range(self.align(at, 2), min(at + (1 << 16), len(self.data) - 2 * count), 2):
            table = struct.unpack_from(f"<{count}H", self.data, start)
            if table[0] != 0 or max(v & 0x7FFF for v in table) > 200:
                continue
            names = self.tables(self.align(start + 2 * count, 8))
            used = {v & 0x7FFF for v in table} - {0, 1}
            # Padding before the table looks like a part of it. What is known tells: the C library's symbols have its
            # versions, and what this library defines has one of its own.
            known = [v for entry, v in zip(self.entries, table) if self.text(entry[0]) in KNOWN and entry[3] == 0]
            fits = all(names.get(v & 0x7FFF, "GLIBC").startswith("GLIBC") for v in known)
            defined = {v & 0x7FFF for entry, v in zip(self.entries, table) if entry[3] != 0} - {0, 1}
            fits = fits and defined <= self.own
            if used and used <= names.keys() and fits:
                self.names = names
                self.of = table
                return
        self.of = [0] * count

    def tables(self, at):
        names, self.own = {}, set()
        # Names are relative to the strings' beginning; a table that is none ends at its first bad hash.
        end = at
        try:
            for table in (self.definitions, self.needs):
                end = self.align(table(end, names), 8)
        except (struct.error, ValueError):
            pass
        return names

    def definitions(self, at, names):
        start, end = at, at
        while True:
            version, _, index, count, value, aux, following = struct.unpack_from("<HHHHIII", self.data, start)
            if version != 1 or count == 0 or aux == 0:
                return at
            name, _ = self.words(start + aux, 2)
            if elf_hash(self.text(name)) != value:
                return at
            names[index] = self.text(name).decode()
            self.own.add(index)
            end = start + aux + 8 * count
            if following == 0:
                return end
            start += following

    def needs(self, at, names):
        start = at
        while True:
            version, count, _, aux, following = struct.unpack_from("<HHIII", self.data, start)
            if version != 1 or aux == 0:
                return at
            entry = start + aux
            for _ in range(count):
                value, _, other, name, step = struct.unpack_from("<IHHII", self.data, entry)
                if elf_hash(self.text(name)) != value:
                    return at
                names[other & 0x7FFF] = self.text(name).decode()
                entry += step
            if following == 0:
                return entry
            start += following

    def rows(self):
        for (name, info, _, section, _, _), version in zip(self.entries, self.of):
            # Not the tables' own symbols: a name, and global or weak.
            if name and info >> 4 in (1, 2):
                yield "U" if section == 0 else "D", self.text(name).decode(), self.names.get(version & 0x7FFF, "-")


def whole(member):
    """The same of a whole file, by binutils."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        while piece := member.read(1 << 20):
            file.write(piece)
        file.flush()
        text = subprocess.run(["nm", "-D", file.name], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        *_, kind, name = line.split()
        name, _, version = name.replace("@@", "@").partition("@")
        if kind in "UTWVDBRAui" or kind in "wv":
            yield "U" if kind in "Uwv" else "D", name, version or "-"


def main():
    arguments = sys.argv[1:]
    all_of_it = "--whole" in arguments
    arguments = [a for a in arguments if a != "--whole"]
    copies = None
    if arguments[0] == "--files":
        copies, arguments = arguments[1], arguments[2:]
    requirement, patterns = arguments[0], arguments[1:] or ["*"]
    command = DownloadCommand("download", "")
    words = ["--no-deps", "--only-binary", ":all:", requirement]
    for platform in PLATFORMS:
        words += ["--platform", f"{platform}_x86_64"]
    options, _ = command.parse_args(words)
    with command.main_context():
        session = command.get_default_session(options)
        with LazyZipOverHTTP(link(requirement, session, command, options).url_without_fragment, session) as remote:
            for info in ZipFile(remote).infolist():
                file = os.path.basename(info.filename)
                if not any(fnmatch.fnmatch(file, p) for p in patterns):
                    continue
                if copies is not None:
                    with open(os.path.join(copies, file), "wb") as out:
                        out.write(ZipFile(remote).read(info))
                    continue
                if ".so" not in file:
                    continue
                with ZipFile(remote).open(info) as member:
                    head = member.read(HEAD)
                    if head[:4] != b"\x7fELF":
                        continue
                    try:
                        rows = list(Head(head).rows())
                    except (ValueError, struct.error, IndexError) as error:
                        if not all_of_it:
                            sys.exit(f"{info.filename}: {error}")
                        with ZipFile(remote).open(info) as again:
                            rows = list(whole(again))
                for kind, name, version in rows:
                    print(info.filename, kind, name, version, sep="\t")


main()
