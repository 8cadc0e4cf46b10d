"""The sample image of scripts/run: busybox in three layers with a whiteout, an opaque directory and a hard link."""

import os
import subprocess
import tempfile

from .layers import TarLayer
from .oci import Layer, Layout

BUSYBOX = "/bin/busybox"


def _base_layer(path):
    with open(BUSYBOX, "rb") as stream:
        busybox = stream.read()
    applets = subprocess.run([BUSYBOX, "--list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    with TarLayer(path) as layer:
        layer.directory(".").directory("bin").directory("etc").directory("root", mode=0o700)
        layer.directory("dev").directory("proc").directory("sys").directory("tmp", mode=0o1777)
        layer.file("bin/busybox", busybox, mode=0o755)
        for applet in sorted(set(applets) - {"busybox"}):
            layer.symlink(f"bin/{applet}", "busybox")
        layer.file("etc/os-release", b'NAME="lamina sample"\nID=lamina-sample\n')
        layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n").file("etc/group", b"root:x:0:\n")
        layer.file("etc/motd", b"You should not see this: the second layer deletes it.\n")
        layer.directory("srv").directory("srv/www").file("srv/www/old.html", b"<p>old</p>\n")


def _second_layer(path):
    with TarLayer(path) as layer:
        layer.directory("etc").whiteout("etc/motd").file("etc/hostname", b"sample\n")
        layer.directory("srv/www").opaque("srv/www").file("srv/www/index.html", b"<p>Hello from lamina.</p>\n")


def _third_layer(path):
    with TarLayer(path) as layer:
        layer.directory("usr").directory("usr/share").directory("usr/share/greeting")
        layer.file("usr/share/greeting/hello", b"Hello from the third layer.\n")
        layer.hardlink("usr/share/greeting/bonjour", "usr/share/greeting/hello")


def make(folder, tag="latest"):
    """Writes the sample into an OCI layout; the digest of its manifest."""
    layout = Layout(folder)
    with tempfile.TemporaryDirectory() as work:
        layers = []
        for number, write in enumerate((_base_layer, _second_layer, _third_layer)):
            path = os.path.join(work, f"{number}.tar")
            write(path)
            layers.append(Layer(path))
        return layout.tag(layout.put_image(layers, config={"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]}), tag)
