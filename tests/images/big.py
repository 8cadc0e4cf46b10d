"""A layer of 100 MB with many files of 4 KiB, incompressible in its first part and compressible in its second."""

import json
import os
import random
import zlib

from .layers import TarLayer
from .oci import Layer, Layout

FILES = {"random": 24_000, "plain": 12_000}
SIZE = 4096
KINDS = ("gzip", "zstd-frames")


def random_bytes(number):
    return random.Random(number).randbytes(SIZE)


def plain_bytes(number):
    words = random.Random(number).choices(("mount ", "image ", "layer ", "chunk ", f"{number} "), k=SIZE // 5)
    return "".join(words).encode()[:SIZE].ljust(SIZE, b".")


def path_of(sort, number):
    """The name of a file in the image: `sort` is "random" or "plain"."""
    return f"data/{sort}/{number // 100:03}/{number:05}"


def content_of(sort, number):
    return random_bytes(number) if sort == "random" else plain_bytes(number)


def _packed_size(raw, start, end):
    packer, size = zlib.compressobj(6, zlib.DEFLATED, 31), 0
    with open(raw, "rb") as stream:
        stream.seek(start)
        while start < end and (piece := stream.read(min(1 << 20, end - start))):
            size += len(packer.compress(piece))
            start += len(piece)
    return size + len(packer.flush())


def make(folder):
    """Writes `folder`/layout with the tags of KINDS, and `folder`/ratios.json: compressed bytes for one byte of a
    file of each sort, headers included."""
    raw = folder + "/layer.tar"
    ratios = {}
    with TarLayer(raw) as layer:
        for sort in ("random", "plain"):
            start = layer.offset()
            for number in range(FILES[sort]):
                if number % 100 == 0:
                    layer.directory(f"data/{sort}/{number // 100:03}")
                layer.file(path_of(sort, number), content_of(sort, number))
            ratios[sort] = _packed_size(raw, start, layer.offset()) / (FILES[sort] * SIZE)
    layout = Layout(folder + "/layout")
    for kind in KINDS:
        layout.tag(layout.put_image([Layer(raw, kind)]), kind)
    with open(folder + "/ratios.json", "w", encoding="utf-8") as stream:
        json.dump(ratios, stream)
    os.unlink(raw)
