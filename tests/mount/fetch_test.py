"""How much is fetched, and how often: counted by a proxy in front of a real registry, and by lamina's own counters."""

import json
import os

from images import big, cache, small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, read, run, wait_until
from mount.proxy import Proxy

SPACING = 3 << 19  # compressed bytes between two decoder states of a gzip layer, at most (docs/design.md)
CHUNK = 1 << 20  # bytes of payload in a chunk (docs/formats)
READERS = 64


class FetchCase(MountCase):
    """A daemon that reaches one repository through a proxy."""

    def setUp(self):
        super().setUp()
        self.server = self.registry()
        self.proxy = Proxy(self.server.host)
        self.addCleanup(self.proxy.stop)

    def image_path(self, name, tag, daemon=None):
        return (daemon or self.daemon).path(canonical_host(self.proxy.host), name, tag)


class BigLayerTest(FetchCase):
    """An image of one layer of 100 MB that is indexed and whose cache is empty."""

    def open_big(self, kind):
        image = cache.get("big")
        self.server.push(image + "/layout", kind, "big")
        layout = Layout(image + "/layout")
        with open(image + "/ratios.json", encoding="utf-8") as stream:
            self.ratios = json.load(stream)
        self.daemon = self.lamina()
        self.daemon.command("fetch", "--index-only", f"{self.proxy.host}/big:{kind}")
        manifest = json.loads(read(self.image_path("big", kind) + "/manifest.json"))
        self.layer = manifest["layers"][0]["digest"]
        self.assertTrue(os.path.exists(layout.blob_path(self.layer)))
        self.assertGreater(manifest["layers"][0]["size"], 95_000_000)
        self.rootfs = self.image_path("big", kind) + "/rootfs"
        self.daemon.clear_cache()
        self.proxy.forget()

    def go_cold(self):
        self.daemon.clear_cache()
        self.proxy.forget()

    def assert_right(self, sort, number):
        self.assertEqual(read(f"{self.rootfs}/{big.path_of(sort, number)}"), big.content_of(sort, number))

    def layer_gets(self):
        return sorted((record.path, record.byte_range) for record in self.proxy.gets(self.layer))

    def check_one_file(self, sort, number):
        """[S18] Less than two chunks' worth of compressed bytes, by ranges alone."""
        self.assert_right(sort, number)
        fetched = self.proxy.bytes_sent(self.layer)
        self.assertGreater(fetched, 0)
        self.assertLess(fetched, SPACING + 2 * CHUNK * self.ratios[sort], self.proxy.records(self.layer))
        self.assertTrue(all(byte_range for _, byte_range in self.layer_gets()), self.layer_gets())
        counted = sum(value for name, value in self.daemon.metrics().items() if "registry_blob_bytes_total" in name)
        self.assertGreaterEqual(counted, fetched)

    def test_one_small_file_of_a_gzip_layer_costs_less_than_two_chunks(self):
        self.open_big("gzip")
        self.check_one_file("random", 11_111)
        self.go_cold()
        self.check_one_file("plain", 6_000)

    def test_one_small_file_of_a_zstd_layer_costs_less_than_two_chunks(self):
        self.open_big("zstd-frames")
        self.check_one_file("random", 11_111)
        self.go_cold()
        self.check_one_file("plain", 6_000)

    def test_many_readers_of_one_file_cause_the_fetches_of_one(self):
        """[S19]"""
        self.open_big("gzip")
        self.assert_right("random", 5_000)
        alone = self.layer_gets()
        self.go_cold()
        self.proxy.fail(self.layer, delay=0.5)  # so that all come while the first is under way
        self.run_threads(READERS, lambda _: self.assert_right("random", 5_000))
        self.assertEqual(self.layer_gets(), alone)

    def test_many_readers_of_neighbours_fetch_no_chunk_twice(self):
        """[S19] 64 different files of 4 KiB lie in one chunk, or in two."""
        self.open_big("gzip")
        self.proxy.fail(self.layer, delay=0.5)
        self.run_threads(READERS, lambda number: self.assert_right("random", 5_000 + number))
        ranges = self.layer_gets()
        self.assertEqual(len(ranges), len(set(ranges)), ranges)
        self.assertLessEqual(len(ranges), 2)

    def test_a_second_read_fetches_nothing(self):
        """[S18] [S20] Neither after the kernel's pages are gone nor after a restart."""
        self.open_big("gzip")
        self.assert_right("plain", 77)
        self.proxy.forget()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as stream:
            stream.write("3")
        self.assert_right("plain", 77)
        self.daemon.restart()
        self.assert_right("plain", 77)
        self.assertEqual(self.proxy.gets(self.layer), [])

    def test_walking_an_indexed_image_fetches_no_layer_byte(self):
        """[S18]"""
        self.open_big("gzip")
        listing = run("find", self.rootfs, "-printf", "%p %s %m\n").stdout
        self.assertGreater(listing.count("\n"), sum(big.FILES.values()))
        self.assertEqual(self.proxy.gets(self.layer), [])

    def test_an_indexed_layer_is_not_streamed_again_by_another_image(self):
        """[S18] Layers are known by digest, whatever repository they are in."""
        self.open_big("gzip")
        self.server.push(cache.get("big") + "/layout", "gzip", "other/name")
        os.listdir(self.image_path("other/name", "gzip") + "/rootfs")
        self.assertEqual(self.proxy.gets(self.layer), [])


