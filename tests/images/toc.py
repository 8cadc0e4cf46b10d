"""Images whose layers carry tables of contents, made of one plain image by the tools that Debian has for them.

    layouts/plain           two layers in plain gzip; everything else is made of it
    layouts/estargz         ctr-remote image convert --estargz
    layouts/estargz-64k     the same with chunks of 64 KiB
    layouts/stargz-zstd     ctr-remote image convert --zstdchunked
    layouts/chunked         buildah push --compression-format zstd:chunked
    layouts/legacy          estargz with the footer of the first stargz, which no tool writes any more
    layouts/external        estargz with its tables in another image, layouts/external-toc: Debian's ctr-remote cannot yet
    layouts/chunked-new     chunked with the footer and the annotations that containers/storage writes since 2023

Each holds its image under the tag "image". raw/N.tar are the layers as they were before any tool.
"""

import gzip
import json
import io
import os
import random
import shutil
import subprocess
import tarfile
import time
import zlib

from .layers import TarLayer
from .oci import IMAGE_CONFIG, IMAGE_MANIFEST, LAYER, Layer, Layout, sha256_of

TAG = "image"
CAPABILITY = bytes([1, 0, 0, 2, 0, 0x20]) + bytes(14)
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
LAYER_DIGEST = "containerd.io/snapshot/stargz/layer.digest"
OLD_PREFIX = "io.containers.zstd-chunked."
NEW_PREFIX = "io.github.containers.zstd-chunked."
TOC_NAME = "stargz.index.json"


def _bottom(path):
    noise = random.Random(4)
    with TarLayer(path) as layer:
        layer.directory("./").directory("etc", mode=0o1777, uid=5, gid=6).file("etc/empty")
        layer.file("etc/big", bytes(noise.choices(b"abcdefgh \n", k=5 << 20)), mode=0o4755, uid=1000, gid=1000,
                   xattrs={"user.colour": "blü".encode(), "security.capability": CAPABILITY})
        layer.hardlink("etc/big-again", "etc/big").symlink("etc/link", "../etc/empty")
        layer.file("zeros/around", b"A" * 1000 + bytes(3 << 20) + b"B" * 5000 + bytes(70000))
        layer.file("zeros/only", bytes(200000)).file("zeros/page", bytes(4096))
        layer.device("dev/null", "char", 1, 3).device("dev/disk", "block", 8, 1).fifo("dev/pipe")
        for number in range(300):
            layer.file(f"many/file-{number:03}", f"{number}\n".encode() * number)
        layer.file("no/folders/of/its/own", b"deep").file("n" * 200 + "/" + "m" * 120, b"long")
        layer.file("times/before", b"x", mtime="-1.5").file("times/late", b"y", mtime="1700000000.9999")
        layer.file("times/start", b"z", mtime="0").file("times/half", b"h", mtime="12.5")
        layer.file("gone", b"gone").file("hidden/below", b"below")
        layer.file("owner", b"o", uid=2000000, gid=3000000)


def _top(path):
    with TarLayer(path) as layer:
        layer.file("new", b"hello " * 10).whiteout("gone").opaque("hidden").file("hidden/above", b"x" * 70000)
        layer.file("etc/empty", b"not any more")


def _plain(folder):
    os.makedirs(folder + "/raw")
    raws = [f"{folder}/raw/{number}.tar" for number in (0, 1)]
    _bottom(raws[0])
    _top(raws[1])
    layout = Layout(folder + "/layouts/plain")
    layout.tag(layout.put_image([Layer(raw) for raw in raws]), TAG)


def manifest_of(layout):
    """The manifest of the one image of a layout, whatever indexes lie before it."""
    with open(layout.path + "/index.json", encoding="utf-8") as stream:
        document = json.load(stream)
    while "manifests" in document:
        document = layout.document(document["manifests"][0]["digest"])
    return document


def blob_of(layout, digest):
    with open(layout.blob_path(digest), "rb") as stream:
        return stream.read()


