"""[S15] The kernel mounts the tree file by itself, with the cache files of wholly local layers as its devices, and shows
the same tree; fsck.erofs finds nothing wrong."""

import ctypes
import glob
import json
import os

from images import cache

from mount import compare
from mount.harness import MountCase, path_name, read, run

MS_RDONLY = 1
_libc = ctypes.CDLL(None, use_errno=True)


def mount_erofs(image, devices, mountpoint):
    """mount(2) itself: util-linux would make a loop device of the file, and the kernel then refuses plain files."""
    options = ",".join(f"device={path}" for path in devices)
    if _libc.mount(image.encode(), mountpoint.encode(), b"erofs", MS_RDONLY, options.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount(erofs, {options}): {os.strerror(code)}", image)


class ErofsTest(MountCase):
    def open_image(self, tag):
        daemon = self.lamina()
        image = cache.get("debian")
        daemon.command("add", f"oci:{image}/layout:{tag}", "--as", "debian")
        daemon.command("fetch", f"localhost/debian:{tag}")
        folder = daemon.path("localhost/debian", tag)
        layers = [layer["digest"] for layer in json.loads(read(folder + "/manifest.json"))["layers"]]
        (tree,) = glob.glob(daemon.store + "/tree/*.erofs")
        devices = [f"{daemon.store}/cache/{path_name(layer)}.data" for layer in layers]
        for device in devices:
            self.assertTrue(os.path.exists(device), device)
        return folder + "/rootfs", tree, devices

    def test_the_kernel_shows_the_same_tree_of_a_gzip_image(self):
        self.check("gzip")

    def test_the_kernel_shows_the_same_tree_of_a_zstd_image(self):
        self.check("zstd")

    def check(self, tag):
        rootfs, tree, devices = self.open_image(tag)
        mountpoint = self.folder + "/erofs"
        os.makedirs(mountpoint)
        mount_erofs(tree, devices, mountpoint)
        try:
            compare.assert_equal(self, rootfs, mountpoint)
        finally:
            run("umount", mountpoint)

    def test_fsck_finds_nothing_wrong(self):
        _, tree, devices = self.open_image("gzip")
        done = run("fsck.erofs", "-d3", *(f"--device={device}" for device in devices), tree)
        self.assertIn("No errors found", done.stdout + done.stderr)

    def test_dump_reads_the_superblock(self):
        _, tree, devices = self.open_image("gzip")
        text = run("dump.erofs", *(f"--device={device}" for device in devices), "-s", tree).stdout
        self.assertIn("Filesystem magic number", text)
