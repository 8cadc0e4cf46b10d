"""Walks two trees and tells how they differ, entry by entry. Paths are bytes throughout."""

import collections
import errno
import hashlib
import os
import stat

LIMIT = 30  # differences that a report shows
# Attributes that belong to the file system and not to the image.
HIDDEN_XATTRS = ("user.lamina.", "trusted.overlay.", "security.selinux")

Entry = collections.namedtuple("Entry", "type mode uid gid size mtime_ns nlink device target xattrs digest")
Options = collections.namedtuple("Options", "nlink directory_nlink content whole_seconds", defaults=(True, True, True, False))


def _xattrs(path):
    pairs = []
    for name in os.listxattr(path, follow_symlinks=False):
        text = name if isinstance(name, str) else os.fsdecode(name)
        if not text.startswith(HIDDEN_XATTRS):
            pairs.append((text, os.getxattr(path, name, follow_symlinks=False)))
    return tuple(sorted(pairs))


def digest_of(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole_seconds(nanoseconds):
    """As writers of eStargz round times, who have no word for the first second of 1970 but its start."""
    return 0 if 0 <= nanoseconds < 10**9 else (nanoseconds + 5 * 10**8) // 10**9 * 10**9


def _entry(path, status, options):
    kind = stat.S_IFMT(status.st_mode)
    device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    is_folder = kind == stat.S_IFDIR
    return Entry(
        type=kind,
        mode=stat.S_IMODE(status.st_mode) if kind != stat.S_IFLNK else 0,
        uid=status.st_uid,
        gid=status.st_gid,
        size=0 if is_folder else status.st_size,
        mtime_ns=_whole_seconds(status.st_mtime_ns) if options.whole_seconds else status.st_mtime_ns,
        nlink=status.st_nlink if (options.directory_nlink if is_folder else options.nlink) else 0,
        device=(os.major(device), os.minor(device)),
        target=os.readlink(path) if kind == stat.S_IFLNK else b"",
        xattrs=_xattrs(path),
        digest=digest_of(path) if kind == stat.S_IFREG and options.content else "",
    )


def walk(root):
    """All paths below a root, itself first (as b"."), relative to it, with their stat."""
    root = os.fsencode(root)
    yield b".", os.lstat(root)
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                relative = os.path.join(folder, entry.name)
                status = os.lstat(os.path.join(root, relative))
                if stat.S_ISDIR(status.st_mode):
                    pending.append(relative)
                yield relative, status


def snapshot(root, options=Options()):
    """path -> Entry, and the groups of names that are one inode."""
    entries, inodes = {}, collections.defaultdict(list)
    for relative, status in walk(root):
        entries[relative] = _entry(os.path.join(os.fsencode(root), relative), status, options)
        if not stat.S_ISDIR(status.st_mode):
            inodes[(status.st_dev, status.st_ino)].append(relative)
    groups = {tuple(sorted(names)) for names in inodes.values() if len(names) > 1}
    return entries, groups


def _entry_differences(path, expected, actual):
    for field in Entry._fields:
        want, got = getattr(expected, field), getattr(actual, field)
        if want != got:
            yield f"{path!r}: {field} is {_short(got)}, should be {_short(want)}"


def _short(value):
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def differences(expected_root, actual_root, options=Options()):
    """A list of sentences; empty where the trees are equal."""
    expected, expected_groups = snapshot(expected_root, options)
    actual, actual_groups = snapshot(actual_root, options)
    found = [f"{path!r} is missing" for path in sorted(expected.keys() - actual.keys())]
    found += [f"{path!r} should not be there" for path in sorted(actual.keys() - expected.keys())]
    for path in sorted(expected.keys() & actual.keys()):
        found += _entry_differences(path, expected[path], actual[path])
    found += [f"{group!r} should be hard links of one file" for group in sorted(expected_groups - actual_groups)]
    found += [f"{group!r} should not be hard links of one file" for group in sorted(actual_groups - expected_groups)]
    return found


def assert_equal(test, expected_root, actual_root, options=Options()):
    """Fails the test with the first differences. A tree of nothing proves nothing, so it must hold something."""
    found = differences(expected_root, actual_root, options)
    if found:
        more = f"\n… and {len(found) - LIMIT} more" if len(found) > LIMIT else ""
        test.fail(f"{actual_root} differs from {expected_root} in {len(found)} places:\n" +
                  "\n".join(found[:LIMIT]) + more)
    test.assertGreater(len(os.listdir(actual_root)), 0, "an empty tree shows nothing")


def data_regions(path):
    """[begin, end) of the data that SEEK_DATA and SEEK_HOLE tell."""
    regions = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size, offset = os.fstat(descriptor).st_size, 0
        while offset < size:
            try:
                begin = os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError as problem:
                if problem.errno == errno.ENXIO:
                    break
                raise
            offset = os.lseek(descriptor, begin, os.SEEK_HOLE)
            regions.append((begin, offset))
        return regions
    finally:
        os.close(descriptor)
