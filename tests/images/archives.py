"""docker-archive files written by hand: the forms that no tool at hand writes, and broken ones."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

from .layers import TarLayer


def layer_tar(path, files):
    """A layer of {name: bytes} as raw bytes; the tar is left at `path`."""
    with TarLayer(path) as layer:
        folders = set()
        for name, data in files.items():
            folder = os.path.dirname(name)
            if folder and folder not in folders:
                folders.add(folder)
                layer.directory(folder)
            layer.file(name, data)
    with open(path, "rb") as stream:
        return stream.read()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def config_of(raws):
    """The config of an image of these raw layers, as bytes."""
    return json.dumps({"architecture": "amd64", "os": "linux", "created": "2024-05-06T07:08:09Z",
                       "config": {"Cmd": ["/bin/sh"]},
                       "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(raw) for raw in raws]}}).encode()


class ArchiveWriter:
    """An archive member by member. Everything has one time, so that the same members are the same bytes."""

    def __init__(self, path):
        self.path = path
        self._tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._tar.close()

    def file(self, name, data):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))
        return name

    def link(self, name, target, kind=tarfile.SYMTYPE):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        self._tar.addfile(member)
        return name

    def json(self, name, document):
        return self.file(name, json.dumps(document).encode())


def save(path, images):
    """As `docker save`: images are (tags, [raw layer, …]) pairs; the image ids."""
    listed, ids, written = [], [], set()
    with ArchiveWriter(path) as archive:
        for tags, raws in images:
            config = config_of(raws)
            ids.append("sha256:" + sha256(config))
            names = [sha256(raw) + "/layer.tar" for raw in raws]
            for name, raw in zip(names, raws):
                if name not in written:
                    written.add(name)
                    archive.file(name, raw)
            archive.file(sha256(config) + ".json", config)
            listed.append({"Config": sha256(config) + ".json", "RepoTags": tags, "Layers": names})
        archive.json("manifest.json", listed)
    return ids


def pack(data, kind):
    """gzip or zstd of bytes."""
    if kind == "gzip":
        return gzip.compress(data, mtime=0)
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