class Containerd:
    """A containerd with folders and a socket of its own, for as long as the block lasts. It starts no container."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        os.makedirs(self.folder)
        with open(self.folder + "/config.toml", "w", encoding="ascii") as config:
            config.write(f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n'
                         'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        with open(self.folder + "/log", "wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "containerd", "--config", self.folder + "/config.toml",
                 "--address", self.folder + "/socket"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(600):
            if subprocess.run(self._command("version"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.__exit__()
        with open(self.folder + "/log", encoding="utf-8") as log:
            raise RuntimeError("containerd does not answer: " + log.read()[-2000:])

    def __exit__(self, *unused):
        self._process.terminate()
        self._process.wait()

    def _command(self, *words):
        return ["ctr-remote", "--address", self.folder + "/socket", *words]

    def run(self, *words):
        subprocess.run(self._command(*words), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def bring(self, layout, name):
        """Imports a layout; its image is then called NAME:TAG."""
        archive = self.folder + "/import.tar"
        subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
        self.run("image", "import", "--no-unpack", "--base-name", name, archive)

    def take(self, name, layout):
        """Exports an image into a layout, as its image TAG."""
        archive, unpacked = self.folder + "/export.tar", self.folder + "/unpacked"
        self.run("image", "export", archive, name)
        shutil.rmtree(unpacked, ignore_errors=True)
        os.makedirs(unpacked)
        subprocess.run(["tar", "-C", unpacked, "-xf", archive], check=True)
        rewrite(Layout(unpacked), layout, lambda blob, layer: (blob, layer))


def rewrite(source, target, change, config=None):
    """An image in the layout folder `target` like the one of `source`, each layer by change(blob, descriptor)."""
    manifest = manifest_of(source)
    layout = Layout(target)
    layers = []
    for old in manifest["layers"]:
        blob, descriptor = change(blob_of(source, old["digest"]), dict(old))
        layers.append({**descriptor, **layout.put(blob, descriptor["mediaType"])})
    document = json.loads(blob_of(source, manifest["config"]["digest"]))
    if config:
        config(document, [blob_of(layout, layer["digest"]) for layer in layers])
    layout.tag(layout.put_json({
        "schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": layout.put_json(document, IMAGE_CONFIG), "layers": layers,
    }, IMAGE_MANIFEST), TAG)


def _convert(folder):
    with Containerd(folder + "/containerd") as containerd:
        containerd.bring(folder + "/layouts/plain", "toc")
        for name, options in (("estargz", ["--estargz"]), ("estargz-64k", ["--estargz", "--estargz-chunk-size", "65536"]),
                              ("stargz-zstd", ["--zstdchunked"])):
            containerd.run("image", "convert", *options, "--oci", f"toc:{TAG}", name)
            containerd.take(name, f"{folder}/layouts/{name}")
    shutil.rmtree(folder + "/containerd")


def _push_chunked(folder):
    storage = folder + "/storage"
    buildah = ["buildah", "--root", storage + "/root", "--runroot", storage + "/run", "--storage-driver", "vfs"]
    # buildah makes a name of the layout's path, so this is relative: a hidden folder makes no valid one.
    quiet = {"check": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "cwd": folder}
    image = subprocess.run([*buildah, "pull", f"oci:layouts/plain:{TAG}"], **quiet).stdout.split()[-1]
    subprocess.run([*buildah, "push", "--compression-format", "zstd:chunked", image, f"oci:storage/out:{TAG}"], **quiet)
    rewrite(Layout(storage + "/out"), folder + "/layouts/chunked", lambda blob, layer: (blob, layer))
    shutil.rmtree(storage)


def _gzip_footer(extra):
    """An empty gzip member with this extra field."""
    return (bytes([0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 0xFF]) + len(extra).to_bytes(2, "little") + extra
            + b"\x01\x00\x00\xff\xff" + bytes(8))


def toc_offset(blob):
    """Where the table of an eStargz blob begins."""
    return int(blob[-35:-19], 16)


def legacy_of(blob, layer):
    return blob[:-51] + _gzip_footer(b"%016xSTARGZ" % toc_offset(blob)), layer


def external_of(blob, layer):
    magic = b"STARGZEXTERNALTOC"
    return blob[:toc_offset(blob)] + _gzip_footer(b"SG" + len(magic).to_bytes(2, "little") + magic), layer


def table_of(blob):
    """The JSON of an eStargz blob's table."""
    tar = zlib.decompressobj(31).decompress(blob[toc_offset(blob):])
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.extractfile(TOC_NAME).read()


