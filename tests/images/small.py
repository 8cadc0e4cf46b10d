"""Small images of a few files, for tests that are about names, faults and time."""

import os
import tempfile

from .layers import TarLayer
from .oci import Layer, Layout


def _write(path, files):
    with TarLayer(path) as layer:
        folders = set()
        for name, data in files.items():
            folder = os.path.dirname(name)
            if folder and folder not in folders:
                folders.add(folder)
                layer.directory(folder)
            layer.file(name, data)


def make(layout, tag, *layers, kind="gzip", architecture="amd64"):
    """An image of layers given as {name: bytes}; the manifest's descriptor. Without a tag it gets none."""
    layout = layout if isinstance(layout, Layout) else Layout(layout)
    with tempfile.TemporaryDirectory() as work:
        raws = []
        for number, files in enumerate(layers):
            raws.append(os.path.join(work, f"{number}.tar"))
            _write(raws[-1], files)
        descriptor = layout.put_image([Layer(raw, kind) for raw in raws], architecture)
    if tag:
        layout.tag(descriptor, tag)
    return descriptor


def layer_digests(layout, descriptor):
    layout = layout if isinstance(layout, Layout) else Layout(layout)
    return [layer["digest"] for layer in layout.document(descriptor["digest"])["layers"]]
