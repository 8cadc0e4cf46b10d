"""[S89]–[S92] The store on a disk that takes no files: read-only, or full to the last byte. What is there serves, what is
new is kept in memory, and the disk is used again when it takes files again."""

import glob
import json
import os
import random

from images import small
from images.oci import Layout

from mount.harness import MountCase, read, run

MIB = 1 << 20


class RefusingDiskTest(MountCase):
    def setUp(self):
        super().setUp()
        self.files = {}
        self.layouts = {}
        for number, name in enumerate(("seen", "new", "newer")):
            numbers = random.Random(number)
            self.files[name] = {f"f{n}": numbers.randbytes(MIB // 2) for n in range(4)}
            layout = Layout(f"{self.folder}/{name}-layout")
            small.make(layout, "v1", self.files[name])
            self.layouts[name] = "oci:" + layout.path
        self.disk = self.folder + "/lamina/store"
        os.makedirs(self.disk)
        run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", self.disk)
        self.addCleanup(run, "umount", "-l", self.disk, check=False)
        self.daemon = self.lamina()
        for name, layout in self.layouts.items():
            self.daemon.command("add", layout, "--as", name)

    def assert_right(self, name):
        for file, data in self.files[name].items():
            self.assertEqual(read(self.daemon.path("localhost", name, "v1", "rootfs", file)), data, (name, file))

    def status(self, name):
        return json.loads(read(self.daemon.path("localhost", name, "v1", "status.json")))

    def stat(self):
        return json.loads(self.daemon.command("cache", "stat", "--json").stdout)

    def files_on_disk(self):
        found = {}
        for folder, _, names in os.walk(self.disk):
            for name in names:
                info = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (info.st_size, info.st_mtime_ns)
        return found

    def folders_in_memory(self):
        return glob.glob(self.daemon.folder + "/lamina/*")

    def make_read_only(self):
        self.daemon.kill()  # with a write-ahead log that has not reached the database yet
        run("mount", "-o", "remount,ro", self.disk)

    def fill(self):
        filler = self.disk + "/filler"
        with open(filler, "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(64 << 10))
            except OSError:
                pass
        return filler

    def test_a_read_only_store_serves_what_it_has_and_what_is_new(self):
        """[S89] [S90]"""
        self.assert_right("seen")
        inode = os.stat(self.daemon.path("localhost", "seen")).st_ino
        self.make_read_only()
        before = self.files_on_disk()
        self.daemon.start()
        self.assertEqual(os.stat(self.daemon.path("localhost", "seen")).st_ino, inode)
        self.assert_right("seen")
        self.assertEqual(self.daemon.metrics()["lamina_layers_indexed_total"], 0)
        self.assertEqual(self.daemon.metrics()["lamina_chunk_fetches_total"], 0)
        self.assertEqual(sorted(os.listdir(self.daemon.path("localhost"))), ["new", "newer", "seen"])
        self.assert_right("new")
        self.assertEqual(self.daemon.metrics()["lamina_layers_indexed_total"], 1)
        self.assertEqual(self.daemon.metrics()["lamina_store_takes_files"], 0)
        self.assertIn("Read-only", self.status("new")["store_refuses"]["reason"])
        self.assertIn("Read-only", self.stat()["store_refuses"]["reason"])
        self.assertEqual(len(self.folders_in_memory()), 1)
        self.daemon.stop()
        self.assertEqual(self.folders_in_memory(), [])
        self.assertEqual(self.files_on_disk(), before)

    def test_commands_on_a_read_only_store(self):
        """[S91]"""
        self.daemon.command("forget", self.layouts["newer"])
        self.make_read_only()
        cat = self.daemon.command("cat", "localhost/new:v1", "/f0", check=False)
        self.assertEqual(cat.returncode, 0, cat.stderr)
        refused = self.daemon.command("add", self.layouts["newer"], "--as", "newer", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("takes no files", refused.stderr)
        self.daemon.start()
        added = self.daemon.command("add", self.layouts["newer"], "--as", "newer")
        self.assertIn("ends with the daemon", added.stderr)
        self.assert_right("newer")
        self.daemon.restart()
        self.assertEqual(sorted(os.listdir(self.daemon.path("localhost"))), ["new", "seen"])

    def test_the_daemon_of_a_read_only_store_is_alone(self):
        """[S89]"""
        self.make_read_only()
        self.daemon.start()
        mountpoint = self.folder + "/second"
        os.makedirs(mountpoint)
        done = self.daemon.command("mount", "-f", mountpoint, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("in use by another lamina", done.stderr)
        self.assert_right("seen")

    def test_what_a_killed_daemon_left_in_memory_goes(self):
        """[S90]"""
        self.make_read_only()
        self.daemon.start()
        self.assert_right("new")
        self.daemon.kill()
        self.assertEqual(len(glob.glob(self.folders_in_memory()[0] + "/index/*")), 1)
        self.daemon.start()
        self.assertEqual(glob.glob(self.folders_in_memory()[0] + "/index/*"), [])
        self.assert_right("new")
        self.daemon.kill()
        run("mount", "-o", "remount,rw", self.disk)
        self.daemon.start()
        self.assertEqual(self.folders_in_memory(), [])

    def test_a_disk_that_fills_up_and_has_room_again(self):
        """[S92]"""
        self.assert_right("seen")
        filler = self.fill()
        self.assert_right("new")
        self.assertIn("No space", self.status("new")["store_refuses"]["reason"])
        self.assertIsNotNone(self.stat()["store_refuses"])
        inode = os.stat(self.daemon.path("localhost", "new")).st_ino
        os.unlink(filler)
        self.assertIsNone(self.stat()["store_refuses"])
        self.assert_right("newer")
        self.assertIsNone(self.status("newer")["store_refuses"])
        indexed = self.daemon.metrics()["lamina_layers_indexed_total"]
        self.assertEqual(indexed, 3)
        self.daemon.restart()
        self.assertEqual(os.stat(self.daemon.path("localhost", "new")).st_ino, inode)
        self.assert_right("newer")
        self.assertEqual(self.daemon.metrics()["lamina_layers_indexed_total"], 0)

    def test_a_disk_that_is_full_at_the_start(self):
        """[S89] [S90]"""
        self.assert_right("seen")
        self.daemon.stop()
        self.fill()
        self.daemon.start()
        for name in self.files:
            self.assert_right(name)

    def test_a_disk_that_is_nearly_full_at_the_start(self):
        """[S89]"""
        self.assert_right("seen")
        self.daemon.stop()
        filler = self.fill()
        for room in (8, 16, 40, 80):
            os.truncate(filler, os.path.getsize(filler) - (room << 10))
            self.daemon.start()
            self.assert_right("new")
            self.stat()
            self.daemon.stop()
            self.fill()
