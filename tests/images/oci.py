"""Writes OCI image layouts with the standard library alone (zstd by the zstd program).

A layer is a raw tar file on disk; an image is a list of them, each with a way to compress it.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import zlib

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "2026-01-02T03:04:05Z"
PIECE = 1 << 20  # bytes of the raw tar in one member or frame of the -members and -frames kinds

MEDIA_TYPES = {
    "tar": LAYER,
    "gzip": LAYER + "+gzip",
    "gzip-members": LAYER + "+gzip",
    "zstd": LAYER + "+zstd",
    "zstd-frames": LAYER + "+zstd",
}


def sha256_of_file(path):
    with open(path, "rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _pieces(path, size):
    with open(path, "rb") as stream:
        while piece := stream.read(size):
            yield piece


def _compress_gzip(raw, out):
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    for piece in _pieces(raw, PIECE):
        out.write(packer.compress(piece))
    out.write(packer.flush())


def _compress_gzip_members(raw, out):
    for piece in _pieces(raw, PIECE):
        out.write(gzip.compress(piece, 6, mtime=0))


def _compress_zstd(raw, out):
    out.flush()
    subprocess.run(["zstd", "-q", "-3", "-c", raw], stdout=out, check=True)


def _compress_zstd_frames(raw, out):
    for number, piece in enumerate(_pieces(raw, PIECE)):
        if number % 8 == 3:  # a skippable frame now and then, as tables of contents have
            out.write((0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"skip!")
        out.write(subprocess.run(["zstd", "-q", "-3", "-c"], input=piece, stdout=subprocess.PIPE, check=True).stdout)


def _copy(raw, out):
    with open(raw, "rb") as stream:
        shutil.copyfileobj(stream, out, PIECE)


_COMPRESSORS = {
    "tar": _copy,
    "gzip": _compress_gzip,
    "gzip-members": _compress_gzip_members,
    "zstd": _compress_zstd,
    "zstd-frames": _compress_zstd_frames,
}


class Layer:
    """A raw tar and how it is compressed; `blob` is a ready blob file to use instead of compressing."""

    def __init__(self, raw, kind="gzip", blob=None):
        self.raw = os.fspath(raw)
        self.kind = kind
        self.blob = blob


class Layout:
    """An OCI image layout folder; made where it is not there."""

    def __init__(self, path):
        self.path = os.fspath(path)
        os.makedirs(self.path + "/blobs/sha256", exist_ok=True)
        self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        if not os.path.exists(self.path + "/index.json"):
            self._write("index.json", {"schemaVersion": 2, "manifests": []})

    def _write(self, name, document):
        temporary = f"{self.path}/.{name}.new"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(document, stream)
        os.rename(temporary, f"{self.path}/{name}")

    def blob_path(self, digest):
        return self.path + "/blobs/" + digest.replace(":", "/")

    def put(self, data, media_type):
        """Stores bytes as a blob; its descriptor."""
        digest = sha256_of(data)
        with open(self.blob_path(digest), "wb") as stream:
            stream.write(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def put_json(self, document, media_type):
        return self.put(json.dumps(document, indent=1).encode(), media_type)

    def put_layer(self, layer):
        """Stores a layer's blob; its descriptor."""
        temporary = self.path + "/blobs/.layer.new"
        if layer.blob:
            shutil.copyfile(layer.blob, temporary)
        else:
            with open(temporary, "wb") as out:
                _COMPRESSORS[layer.kind](layer.raw, out)
        digest = sha256_of_file(temporary)
        size = os.path.getsize(temporary)
        os.rename(temporary, self.blob_path(digest))
        return {"mediaType": MEDIA_TYPES[layer.kind], "digest": digest, "size": size}

    def put_image(self, layers, architecture="amd64", config=None):
        """Stores an image of these layers, bottom first; the manifest's descriptor."""
        document = {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": config or {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256_of_file(layer.raw) for layer in layers]},
            "history": [{"created": CREATED, "created_by": f"layer {n}"} for n in range(len(layers))],
        }
        return self.put_json({
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": self.put_json(document, IMAGE_CONFIG),
            "layers": [self.put_layer(layer) for layer in layers],
        }, IMAGE_MANIFEST)

    def put_index(self, images):
        """Stores an index of (manifest descriptor, platform) pairs; its descriptor."""
        return self.put_json({
            "schemaVersion": 2,
            "mediaType": IMAGE_INDEX,
            "manifests": [dict(descriptor, platform=platform) for descriptor, platform in images],
        }, IMAGE_INDEX)

    def tag(self, descriptor, name):
        """Makes `name` name the descriptor in index.json; the descriptor's digest."""
        with open(self.path + "/index.json", encoding="utf-8") as stream:
            index = json.load(stream)
        index["manifests"] = [m for m in index["manifests"] if m.get("annotations", {}).get(REF_NAME) != name]
        index["manifests"].append(dict(descriptor, annotations={REF_NAME: name}))
        self._write("index.json", index)
        return descriptor["digest"]

    def document(self, digest):
        with open(self.blob_path(digest), "rb") as stream:
            return json.load(stream)
