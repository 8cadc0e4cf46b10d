"""A real Debian base with layers above it, made in the test run from the machine's own package sources.

Layers, bottom first:
  0 base      mmdebstrap's tar as it is
  1 installs  packages, setuid, file capabilities, devices (written by umoci)
  2 changes   deletions, replaced types, hard links across directories, owners and times (written by umoci)
  3 sparse    GNU tar: 2 GiB sparse, many islands, long names, 0 bytes; in PAX form 0.1, since umoci 0.4.7 does not
              know the old GNU form, which the image `stackable` has
  4 posix     GNU tar, --format=posix: sparse 1.0, xattrs, capabilities, names that are no UTF-8, nanoseconds
  5 markers   opaque directories, whiteouts, odd types, exact times (Python)
  6 links     hard links to files of lower layers (Python); the one layer that overlayfs cannot express
"""

import datetime
import glob
import json
import os
import shutil
import stat
import subprocess

from . import extract
from .layers import TarLayer
from .oci import CREATED, Layer, Layout

GIB = 1 << 30
NOT_UTF8 = b"odd/latin1-\xe9\xff\x01name"
LONGEST = "n" * 255
IMPLICIT = ("opt/implicit/deep", "opt/implicit")  # folders without an entry in any layer
KINDS = ("gzip", "gzip-members", "zstd", "zstd-frames")
# The same capability as setcap cap_net_bind_service=ep writes, revision 2.
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def _run(*command, **options):
    """Runs a program; its output is shown only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    if done.returncode != 0:
        text = done.stdout.decode("utf-8", "replace")[-4000:]
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {' '.join(map(str, command))}\n{text}")
    return done.stdout


def apt_sources():
    """The files that say where this machine gets its packages from."""
    paths = ["/etc/apt/sources.list"] + sorted(
        glob.glob("/etc/apt/sources.list.d/*.list") + glob.glob("/etc/apt/sources.list.d/*.sources"))
    return [path for path in paths if os.path.isfile(path) and os.path.getsize(path) > 0]


def release_name():
    with open("/etc/os-release", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("VERSION_CODENAME="):
                return line.split("=", 1)[1].strip().strip('"')
    raise RuntimeError("/etc/os-release has no VERSION_CODENAME; the images are made of this release's packages")


def _make_base(raw):
    _run("mmdebstrap", "--variant=essential", "--mode=root", "--dpkgopt=path-exclude=/usr/share/man/*",
         "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
         release_name(), raw, *apt_sources())


def _download(work, *packages):
    folder = work + "/packages"
    os.makedirs(folder, exist_ok=True)
    _run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages, cwd=folder)
    return sorted(glob.glob(folder + "/*.deb"))


def _apply_installs(root, packages):
    for package in packages:
        shutil.copy(package, root + "/tmp")
    _run("chroot", root, "/bin/sh", "-c", "dpkg --force-depends -i /tmp/*.deb && rm -f /tmp/*.deb",
         env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"})
    os.makedirs(root + "/opt/installed/bin")
    shutil.copy(root + "/bin/cat", root + "/opt/installed/bin/setuid-cat")
    os.chown(root + "/opt/installed/bin/setuid-cat", 0, 42)
    os.chmod(root + "/opt/installed/bin/setuid-cat", 0o6755)
    shutil.copy(root + "/bin/echo", root + "/opt/installed/bin/capable")
    os.setxattr(root + "/opt/installed/bin/capable", "security.capability", CAPABILITY)
    os.setxattr(root + "/opt/installed", "user.note", b"a value with \0 and \xff in it")
    os.mknod(root + "/opt/installed/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root + "/opt/installed/block", stat.S_IFBLK | 0o640, os.makedev(259, 70000))
    os.mkfifo(root + "/opt/installed/fifo", 0o620)
    for name in ("file-to-directory", "file-to-link", "file-kept"):
        _write(root, f"opt/installed/{name}", f"{name} of the installs layer\n")
    for name in ("directory-to-file", "directory-to-link", "directory-emptied", "directory-gone"):
        os.makedirs(f"{root}/opt/installed/{name}/below")
        _write(root, f"opt/installed/{name}/below/file", name)
    os.symlink("file-kept", root + "/opt/installed/link-to-directory")
    os.makedirs(root + "/opt/wide")
    for number in range(1500):
        _write(root, f"opt/wide/{number:04}", f"{number}\n" * (number % 7))


def _write(root, name, text):
    with open(f"{root}/{name}", "w", encoding="utf-8") as stream:
        stream.write(text)


def _apply_changes(root):
    top = root + "/opt/installed/"
    os.unlink(top + "file-to-directory")
    os.makedirs(top + "file-to-directory/new")
    _write(root, "opt/installed/file-to-directory/new/file", "was a file")
    os.unlink(top + "file-to-link")
    os.symlink("file-kept", top + "file-to-link")
    for name in ("directory-to-file", "directory-to-link", "directory-gone"):
        shutil.rmtree(top + name)
    shutil.rmtree(top + "directory-emptied/below")
    _write(root, "opt/installed/directory-to-file", "was a directory")
    os.symlink("/etc", top + "directory-to-link")
    os.unlink(top + "link-to-directory")
    os.makedirs(top + "link-to-directory/inside")
    os.makedirs(root + "/opt/links/a/b")
    os.makedirs(root + "/opt/links/c")
    _write(root, "opt/links/a/b/first", "one inode, three names\n")
    os.link(root + "/opt/links/a/b/first", root + "/opt/links/c/second")
    os.link(root + "/opt/links/a/b/first", root + "/opt/links/third")
    shutil.rmtree(root + "/usr/share/zoneinfo", ignore_errors=True)
    for number in range(0, 1500, 3):
        os.unlink(f"{root}/opt/wide/{number:04}")
    os.chown(root + "/opt/wide", 3_000_000_000, 4_000_000_000)
    os.chmod(root + "/opt/wide/0001", 0o4511)
    os.utime(root + "/opt/wide/0002", ns=(0, -86_400_000_000_000))


def _sparse(path, size, *islands):
    with open(path, "wb") as stream:
        stream.truncate(size)
        for offset, data in islands:
            stream.seek(offset)
            stream.write(data)


def _sparse_layer(raw, folder):
    os.makedirs(folder + "/odd")
    # Two islands; the gaps are holes. 40 islands need continuation headers of the old GNU form.
    _sparse(folder + "/odd/sparse-2g", 2 * GIB, (0, b"start"), (GIB + 4096, b"x" * 10_000))
    _sparse(folder + "/odd/sparse-many", 40 * 65536 + 77, *((n * 65536, bytes([n + 1]) * 4096) for n in range(40)))
    _write(folder, "odd/" + LONGEST, "a name of 255 bytes")
    deep = "odd/" + "/".join(["d" * 60] * 5)
    os.makedirs(f"{folder}/{deep}")
    _write(folder, deep + "/file", "a path over 255 bytes")
    os.symlink("t" * 1000, folder + "/odd/long-target")
    _write(folder, "odd/empty", "")
    common = ("--sparse", "--sort=name", "--numeric-owner", "--mtime=@1600000000", "-C", folder, "odd")
    _run("tar", "--format=posix", "--sparse-version=0.1", "-cf", raw, *common)
    _run("tar", "--format=gnu", "-cf", raw + ".gnu", *common)


def _posix_layer(raw, folder):
    os.makedirs(folder + "/odd/xattrs")
    _sparse(folder + "/odd/sparse-pax", 64 << 20, (1 << 20, b"y" * 5000), ((64 << 20) - 3, b"end"))
    os.close(os.open(folder.encode() + b"/" + NOT_UTF8, os.O_CREAT | os.O_WRONLY, 0o604))
    path = folder + "/odd/xattrs/file"
    _write(folder, "odd/xattrs/file", "has xattrs")
    os.setxattr(path, "user.big", bytes(range(256)) * 12)
    os.setxattr(path, "user.text", "grün".encode())
    os.setxattr(path, "security.capability", CAPABILITY)
    os.utime(path, ns=(1_111_111_111_222_333_444,) * 2)
    _run("tar", "--format=posix", "--sparse", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*",
         "-C", folder, "-cf", raw, "odd")


def _markers_layer(raw, _folder):
    with TarLayer(raw) as layer:
        layer.directory("opt", mtime="1500000000.000000001")
        layer.directory("opt/wide", mode=0o710, uid=7, gid=8).opaque("opt/wide")
        layer.file("opt/wide/only", b"all that is left\n").file("opt/wide/0001", b"new under an opaque directory\n")
        layer.whiteout("opt/installed/file-kept")
        layer.file("opt/implicit/deep/file", b"its directories have no entries\n")
        layer.file("opt/times/before-1970", b"", mtime="-123456789.5").directory("opt/times", mtime="4102444800")
        layer.file("opt/ids", b"", uid=4_294_967_294, gid=4_000_000_000, mode=0o7777)
        layer.file(b"opt/\xff\xfe", b"not UTF-8 either")
        layer.device("opt/tty", "char", 4, 300).fifo("opt/pipe").symlink("opt/dangling", "/nowhere/at/all")
        layer.symlink("opt/self", "self").hardlink("opt/self-again", "opt/self")


def _links_layer(raw, _folder):
    with TarLayer(raw) as layer:
        layer.directory("opt/joined", mtime="1500000001.5")
        layer.hardlink("opt/joined/first-again", "opt/links/a/b/first")
        layer.hardlink("opt/joined/empty-again", "odd/empty")
        layer.directory("opt", mtime="1500000002.25")  # last, since umoci does not give a folder its time back


def _umoci_layers(work, raws):
    """Applies the first two changes to an unpacked bundle and lets umoci write the layers; their (raw, blob) pairs."""
    layout = Layout(work + "/umoci")
    layout.tag(layout.put_image([Layer(raws[0])]), "base")
    bundle = work + "/bundle"
    packages = _download(work, "busybox-static", "bubblewrap", "libcap2-bin", "libcap2", "tzdata")
    _run("umoci", "unpack", "--image", layout.path + ":base", bundle)
    _apply_installs(bundle + "/rootfs", packages)
    _run("umoci", "repack", "--refresh-bundle", "--image", layout.path + ":installs", bundle)
    _apply_changes(bundle + "/rootfs")
    _run("umoci", "repack", "--image", layout.path + ":changes", bundle)
    shutil.rmtree(bundle)
    with open(layout.path + "/index.json", encoding="utf-8") as stream:
        index = json.load(stream)
    digest = [m["digest"] for m in index["manifests"] if "changes" in m.get("annotations", {}).values()][-1]
    blobs = [layout.blob_path(layer["digest"]) for layer in layout.document(digest)["layers"]]
    for raw, blob in zip(raws[1:3], blobs[1:]):
        with open(raw, "wb") as out:
            subprocess.run(["gzip", "-dc", blob], stdout=out, check=True)
    return blobs


def make(folder):
    """Writes `folder`/layout (tags gzip, gzip-members, zstd, zstd-frames, stackable) and the reference trees
    `folder`/umoci/rootfs (of the first four) and `folder`/layers/N (of stackable, in overlayfs's form)."""
    work = folder + "/work"
    os.makedirs(work)
    raws = [f"{work}/{number}.tar" for number in range(7)]
    _make_base(raws[0])
    blobs = _umoci_layers(work, raws)
    for number, write in ((3, _sparse_layer), (4, _posix_layer), (5, _markers_layer), (6, _links_layer)):
        os.makedirs(f"{work}/{number}")
        write(raws[number], f"{work}/{number}")
    layout = Layout(folder + "/layout")
    for kind in KINDS:
        ready = dict(enumerate(blobs)) if kind == "gzip" else {}
        image = [Layer(raw, kind, ready.get(number)) for number, raw in enumerate(raws)]
        layout.tag(layout.put_image(image), kind)
    stackable = raws[:3] + [raws[3] + ".gnu"] + raws[4:6]
    layout.tag(layout.put_image([Layer(raw) for raw in stackable]), "stackable")
    _run("umoci", "unpack", "--image", layout.path + ":gzip", folder + "/umoci")
    _finish_reference(folder + "/umoci/rootfs")
    extract.layers(stackable, folder + "/layers")
    _set_implicit_times(folder + "/layers/5")
    shutil.rmtree(work)


def _finish_reference(root):
    # umoci writes holes as zeros: the same bytes, but 2 GiB of disk.
    sparse = root + "/odd/sparse-2g"
    before = os.lstat(sparse).st_mtime_ns
    _run("fallocate", "--dig-holes", sparse)
    os.utime(sparse, ns=(before, before))
    _set_implicit_times(root)


def _set_implicit_times(root):
    """Unpackers leave the present time on folders that no layer has an entry for; lamina has the image's own."""
    created = int(datetime.datetime.fromisoformat(CREATED).timestamp())
    for name in IMPLICIT:
        os.utime(f"{root}/{name}", (created, created))
