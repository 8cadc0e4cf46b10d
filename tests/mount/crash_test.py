"""[S22] kill -9 at any instant; [S21] any file of the store deleted or rotten: the next mount serves nothing wrong."""

import os
import random
import shutil
import threading
import time

from images import small
from images.oci import Layout

from mount import compare
from mount.fetch_test import FetchCase
from mount.harness import read, run, wait_until


def files_below(folder):
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


class CrashCase(FetchCase):
    """An image of a small layer and one of a few MB that takes time, with a reference tree to compare with."""

    def setUp(self):
        super().setUp()
        layout = Layout(self.folder + "/layout")
        self.files = {f"slow/{n:03}": os.urandom(16_384) for n in range(400)}
        fast = {"fast/one": b"1" * 5000, "fast/two": b"2" * 70_000}
        descriptor = small.make(layout, "v1", fast, self.files)
        self.fast, self.slow = small.layer_digests(layout, descriptor)
        self.server.push(layout.path, "v1", "app")
        self.files.update(fast)
        self.daemon = self.lamina("--tag-ttl", "600")

    @property
    def rootfs(self):
        return self.image_path("app", "v1") + "/rootfs"

    def assert_whole(self):
        """The tree has exactly the files of the image, with their bytes."""
        names = {os.path.relpath(path, self.rootfs) for path in files_below(self.rootfs)}
        self.assertEqual(names, set(self.files))
        for name, data in self.files.items():
            self.assertEqual(read(f"{self.rootfs}/{name}"), data, name)

    def in_background(self, work):
        """Runs work in a thread that ends when it fails, as it does when the daemon dies under it."""
        def body():
            try:
                while not stop.is_set():
                    work()
            except OSError:
                pass
        stop = threading.Event()
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 30)
        self.addCleanup(stop.set)
        return stop


class KillTest(CrashCase):
    def test_killed_while_indexing_it_streams_only_what_was_not_complete(self):
        self.proxy.fail(self.slow, hang=True, stop_after=2_000_000)
        self.in_background(lambda: os.listdir(self.rootfs))
        wait_until(lambda: len([n for n in files_below(self.daemon.store + "/index") if n.endswith(".idx")]) == 1,
                   "the first layer's index")
        wait_until(lambda: self.proxy.bytes_sent(self.slow) > 1_000_000, "the second layer to stream")
        self.daemon.kill()
        self.proxy.heal()
        self.proxy.forget()
        self.daemon.start()
        self.assert_whole()
        self.assertEqual(self.proxy.gets(self.fast), [], "a complete layer was streamed again")
        self.assertEqual(len(self.proxy.gets(self.slow)), 1, self.proxy.records(self.slow))

    def test_killed_at_many_moments_of_the_first_access_it_recovers(self):
        for moment in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
            self.in_background(lambda: os.listdir(self.rootfs))
            time.sleep(moment)
            self.daemon.kill()
            self.daemon.start()
            self.assert_whole()
            self.daemon.stop()
            shutil.rmtree(self.daemon.store)
            self.daemon.start()

    def test_killed_while_reading_it_recovers(self):
        self.assert_whole()
        names = list(self.files)
        for moment in (0.01, 0.05, 0.1, 0.2, 0.4):
            self.daemon.clear_cache()
            rootfs = self.rootfs
            os.listdir(rootfs)
            self.proxy.forget()
            for worker in range(4):
                order = names[worker::4]
                self.in_background(lambda order=order: [read(f"{rootfs}/{name}") for name in order])
            time.sleep(moment)
            self.daemon.kill()
            self.daemon.start()
            self.assert_whole()
            # (Of a small layer a single chunk is the whole blob.)
            whole = [record for record in self.proxy.gets(self.slow) if not record.byte_range]
            self.assertEqual(whole, [], "an indexed layer was streamed again")

    def test_what_a_killed_daemon_was_writing_is_removed(self):
        self.assert_whole()
        self.daemon.kill()
        folders = [f"{self.daemon.store}/{name}" for name in ("index", "tree", "cache")]
        for folder in folders:
            with open(f"{folder}/sha256-00.idx.tmp.4711.8", "wb") as file:
                file.write(b"half")
        self.daemon.start()
        self.assertEqual([name for folder in folders for name in os.listdir(folder) if ".tmp." in name], [])
        self.assert_whole()

    def test_it_mounts_over_what_a_killed_daemon_left(self):
        """Also while the kernel still knows the attributes of the dead mount's root."""
        self.assert_whole()
        os.stat(self.daemon.mountpoint)
        self.daemon.kill(unmount=False)
        self.daemon.start()
        self.assert_whole()

    def test_a_second_daemon_cannot_take_a_store_in_use(self):
        other = self.lamina(name="other", start=False)
        self.addCleanup(run, "umount", "-l", other.mountpoint, check=False)
        done = other.command("mount", "--store", self.daemon.store, other.mountpoint, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.daemon.store, done.stderr)
        self.assert_whole()


