"""The limit of the cache of layer bytes: kept while more is read than fits, after a restart, and never at the price of a
wrong byte or of a pinned image."""

import os
import random
import threading

from images import big, cache, small
from images.oci import Layout

from mount.harness import MountCase, lamina_binary, read, run

MIB = 1 << 20
READERS = 16


def disk_bytes(folder):
    """In blocks, whatever comes and goes meanwhile."""
    total = 0
    for item in os.scandir(folder):
        try:
            total += item.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


class CacheLimitTest(MountCase):
    def cache_folder(self, daemon):
        return daemon.store + "/cache"

    def config(self, text):
        path = self.folder + "/options.toml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def images(self, daemon, *names):
        """Images of one layer of 4 MiB each that does not compress."""
        layout = Layout(self.folder + "/layout")
        self.contents = {name: random.Random(name).randbytes(4 * MIB) for name in names}
        for name, content in self.contents.items():
            small.make(layout, name, {"file": content})
        daemon.command("add", "oci:" + layout.path, "--as", "app")

    def path(self, daemon, name):
        return daemon.path("localhost", "app", name, "rootfs", "file")

    def watch(self, daemon, done):
        """The most that the cache takes until `done` is set."""
        most = 0
        while not done.wait(0.01):
            most = max(most, disk_bytes(self.cache_folder(daemon)))
        return most

    def test_many_readers_of_more_than_fits_stay_within_the_limit(self):
        """[S65]"""
        limit = 24 * MIB
        daemon = self.lamina("--config", self.config('[cache]\nsize = "24M"\n'))
        daemon.command("add", "oci:" + cache.get("big") + "/layout", "--as", "big")
        rootfs = daemon.path("localhost", "big", "gzip", "rootfs")
        done, most = threading.Event(), []
        watcher = threading.Thread(target=lambda: most.append(self.watch(daemon, done)))
        watcher.start()

        def body(reader):
            numbers = random.Random(reader)
            for _ in range(150):
                number = numbers.randrange(big.FILES["random"])
                if read(f"{rootfs}/{big.path_of('random', number)}") != big.random_bytes(number):
                    return number
            return None

        try:
            wrong = self.run_threads(READERS, body)
        finally:
            done.set()
            watcher.join()
        self.assertEqual(wrong, [None] * READERS)
        self.assertLessEqual(most[0], limit * 1.01)
        self.assertGreater(most[0], limit / 2)
        metrics = daemon.metrics()
        self.assertEqual(metrics["lamina_cache_limit_bytes"], limit)
        self.assertGreater(metrics["lamina_cache_evicted_bytes_total"], 0)
        self.assertEqual(metrics["lamina_cache_rotten_total"], 0)

    def test_a_lower_limit_holds_from_the_next_start(self):
        """[S65] Pinned images stay."""
        daemon = self.lamina()
        self.images(daemon, "a", "b", "c", "d")
        for name in "abcd":
            self.assertEqual(read(self.path(daemon, name)), self.contents[name])
        digest = daemon.command("resolve", "localhost/app:a").stdout.strip().rpartition("@")[2]
        daemon.command("alias", "localhost/app:kept", digest)
        self.assertGreater(disk_bytes(self.cache_folder(daemon)), 16 * MIB)
        daemon.options += ["--cache-size", "9M"]
        daemon.restart()
        self.assertLessEqual(disk_bytes(self.cache_folder(daemon)), 9 * MIB)
        indexed = daemon.metrics()["lamina_layers_indexed_total"]
        for name in "abcd":
            self.assertEqual(read(self.path(daemon, name)), self.contents[name])
        self.assertEqual(daemon.metrics()["lamina_layers_indexed_total"], indexed)
        # What is pinned was never fetched again.
        before = daemon.metrics()["lamina_chunk_fetches_total"]
        run("sh", "-c", "echo 1 > /proc/sys/vm/drop_caches")
        daemon.restart()
        self.assertEqual(read(self.path(daemon, "a")), self.contents["a"])
        self.assertGreater(before, 0)
        self.assertEqual(daemon.metrics()["lamina_chunk_fetches_total"], 0)

    def test_fetch_tells_what_has_no_room(self):
        daemon = self.lamina("--cache-size", "2M")
        self.images(daemon, "a")
        done = daemon.command("fetch", "localhost/app:a", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("the cache's limit (2.0 MiB) has no room for the rest", done.stderr)
        self.assertEqual(read(self.path(daemon, "a")), self.contents["a"])

    def test_wrong_sizes_are_refused(self):
        done = run(lamina_binary(), "ls", "--cache-size", "5X", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("use 20G, 512M, 10% or none", done.stderr)
