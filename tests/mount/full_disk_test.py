"""[S77] The store on a disk that has no room: for bytes, for files. Every read is right; what finds room again is kept."""

import json
import os
import random

from images import small
from images.oci import Layout

from mount.cache_test import disk_bytes
from mount.harness import MountCase, read, run

MIB = 1 << 20


class FullDiskTest(MountCase):
    def setUp(self):
        super().setUp()
        numbers = random.Random(21)
        self.files = {f"f{n}": numbers.randbytes(MIB) for n in range(6)}
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", self.files)
        self.layout = layout.path
        self.disk = self.folder + "/lamina/store"
        os.makedirs(self.disk)
        self.addCleanup(run, "umount", "-l", self.disk, check=False)

    def daemon_on(self, options):
        """A daemon whose store is a tmpfs with these options, with the image."""
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", self.disk)
        daemon = self.lamina()
        daemon.command("add", "oci:" + self.layout, "--as", "app")
        return daemon

    def assert_right(self, daemon):
        for name, data in self.files.items():
            self.assertEqual(read(daemon.path("localhost", "app", "v1", "rootfs", name)), data, name)

    def chunks_local(self, daemon):
        layers = json.loads(read(daemon.path("localhost", "app", "v1", "status.json")))["layers"]
        return sum(layer["chunks_local"] for layer in layers), sum(layer["chunks"] for layer in layers)

    def test_without_room_for_bytes_reads_are_right_and_room_is_used_again(self):
        """[S77]"""
        daemon = self.daemon_on("size=4M")
        self.assert_right(daemon)
        local, of = self.chunks_local(daemon)
        self.assertLess(local, of)
        run("mount", "-o", "remount,size=64M", self.disk)
        daemon.restart()  # the kernel forgets the pages that it has
        self.assert_right(daemon)
        local, of = self.chunks_local(daemon)
        self.assertEqual(local, of)

    def test_without_room_for_files_reads_are_right_and_room_is_used_again(self):
        """[S77]"""
        daemon = self.daemon_on("size=64M,nr_inodes=200")
        self.assert_right(daemon)
        daemon.clear_cache()
        daemon.stop()
        for name in os.listdir(self.disk + "/cache"):
            os.unlink(f"{self.disk}/cache/{name}")
        fillers = []
        try:
            while True:
                fillers.append(f"{self.disk}/filler{len(fillers)}")
                with open(fillers[-1], "wb"):
                    pass
        except OSError:
            fillers.pop()
        daemon.start()
        self.assert_right(daemon)
        self.assertEqual(disk_bytes(self.disk + "/cache"), 0)
        for path in fillers:
            os.unlink(path)
        daemon.restart()
        self.assert_right(daemon)
        local, of = self.chunks_local(daemon)
        self.assertEqual(local, of)
