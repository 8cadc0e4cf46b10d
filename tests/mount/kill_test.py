"""[S22] kill -9, again and again, while a daemon starts, indexes, reads and evicts. A seed chooses the instants; what the
killed daemon was doing then is chance."""

import os
import random
import sqlite3
import threading
import time

from images import small
from images.oci import Layout

from mount.cache_test import disk_bytes
from mount.harness import MountCase, read

KIB, MIB = 1 << 10, 1 << 20
KILLS = 200
LIMIT = 3 * MIB
IMAGES = ("a", "b", "c", "d")
READERS = 3
SAMPLES = 6


def contents(name):
    """About 1.5 MiB in three files, one of which compresses well."""
    numbers = random.Random(name)
    line = numbers.randbytes(50).hex().encode()
    return {f"{name}/one": numbers.randbytes(MIB), f"{name}/two": numbers.randbytes(200 * KIB), f"{name}/text": line * 3000}


class KillTest(MountCase):
    def setUp(self):
        super().setUp()
        layout = Layout(self.folder + "/layout")
        self.files = {}
        shared = contents("shared")
        for number, name in enumerate(IMAGES):
            own = contents(name)
            small.make(layout, name, shared, own, kind=("gzip", "tar", "zstd-frames", "gzip-members")[number])
            self.files.update({(name, path): data for path, data in {**shared, **own}.items()})
        self.daemon = self.lamina("--cache-size", "3M")
        self.daemon.command("add", "oci:" + layout.path, "--as", "app")
        self.random = random.Random(5)

    def path(self, image, name):
        return self.daemon.path("localhost", "app", image, "rootfs", name)

    def read_until_it_ends(self, seed):
        """Files in an order of chance, until the daemon is gone. A wrong byte is remembered."""
        numbers = random.Random(seed)
        try:
            while True:
                key = numbers.choice(list(self.files))
                if read(self.path(*key)) != self.files[key]:
                    self.wrong.append(key)
        except OSError:
            pass

    def forget_an_index(self):
        """So that the next daemon has something to index and to merge."""
        for folder in ("index", "tree"):
            names = sorted(os.listdir(f"{self.daemon.store}/{folder}"))
            if names:
                os.unlink(f"{self.daemon.store}/{folder}/{self.random.choice(names)}")

    def kill_once(self, round_number):
        """A daemon that is killed while it starts, or while several read from it."""
        if self.random.random() < 0.3:
            self.forget_an_index()
        if self.random.random() < 0.1:
            self.daemon.launch()
            time.sleep(self.random.uniform(0, 0.1))
            self.daemon.kill(unmount=False)
            return
        self.daemon.start()
        threads = [threading.Thread(target=self.read_until_it_ends, args=(f"{round_number} {reader}",))
                   for reader in range(READERS)]
        for thread in threads:
            thread.start()
        time.sleep(self.random.uniform(0, 0.2))
        self.daemon.kill(unmount=self.random.random() < 0.5)
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive(), "a reader hangs after its daemon was killed")

    def assert_right(self, keys):
        for key in keys:
            self.assertEqual(read(self.path(*key)), self.files[key], key)

    def test_after_every_kill_the_next_daemon_serves_what_is_right(self):
        self.wrong = []
        self.daemon.stop()
        for number in range(KILLS):
            with self.subTest(kill=number):
                self.kill_once(number)
                self.assertEqual(self.wrong, [])
                if number % 4 == 3:
                    self.daemon.start()
                    self.assert_right(self.random.sample(list(self.files), SAMPLES))
                    self.assertLessEqual(disk_bytes(self.daemon.store + "/cache"), LIMIT * 1.01)
                    self.daemon.kill(unmount=False)
        self.assert_nothing_is_left()

    def assert_nothing_is_left(self):
        """After all kills: everything is right, within the limit, and nothing half-made lies about."""
        self.daemon.start()
        self.assert_right(self.files)
        metrics = self.daemon.metrics()
        self.assertGreater(metrics["lamina_cache_evicted_bytes_total"], 0, "nothing was evicted: the test tests less")
        self.assertEqual(metrics["lamina_cache_rotten_total"], 0)
        self.assertLessEqual(disk_bytes(self.daemon.store + "/cache"), LIMIT * 1.01)
        self.daemon.stop()
        for folder in ("index", "tree", "cache"):
            self.assertEqual([name for name in os.listdir(f"{self.daemon.store}/{folder}") if ".tmp." in name], [])
        with sqlite3.connect(f"file:{self.daemon.store}/lamina.db?mode=ro", uri=True) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertNotIn("set aside", self.daemon.log_text())
