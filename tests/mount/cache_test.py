"""The limit of the cache of layer bytes: kept while more is read than fits, after a restart, and never at the price of a
wrong byte or of a pinned image."""

import json
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

    def text_image(self, daemon, seed="text"):
        """An image of one layer of 6 MiB that compresses; its files."""
        numbers = random.Random(seed)
        words = [numbers.randbytes(numbers.randrange(2, 9)).hex().encode() for _ in range(500)]
        files = {f"t{n}": b" ".join(numbers.choices(words, k=100_000))[:MIB] for n in range(6)}
        layout = Layout(self.folder + "/layout")
        small.make(layout, "text", files)
        daemon.command("add", "oci:" + layout.path, "--as", "app")
        return files

    def read_text(self, daemon, files):
        for name, content in files.items():
            path = daemon.path("localhost", "app", "text", "rootfs", name)
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                self.assertTrue(file.read() == content, name)

    def forget_bytes(self, daemon):
        daemon.stop()
        for name in os.listdir(self.cache_folder(daemon)):
            os.unlink(f"{self.cache_folder(daemon)}/{name}")
        daemon.start()

    def test_a_compressed_cache_takes_less_disk_and_serves_the_same(self):
        """[S102] While a layer is indexed, and when it is fetched; and it is read whatever the option says later."""
        plain = self.lamina(name="plain")
        files = self.text_image(plain)
        self.read_text(plain, files)
        whole = disk_bytes(self.cache_folder(plain))
        for number, how in enumerate((["--cache-compression", "lz4"], ["--config", self.config('[cache]\ncompression = "zstd"\n')])):
            with self.subTest(how=how):
                daemon = self.lamina(*how, name=f"compressed{number}")
                self.text_image(daemon)
                self.read_text(daemon, files)
                self.assertLess(disk_bytes(self.cache_folder(daemon)), whole * 0.75)
                self.assertEqual(daemon.metrics()["lamina_chunk_fetches_total"], 0)
                self.forget_bytes(daemon)
                self.read_text(daemon, files)
                self.assertLess(disk_bytes(self.cache_folder(daemon)), whole * 0.75)
                stat = json.loads(daemon.command("cache", "stat", "--json").stdout)
                self.assertEqual(stat["chunks_compressed"], stat["chunks_present"])
                self.assertLess(stat["compressed_to_bytes"], stat["compressed_from_bytes"] * 0.75)
                self.assertIn("compressed", daemon.command("cache", "stat").stdout)
                self.assertEqual(json.loads(daemon.command("cache", "verify", "--json").stdout)["bad"], [])
                daemon.options = []
                daemon.restart()
                self.read_text(daemon, files)
                self.assertEqual(daemon.metrics()["lamina_chunk_fetches_total"], 0)
                self.assertEqual(daemon.metrics()["lamina_cache_rotten_total"], 0)

    def test_a_compressed_cache_that_rots_serves_no_wrong_byte(self):
        """[S103]"""
        for codec in ("lz4", "zstd"):
            with self.subTest(codec=codec):
                daemon = self.lamina("--cache-compression", codec, name=codec)
                files = self.text_image(daemon)
                self.read_text(daemon, files)
                daemon.stop()
                numbers = random.Random(codec)
                folder = self.cache_folder(daemon)
                for name in os.listdir(folder):
                    with open(f"{folder}/{name}", "r+b") as file:
                        for _ in range(100):
                            at = numbers.randrange(os.path.getsize(file.name))
                            byte = os.pread(file.fileno(), 1, at)[0] ^ 1 << numbers.randrange(8)
                            os.pwrite(file.fileno(), bytes([byte]), at)
                daemon.start()
                self.read_text(daemon, files)
                daemon.stop()
                data = next(f"{folder}/{name}" for name in os.listdir(folder) if name.endswith(".data"))
                with open(data, "r+b") as file:
                    os.pwrite(file.fileno(), b"rot", 100)
                daemon.start()
                done = daemon.command("cache", "verify", "--json", check=False)
                self.assertEqual((done.returncode, len(json.loads(done.stdout)["bad"])), (1, 1))
                self.read_text(daemon, files)

    def test_wrong_compressions_are_refused(self):
        done = run(lamina_binary(), "ls", "--cache-compression", "gzip", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("none", done.stderr)
        wrong = self.config('[cache]\ncompression = "best"\n')
        self.assertEqual(run(lamina_binary(), "ls", "--config", wrong, check=False).returncode, 2)

    def test_wrong_sizes_are_refused(self):
        done = run(lamina_binary(), "ls", "--cache-size", "5X", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("use 20G, 512M, 10% or none", done.stderr)
