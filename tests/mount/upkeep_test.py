"""`lamina cache`: figures, checks, cleaning, pins, and the garbage that nothing names any more; with a daemon and without."""

import json
import os
import random
import threading

from images import small
from images.oci import Layout

from mount.cache_test import disk_bytes
from mount.harness import MountCase, lamina_binary, path_name, read, run, wait_until

MIB = 1 << 20


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


class UpkeepCase(MountCase):
    def setUp(self):
        super().setUp()
        self.contents = {}
        self.layouts = {}
        self.digests = {}

    def add(self, daemon, name, *parts):
        """An image localhost/NAME:v1 of one layer of 3 MiB for each part; a part is a layer that images may share."""
        layout = Layout(f"{self.folder}/{name}")
        layers = []
        for part in parts:
            self.contents[part] = random.Random(part).randbytes(3 * MIB)
            layers.append({f"file-{part}": self.contents[part]})
        descriptor = small.make(layout, "v1", *layers)
        self.layouts[name] = "oci:" + layout.path
        self.digests[name] = small.layer_digests(layout, descriptor)
        daemon.command("add", self.layouts[name], "--as", name)

    def path(self, daemon, name, part):
        return daemon.path("localhost", name, "v1", "rootfs", f"file-{part}")

    def assert_reads(self, daemon, name, *parts):
        for part in parts:
            self.assertEqual(read(self.path(daemon, name, part)), self.contents[part], (name, part))

    def cache(self, daemon, *arguments, check=True):
        done = daemon.command("cache", *arguments, "--json", check=False)
        if check:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def both_ways(self, daemon, work):
        """Once through the daemon, and once without one."""
        work()
        daemon.stop()
        work()
        daemon.start()

    def files(self, daemon, folder):
        return sorted(os.listdir(f"{daemon.store}/{folder}"))

    def forget_what_the_kernel_holds(self, daemon):
        """Nobody is in an image: the kernel then gives up its names when it is asked for memory."""
        def nobody():
            run("sh", "-c", "echo 2 > /proc/sys/vm/drop_caches")
            return not self.cache(daemon, "gc", "--dry-run")["in_use"]
        wait_until(nobody, "the kernel to forget the images")


