"""Unpacks raw layers with GNU tar, each into a folder of its own in the form that overlayfs keeps layers in:
whiteouts as character devices 0/0, opaque directories with trusted.overlay.opaque."""

import os
import subprocess
import tarfile


def _survey(raw):
    """Folders that a layer uses and has no entry for, parents first; and the whiteouts that umoci writes below what
    replaced a folder ("a" is a file and "a/.wh.b" is there too), which have nothing left to delete."""
    folders, others, used, whiteouts = set(), set(), set(), []
    with tarfile.open(raw, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        for entry in tar:
            name = os.path.normpath("/" + entry.name)
            (folders if entry.isdir() else others).add(name)
            if os.path.basename(name).startswith(".wh."):
                whiteouts.append((name, entry.name))
            while name != "/":
                name = os.path.dirname(name)
                used.add(name)
    idle = [as_written for name, as_written in whiteouts if os.path.dirname(name) in others]
    return sorted(used - folders - others), idle


def _copy_attributes(source, target):
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _turn_markers(folder):
    """Replaces .wh. names; keeps the times of the folders that hold them."""
    for path, _, files in os.walk(folder):
        markers = [name for name in files if name.startswith(".wh.")]
        if not markers:
            continue
        before = os.lstat(path).st_mtime_ns
        for name in markers:
            os.unlink(os.path.join(path, name))
            if name == ".wh..wh..opq":
                os.setxattr(path, "trusted.overlay.opaque", b"y")
            elif not os.path.lexists(os.path.join(path, name[4:])):
                os.mknod(os.path.join(path, name[4:]), 0o020000, os.makedev(0, 0))
        os.utime(path, ns=(before, before))


def _attribute_source(folders, name):
    """The topmost lower layer that has this folder, nothing where none has."""
    for folder in reversed(folders):
        path = folder + name
        if os.path.isdir(path) and not os.path.islink(path):
            return path
    return None


def layers(raws, folder):
    """Unpacks raws[i] to `folder`/i."""
    done = []
    for number, raw in enumerate(raws):
        target = f"{folder}/{number}"
        os.makedirs(target)
        implicit, idle = _survey(raw)
        subprocess.run([
            "tar", "--anchored", "--no-wildcards", *(f"--exclude={name}" for name in idle),
            "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "--same-permissions",
            "--warning=no-timestamp", "--warning=no-unknown-keyword",
            "--delay-directory-restore", "-xf", raw, "-C", target,
        ], check=True)
        _turn_markers(target)
        # A folder without an entry keeps the attributes that it has below; overlayfs shows the topmost folder's.
        for name in implicit:
            source = _attribute_source(done, name)
            if source:
                _copy_attributes(source, target + ("" if name == "/" else name))
        done.append(target)
    return [f"{folder}/{number}" for number in range(len(raws))]