class FirstAccessTest(FetchCase):
    def test_the_first_access_streams_each_layer_once(self):
        """[S17] However many come at once; what streamed by is local then."""
        layout = Layout(self.folder + "/layout")
        descriptor = small.make(layout, "v1", {f"a/{n}": os.urandom(3000) for n in range(300)}, {"b": b"b" * 5000})
        self.server.push(layout.path, "v1", "app")
        self.daemon = self.lamina()
        rootfs = self.image_path("app", "v1") + "/rootfs"
        for digest in small.layer_digests(layout, descriptor):
            self.proxy.fail(digest, delay=0.3)
        self.run_threads(READERS, lambda _: os.listdir(rootfs))
        self.run_threads(8, lambda number: read(f"{rootfs}/a/{number}"))
        for digest in small.layer_digests(layout, descriptor):
            self.assertEqual(len(self.proxy.gets(digest)), 1, self.proxy.records(digest))
        self.assertEqual(self.daemon.metrics()["lamina_layers_indexed_total"], 2)

    def test_names_and_documents_need_no_layer(self):
        layout = Layout(self.folder + "/layout")
        descriptor = small.make(layout, "v1", {"file": b"x"})
        self.server.push(layout.path, "v1", "app")
        self.daemon = self.lamina()
        image = self.image_path("app", "v1")
        for name in ("manifest.json", "config.json", "status.json"):
            json.loads(read(f"{image}/{name}"))
        os.listdir(image)
        for digest in small.layer_digests(layout, descriptor):
            self.assertEqual(self.proxy.gets(digest), [])


class MovingTagTest(FetchCase):
    """[S7] A tag is resolved again after its time to live; who is inside an image stays there."""

    def test_a_moved_tag_shows_the_new_image_and_leaves_the_old_to_those_inside(self):
        layout = Layout(self.folder + "/layout")
        old = small.make(layout, "moving", {"which": b"old\n", "late": b"old and read late\n"})
        self.server.push(layout.path, "moving", "app")
        self.daemon = self.lamina("--tag-ttl", "1")
        tag = self.image_path("app", "moving")
        self.assertEqual(read(tag + "/rootfs/which"), b"old\n")
        inside = os.open(tag + "/rootfs", os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, inside)
        new = small.make(layout, "moving", {"which": b"new\n"})
        self.assertNotEqual(old["digest"], new["digest"])
        self.server.push(layout.path, "moving", "app")
        wait_until(lambda: os.readlink(tag) == new["digest"].replace(":", "-"), "the tag to move")
        self.assertEqual(read(tag + "/rootfs/which"), b"new\n")
        late = os.open("late", os.O_RDONLY, dir_fd=inside)
        self.addCleanup(os.close, late)
        self.assertEqual(os.read(late, 100), b"old and read late\n")
        self.assertEqual(read(f"{os.path.dirname(tag)}/{old['digest']}/rootfs/which"), b"old\n")

    def test_within_its_time_to_live_a_tag_is_asked_for_once(self):
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", {"file": b"x\n"})
        self.server.push(layout.path, "v1", "app")
        self.daemon = self.lamina("--tag-ttl", "600")
        tag = self.image_path("app", "v1")
        read(tag + "/rootfs/file")
        self.proxy.forget()
        for _ in range(20):
            read(tag + "/rootfs/file")
        self.assertEqual(self.proxy.records("/manifests/"), [])

    def test_a_registry_that_is_away_leaves_the_last_known_answer(self):
        """[S8]"""
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", {"file": b"x\n"})
        self.server.push(layout.path, "v1", "app")
        self.daemon = self.lamina("--tag-ttl", "0")
        tag = self.image_path("app", "v1")
        self.assertEqual(read(tag + "/rootfs/file"), b"x\n")
        self.proxy.fail("", refuse=True)
        self.assertEqual(read(tag + "/rootfs/file"), b"x\n")
        self.daemon.restart()
        self.assertEqual(read(tag + "/rootfs/file"), b"x\n")
        told = json.loads(self.daemon.command("resolve", "--json", f"{self.proxy.host}/app:v1").stdout)
        self.assertTrue(told["stale"])