class DamagedStoreTest(CrashCase):
    def damage_each(self, damage):
        """Damages each file of a full store in turn, the daemon being stopped; the tree must be whole every time."""
        self.assert_whole()
        self.daemon.command("fetch", f"{self.proxy.host}/app:v1")
        self.daemon.stop()
        files = [path for path in files_below(self.daemon.store) if os.path.getsize(path) > 0]
        kinds = {os.path.splitext(path)[1] for path in files}
        self.assertLessEqual({".idx", ".erofs", ".data", ".map", ".db"}, kinds)
        for path in files:
            self.daemon.stop()
            if not os.path.exists(path):
                continue
            with self.subTest(file=os.path.basename(path)):
                damage(path)
                self.daemon.start()
                self.assert_whole()

    def test_any_file_of_the_store_may_be_deleted(self):
        """[S21]"""
        self.damage_each(os.unlink)

    def test_any_file_of_the_store_may_be_emptied(self):
        self.damage_each(lambda path: os.truncate(path, 0))

    def test_rot_in_any_file_of_the_store_is_found_and_healed(self):
        """[S20] A byte flips in the first, the middle and the last part of each file."""
        def flip(path):
            size = os.path.getsize(path)
            with open(path, "r+b") as stream:
                for offset in (min(8, size - 1), size // 2, size - 1):
                    stream.seek(offset)
                    byte = stream.read(1)
                    stream.seek(offset)
                    stream.write(bytes([byte[0] ^ 0xFF]))
        self.damage_each(flip)

    def test_bits_that_flip_anywhere_in_the_store_are_never_served(self):
        """[S74] 64 bits, 8 at a time, in the files of layers, indexes and trees."""
        self.assert_whole()
        self.daemon.command("fetch", f"{self.proxy.host}/app:v1")
        numbers = random.Random(11)
        for batch in range(8):
            self.daemon.stop()
            files = [path for folder in ("cache", "index", "tree") for path in files_below(f"{self.daemon.store}/{folder}")]
            self.assertGreater(len(files), 4)
            for _ in range(8):
                path = numbers.choice(files)
                with open(path, "r+b") as stream:
                    at = numbers.randrange(os.path.getsize(path))
                    stream.seek(at)
                    byte = stream.read(1)[0]
                    stream.seek(at)
                    stream.write(bytes([byte ^ 1 << numbers.randrange(8)]))
            self.daemon.start()
            with self.subTest(batch=batch):
                self.assert_whole()

    def test_a_cut_cache_file_is_found_and_healed(self):
        self.damage_each(lambda path: os.truncate(path, os.path.getsize(path) // 2))

    def test_a_deleted_cache_costs_no_second_stream(self):
        """[S18]"""
        self.assert_whole()
        self.daemon.clear_cache()
        self.proxy.forget()
        self.assert_whole()
        self.assertGreater(len(self.proxy.gets(self.slow)), 1)
        self.assertTrue(all(record.byte_range for record in self.proxy.gets(self.slow)))

    def test_a_cached_image_works_without_its_registry(self):
        self.daemon.command("fetch", f"{self.proxy.host}/app:v1")
        self.daemon.stop()
        self.proxy.fail("", refuse=True)
        self.daemon.start()
        self.assert_whole()
        before = compare.snapshot(self.rootfs)
        self.assertEqual(len(before[0]), len(self.files) + 3)
