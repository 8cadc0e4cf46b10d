"""What the tests of disks that refuse share: an image of one layer, what status.json says of it."""

import json
import os
import random

from images import small
from images.oci import Layout

from mount.harness import MountCase, read

MIB = 1 << 20


class RefusingDiskCase(MountCase):
    def setUp(self):
        super().setUp()
        numbers = random.Random(21)
        self.files = {f"f{n}": numbers.randbytes(MIB) for n in range(6)}
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", self.files)
        self.layout = layout.path

    def add_to(self, daemon):
        daemon.command("add", "oci:" + self.layout, "--as", "app")

    def path(self, daemon, name):
        return daemon.path("localhost", "app", "v1", "rootfs", name)

    def forget_pages(self, daemon):
        """The kernel asks again for every byte."""
        for name in self.files:
            fd = os.open(self.path(daemon, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def forget_bytes(self, daemon):
        """Indexed, and none of its bytes are there."""
        self.assert_right(daemon)
        daemon.stop()
        for name in os.listdir(daemon.store + "/cache"):
            os.unlink(f"{daemon.store}/cache/{name}")
        daemon.start()

    def assert_right(self, daemon, *names):
        """Read from the daemon, not from what the kernel has."""
        self.forget_pages(daemon)
        for name in names or self.files:
            self.assertTrue(read(self.path(daemon, name)) == self.files[name], name)

    def layer(self, daemon):
        return json.loads(read(daemon.path("localhost", "app", "v1", "status.json")))["layers"][0]

    def local(self, daemon):
        return self.layer(daemon)["chunks_local"]

    def assert_all_local(self, daemon):
        self.assertEqual(self.local(daemon), self.layer(daemon)["chunks"])

    def not_kept(self, daemon):
        return self.layer(daemon)["not_kept"]

    def assert_all_is_there_after_a_restart(self, daemon):
        daemon.restart()
        self.assert_right(daemon)
        self.assertEqual(daemon.metrics()["lamina_chunk_fetches_total"], 0)
        self.assertEqual(daemon.metrics()["lamina_cache_rotten_total"], 0)