class FiguresTest(UpkeepCase):
    def test_stat_tells_what_is_kept(self):
        """[S66]"""
        daemon = self.lamina("--cache-size", "64M")
        self.add(daemon, "a", "one", "two")
        self.add(daemon, "b", "three")
        self.assert_reads(daemon, "a", "one", "two")
        os.listdir(daemon.path("localhost", "b", "v1", "rootfs"))

        def check():
            stat = self.cache(daemon, "stat", "--cache-size", "64M") if daemon.process is None \
                else self.cache(daemon, "stat")
            self.assertEqual(stat["limit_bytes"], 64 * MIB)
            self.assertEqual(stat["used_bytes"], disk_bytes(daemon.store + "/cache"))
            self.assertEqual((stat["layers_whole"], stat["layers_part"], stat["layers_none"]), (3, 0, 0))
            self.assertEqual(stat["chunks_present"], stat["chunks_total"])
            self.assertGreaterEqual(stat["chunks_total"], 9)
            self.assertEqual(stat["index_bytes"], disk_bytes(daemon.store + "/index"))
            self.assertEqual(stat["tree_bytes"], disk_bytes(daemon.store + "/tree"))
            self.assertGreater(stat["document_bytes"], 0)
            self.assertGreater(stat["disk_free_bytes"], 0)
            self.assertEqual(stat["garbage"]["bytes"], 0)
            self.assertEqual((stat["pins"], stat["pinned_bytes"], stat["rotten_chunks"]), ([], 0, 0))
        self.both_ways(daemon, check)
        text = daemon.command("cache", "stat").stdout
        for word in ("used", "64.0 MiB", "3 whole", "garbage", "pinned"):
            self.assertIn(word, text)
        self.cache(daemon, "clear", "localhost/a:v1")
        stat = self.cache(daemon, "stat")
        self.assertEqual((stat["layers_whole"], stat["layers_part"], stat["layers_none"]), (1, 0, 2))

    def test_the_options_file_says_how_long_garbage_is_kept(self):
        """[S68]"""
        daemon = self.lamina(start=False)
        path = self.folder + "/options.toml"
        daemon.options = ["--config", path]
        for age, right in (("none", True), ("12h", True), ("7w", False)):
            with open(path, "w", encoding="utf-8") as file:
                file.write(f'[cache]\ngc-after = "{age}"\nsize = "1G"\n')
            if right:
                daemon.start()
                self.assertEqual(daemon.metrics()["lamina_garbage_runs_total"], 0)
                daemon.stop()
                continue
            done = daemon.command("mount", "--config", path, daemon.mountpoint, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("use 7d, 12h", done.stderr)

    def test_wrong_use_is_told_in_words(self):
        daemon = self.lamina(start=False)
        for arguments, code, words in ((["cache"], 2, "subcommand"),
                                       (["cache", "gc", "--after", "soon"], 2, "use 7d, 12h"),
                                       (["mount", "--gc-after", "7w"], 2, "use 7d, 12h"),
                                       (["cache", "pin"], 2, "reference"),
                                       (["cache", "unpin", "localhost/none:v1"], 1,
                                        "localhost/none:v1 is not pinned")):
            done = daemon.command(*arguments, check=False)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(words, done.stderr + done.stdout)
        for command in ("stat", "gc", "verify", "clear", "pin", "unpin"):
            self.assertIn(f"lamina cache {command}", run(lamina_binary(), "cache", command, "--help").stdout)


class PinTest(UpkeepCase):
    def test_a_pinned_image_is_not_evicted_and_not_cleared(self):
        """[S67]"""
        daemon = self.lamina("--cache-size", "9M")
        for name in ("a", "b", "c", "d"):
            self.add(daemon, name, name)
        pinned = self.cache(daemon, "pin", "--fetch", "localhost/a:v1")
        self.assertEqual(pinned["reference"], "localhost/a:v1")
        self.assertTrue(json.loads(daemon.command("inspect", "--json", "localhost/a:v1").stdout)["pinned"])
        for name in ("b", "c", "d"):
            self.assert_reads(daemon, name, name)
        [layer] = self.digests["a"]
        stat = self.cache(daemon, "stat")
        self.assertEqual([pin["digest"] for pin in stat["pins"]], [pinned["digest"]])
        self.assertGreater(stat["pinned_bytes"], 3 * MIB)
        self.assertGreater(stat["evicted_bytes"], 0)
        self.assertEqual(self.cache(daemon, "clear")["pinned_layers"], 1)
        daemon.restart()
        self.assert_reads(daemon, "a", "a")
        self.assertEqual(daemon.metrics()["lamina_chunk_fetches_total"], 0)

        self.cache(daemon, "clear", "--pinned", "localhost/a:v1")
        self.assertFalse(any(name.startswith(path_name(layer)) and os.stat(
            f"{daemon.store}/cache/{name}").st_blocks > 8 for name in self.files(daemon, "cache")))
        self.assert_reads(daemon, "a", "a")

    def test_pins_of_both_kinds_count_with_a_daemon_and_without(self):
        """[S67]"""
        daemon = self.lamina()
        self.add(daemon, "a", "a")

        def check():
            digest = self.cache(daemon, "pin", "localhost/a:v1")["digest"]
            daemon.command("alias", "localhost/a:kept", digest)
            self.assertEqual(len(self.cache(daemon, "stat")["pins"]), 2)
            [gone] = self.cache(daemon, "unpin", "localhost/a:v1")["unpinned"]
            self.assertTrue(gone["still_pinned"])
            daemon.command("alias", "--rm", "localhost/a:kept")
            self.assertEqual(self.cache(daemon, "stat")["pins"], [])
            done = daemon.command("cache", "unpin", "localhost/a:v1", check=False)
            self.assertEqual((done.returncode, done.stderr), (1, "lamina: localhost/a:v1 is not pinned\n"))
        self.both_ways(daemon, check)


class GarbageTest(UpkeepCase):
    def test_what_nothing_names_goes_and_comes_again(self):
        """[S68]"""
        daemon = self.lamina()
        self.add(daemon, "kept", "shared", "kept")
        self.add(daemon, "gone", "shared", "gone")

        def check():
            if daemon.process:
                self.assert_reads(daemon, "kept", "shared", "kept")
                self.assert_reads(daemon, "gone", "shared", "gone")
            daemon.command("forget", self.layouts["gone"])
            if daemon.process:
                self.forget_what_the_kernel_holds(daemon)
            would = self.cache(daemon, "gc", "--dry-run")
            self.assertEqual((would["layers"], would["trees"], would["in_use"]), (1, 1, []))
            self.assertEqual(self.cache(daemon, "stat")["garbage"]["layers"], 1)
            self.assertEqual(len(self.files(daemon, "index")), 3)
            done = self.cache(daemon, "gc")
            self.assertEqual((done["layers"], done["trees"]), (1, 1))
            self.assertGreater(done["bytes"], 3 * MIB)
            self.assertEqual(self.files(daemon, "index"), sorted(
                path_name(digest) + ".idx" for digest in self.digests["kept"]))
            self.assertEqual(len(self.files(daemon, "tree")), 1)
            self.assertEqual(self.cache(daemon, "gc")["bytes"], 0)
            daemon.command("add", self.layouts["gone"], "--as", "gone")
            daemon.command("fetch", "localhost/gone:v1")
        self.both_ways(daemon, check)
        indexed = daemon.metrics()["lamina_layers_indexed_total"]
        self.assert_reads(daemon, "kept", "shared", "kept")
        self.assert_reads(daemon, "gone", "shared", "gone")
        self.assertEqual(daemon.metrics()["lamina_layers_indexed_total"], indexed)
        self.assertEqual(daemon.metrics()["lamina_cache_rotten_total"], 0)

    def test_an_image_that_somebody_is_in_is_not_collected(self):
        """[S68]"""
        daemon = self.lamina()
        self.add(daemon, "gone", "gone")
        folder = os.open(daemon.path("localhost", "gone", "v1", "rootfs"), os.O_RDONLY)
        try:
            daemon.command("forget", self.layouts["gone"])
            run("sh", "-c", "echo 2 > /proc/sys/vm/drop_caches")
            done = self.cache(daemon, "gc")
            self.assertEqual((done["layers"], done["trees"], done["bytes"]), (0, 0, 0))
            self.assertEqual(len(done["in_use"]), 1)
            self.assertTrue(done["in_use"][0].startswith("localhost/gone@sha256:"))
            with open("file-gone", "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=folder)) as file:
                self.assertEqual(file.read(), self.contents["gone"])
        finally:
            os.close(folder)
        self.forget_what_the_kernel_holds(daemon)
        self.assertEqual(self.cache(daemon, "gc")["layers"], 1)

    def test_pins_aliases_and_late_use_keep_an_image(self):
        """[S68]"""
        daemon = self.lamina()
        for name in ("pinned", "aliased", "late"):
            self.add(daemon, name, name)
            self.assert_reads(daemon, name, name)
        digest = self.cache(daemon, "pin", "localhost/pinned:v1")["digest"]
        daemon.command("alias", "localhost/aliased:kept", daemon.command(
            "resolve", "localhost/aliased:v1").stdout.strip().rpartition("@")[2])
        for name in ("pinned", "aliased", "late"):
            daemon.command("forget", self.layouts[name])
        daemon.stop()
        self.assertEqual(self.cache(daemon, "gc", "--after", "1h")["layers"], 0)
        self.assertEqual(self.cache(daemon, "gc")["layers"], 1)
        self.assertEqual(self.cache(daemon, "stat")["layers_whole"], 2)
        self.cache(daemon, "unpin", "localhost/pinned@" + digest)
        self.assertEqual(self.cache(daemon, "gc")["layers"], 1)
        daemon.start()

    def test_a_tag_that_is_known_works_offline_after_a_collection(self):
        """[S68]"""
        registry = self.registry()
        layout = Layout(self.folder + "/layout")
        first, second = (random.Random(n).randbytes(2 * MIB) for n in (1, 2))
        small.make(layout, "one", {"file": first})
        small.make(layout, "two", {"file": second})
        registry.push(layout.path, "one", "app", "latest")
        daemon = self.lamina("--tag-ttl", "0")
        path = daemon.path(registry.host.replace(":", "_") + "_", "app", "latest", "rootfs", "file")
        self.assertEqual(read(path), first)
        registry.push(layout.path, "two", "app", "latest")
        self.assertEqual(read(path), second)
        self.forget_what_the_kernel_holds(daemon)
        self.assertEqual(self.cache(daemon, "gc", "--after", "1h")["layers"], 0, "the tag had it of late")
        self.assertEqual(self.cache(daemon, "gc")["layers"], 1)
        registry.stop()
        daemon.restart()
        self.assertEqual(read(path), second)

    def test_readers_get_the_right_bytes_while_garbage_is_collected(self):
        """[S68]"""
        daemon = self.lamina()
        self.add(daemon, "a", "a")
        self.add(daemon, "b", "b")
        ended = threading.Event()

        def read_on():
            while not ended.is_set():
                self.assert_reads(daemon, "a", "a")

        def come_and_go():
            try:
                for _ in range(5):
                    daemon.command("fetch", "localhost/b:v1")
                    daemon.command("forget", self.layouts["b"])
                    self.cache(daemon, "gc")
                    daemon.command("cache", "clear")
                    daemon.command("add", self.layouts["b"], "--as", "b")
                    self.assert_reads(daemon, "b", "b")
            finally:
                ended.set()
        self.run_threads(4, lambda number: come_and_go() if number == 0 else read_on())
        self.assertEqual(daemon.metrics()["lamina_cache_rotten_total"], 0)


class VerifyTest(UpkeepCase):
    DAMAGES = (("cache", ".data", 4096 + 5, "chunk"), ("cache", ".map", 32, "chunk"), ("cache", ".map", 3, "map"),
               ("index", ".idx", -100, "index"), ("index", ".idx", 30, "index"), ("tree", ".erofs", 4100, "tree"))

    def test_what_is_bad_is_found_dropped_and_made_again(self):
        """[S69]"""
        daemon = self.lamina()
        self.add(daemon, "a", "a")
        for with_daemon in (True, False):
            for folder, ending, offset, what in self.DAMAGES:
                with self.subTest(file=ending, offset=offset, daemon=with_daemon):
                    daemon.command("fetch", "localhost/a:v1")
                    if with_daemon:
                        self.assert_reads(daemon, "a", "a")
                    else:
                        daemon.stop()
                    [name] = [name for name in self.files(daemon, folder) if name.endswith(ending)]
                    path = f"{daemon.store}/{folder}/{name}"
                    flip(path, offset if offset >= 0 else os.path.getsize(path) + offset)
                    done = daemon.command("cache", "verify", "--json", check=False)
                    self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                    self.assertEqual([bad["what"] for bad in json.loads(done.stdout)["bad"]], [what])
                    self.assertEqual(self.cache(daemon, "verify")["bad"], [])
                    if not with_daemon:
                        daemon.start()
                    run("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
                    self.assert_reads(daemon, "a", "a")

    def test_one_image_alone_is_verified(self):
        """[S69]"""
        daemon = self.lamina()
        self.add(daemon, "a", "a")
        self.add(daemon, "b", "b")
        self.assert_reads(daemon, "a", "a")
        self.assert_reads(daemon, "b", "b")
        flip(f"{daemon.store}/cache/{path_name(self.digests['b'][0])}.data", 5000)
        done = self.cache(daemon, "verify", "localhost/a:v1")
        self.assertEqual((done["indexes"], done["trees"], done["bad"]), (1, 1, []))
        self.assertGreaterEqual(done["chunks"], 3)
        done = daemon.command("cache", "verify", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"bad chunk: {self.digests['b'][0]}: chunk 0", done.stdout)


class ClearTest(UpkeepCase):
    def test_bytes_are_removed_and_fetched_again(self):
        """[S70]"""
        daemon = self.lamina()
        self.add(daemon, "a", "shared", "a")
        self.add(daemon, "b", "shared", "b")

        def check():
            daemon.command("fetch", "localhost/a:v1")
            daemon.command("fetch", "localhost/b:v1")
            self.cache(daemon, "pin", "localhost/b:v1")
            done = self.cache(daemon, "clear", "localhost/a:v1")
            self.assertEqual((done["layers"], done["pinned_layers"]), (1, 1))
            self.assertGreaterEqual(done["bytes"], 3 * MIB)
            self.assertGreater(disk_bytes(daemon.store + "/cache"), 6 * MIB)
            self.cache(daemon, "unpin", "localhost/b:v1")
            self.assertEqual(self.cache(daemon, "clear")["pinned_layers"], 0)
            self.assertLessEqual(disk_bytes(daemon.store + "/cache"), 3 * 4096, "maps")
            if daemon.process:
                run("sh", "-c", "echo 1 > /proc/sys/vm/drop_caches")
                self.assert_reads(daemon, "a", "shared", "a")
                self.assert_reads(daemon, "b", "shared", "b")
        self.both_ways(daemon, check)

    def test_with_a_limit_of_zero_nothing_is_kept(self):
        """[S71]"""
        daemon = self.lamina("--cache-size", "0")
        self.add(daemon, "a", "a")
        self.assert_reads(daemon, "a", "a")
        run("sh", "-c", "echo 1 > /proc/sys/vm/drop_caches")
        self.assert_reads(daemon, "a", "a")
        self.assertEqual(self.files(daemon, "cache"), [])
        self.assertEqual(daemon.metrics()["lamina_cache_write_failures_total"], 0)
        self.assertEqual(daemon.metrics()["lamina_layers_indexed_total"], 1)