def with_table(change):
    """For rewrite(): the table of an eStargz layer as change(document) leaves it, named by the manifest."""
    def rewritten(blob, layer):
        document = json.loads(table_of(blob))
        change(document)
        table = json.dumps(document).encode()
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            info = tarfile.TarInfo(TOC_NAME)
            info.size = len(table)
            archive.addfile(info, io.BytesIO(table))
        offset = toc_offset(blob)
        layer["annotations"] = {**layer["annotations"], TOC_DIGEST: sha256_of(table)}
        return blob[:offset] + gzip.compress(tar.getvalue(), mtime=0) + blob[-51:], layer
    return rewritten


def with_chunked_table(change):
    """The same for a layer that buildah wrote."""
    def rewritten(blob, layer):
        notes = layer["annotations"]
        offset, length = map(int, notes[OLD_PREFIX + "manifest-position"].split(":")[:2])
        unpacked = subprocess.run(["zstd", "-qdc"], input=blob[offset:offset + length], stdout=subprocess.PIPE, check=True).stdout
        document = json.loads(unpacked)
        change(document)
        table = json.dumps(document).encode()
        packed = subprocess.run(["zstd", "-qc"], input=table, stdout=subprocess.PIPE, check=True).stdout
        position = b"".join(number.to_bytes(8, "little") for number in (offset, len(packed), len(table), 1))
        layer["annotations"] = {OLD_PREFIX + "manifest-checksum": sha256_of(packed),
                                OLD_PREFIX + "manifest-position": f"{offset}:{len(packed)}:{len(table)}:1"}
        return blob[:offset - 4] + len(packed).to_bytes(4, "little") + packed + blob[-48:-40] + position + blob[-8:], layer
    return rewritten


def chunked_new_of(blob, layer):
    """Another footer, and a position that only it has. A tar-split frame, of which nothing is asked, stands before it."""
    notes = layer["annotations"]
    old = blob[-40:]
    split = b"tar-split"
    body = blob[:-48] + b"\x50\x2a\x4d\x18" + len(split).to_bytes(4, "little")
    footer = old[:32] + len(body).to_bytes(8, "little") + len(split).to_bytes(8, "little") + bytes(8) + b"GNUlInUx"
    layer["annotations"] = {NEW_PREFIX + "manifest-checksum": notes[OLD_PREFIX + "manifest-checksum"]}
    return body + split + b"\x50\x2a\x4d\x18" + len(footer).to_bytes(4, "little") + footer, layer


def _members(blob):
    """What all gzip members decode to."""
    return gzip.decompress(blob)


def set_diff_ids(config, blobs):
    """For rewrite(): the config names the gzip layers as they are now."""
    config["rootfs"]["diff_ids"] = [sha256_of(_members(blob)) for blob in blobs]


def _external_toc(folder):
    """The image that carries the tables of layouts/external: a layer for each, with the digest of the one it is for."""
    source = Layout(folder + "/layouts/estargz")
    layout = Layout(folder + "/layouts/external-toc")
    layers, diff_ids = [], []
    of_layers = manifest_of(Layout(folder + "/layouts/external"))["layers"]
    for described, beside in zip(manifest_of(source)["layers"], of_layers):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            table = table_of(blob_of(source, described["digest"]))
            info = tarfile.TarInfo(TOC_NAME)
            info.size = len(table)
            tar.addfile(info, io.BytesIO(table))
        diff_ids.append(sha256_of(raw.getvalue()))
        descriptor = layout.put(gzip.compress(raw.getvalue(), mtime=0), LAYER + "+gzip")
        layers.append({**descriptor, "annotations": {LAYER_DIGEST: beside["digest"]}})
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    layout.tag(layout.put_json({
        "schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": layout.put_json(config, IMAGE_CONFIG), "layers": layers,
    }, IMAGE_MANIFEST), TAG)


def make(folder):
    _plain(folder)
    _convert(folder)
    _push_chunked(folder)
    estargz = Layout(folder + "/layouts/estargz")
    rewrite(estargz, folder + "/layouts/legacy", legacy_of)
    rewrite(estargz, folder + "/layouts/external", external_of, set_diff_ids)
    _external_toc(folder)
    rewrite(Layout(folder + "/layouts/chunked"), folder + "/layouts/chunked-new", chunked_new_of)
