"""How bytes come: small ranges for sparse reads, wide ones for who reads in order or fetches all, and never more at a
time than there may be. Counted by a proxy in front of a real registry."""

import hashlib
import os
import random
import re

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, read, run
from mount.proxy import Proxy

MIB = 1 << 20
SIZE = 96 * MIB  # of the large file
BUFFER = 128 << 10  # of the stream: the bytes of a chunk are fetched up to the end of one


class TransferCase(MountCase):
    """A daemon that reaches one repository through a proxy; an image of one large file that does not compress."""

    def setUp(self):
        super().setUp()
        self.server = self.registry()
        self.proxy = Proxy(self.server.host)
        self.addCleanup(self.proxy.stop)

    def push_large(self, kind, size=SIZE, name="large"):
        self.content = random.Random(7).randbytes(size)
        layout = Layout(self.folder + "/layout")
        descriptor = small.make(layout, name, {"file": self.content}, kind=kind)
        self.layer = small.layer_digests(layout, descriptor)[0]
        self.server.push(layout.path, name, name)

    def open_large(self, kind="gzip", size=SIZE, options=()):
        """Indexed, and nothing of it local."""
        self.push_large(kind, size)
        self.daemon = self.lamina(*options)
        self.reference = f"{self.proxy.host}/large:large"
        self.daemon.command("fetch", "--index-only", self.reference)
        self.go_cold()
        self.file = self.daemon.path(canonical_host(self.proxy.host), "large", "large", "rootfs", "file")

    def go_cold(self):
        self.daemon.clear_cache()
        self.proxy.forget()

    def ranges(self):
        """[begin, end) of each request for the layer."""
        found = []
        for record in self.proxy.gets(self.layer):
            first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", record.byte_range).groups()
            found.append((int(first), int(last) + 1))
        return sorted(found)

    def assert_nothing_twice(self, slack=0):
        """`slack`: bytes that may come again, since a decoder enters at a state before the first chunk of a request."""
        end, twice = 0, 0
        for begin, until in self.ranges():
            twice += max(0, min(end, until) - begin)
            end = max(end, until)
        self.assertLessEqual(twice, slack, self.ranges())


class SequentialTest(TransferCase):
    def check(self, kind, slack):
        """[S80] [S81]"""
        self.open_large(kind)
        self.assertEqual(read(self.file), self.content)
        self.assertLessEqual(len(self.ranges()), SIZE // (4 * MIB) + 8, self.ranges())
        self.assert_nothing_twice(slack)
        metrics = self.daemon.metrics()
        self.assertGreater(metrics["lamina_fetch_ahead_bytes_total"], SIZE * 3 // 4)
        self.assertEqual(metrics["lamina_fetch_ahead_bytes_total"], metrics["lamina_fetch_ahead_used_bytes_total"])
        self.assertGreater(metrics["lamina_fetch_joined_requests_total"], 4)
        self.assertLessEqual(metrics["lamina_fetch_bytes_in_flight_most"], 64 * MIB)

    def test_a_large_file_of_a_plain_layer_comes_by_wide_ranges(self):
        self.check("tar", 4 * MIB)

    def test_a_large_file_of_a_gzip_layer_comes_by_wide_ranges(self):
        self.check("gzip", SIZE // 4)

    def test_many_readers_of_one_large_file_fetch_each_byte_once(self):
        """[S19] [S81]"""
        self.open_large("tar")
        # In processes of their own, so that the proxy is not starved.
        sums = run("sh", "-c", f"for i in $(seq 64); do sha256sum < '{self.file}' & done; wait").stdout.split()[::2]
        self.assertEqual(sums, [hashlib.sha256(self.content).hexdigest()] * 64)
        self.assertLessEqual(self.daemon.metrics()["lamina_cache_misses_total"], SIZE // MIB + 1)
        self.assert_nothing_twice(len(self.ranges()) * BUFFER)
        self.assertLessEqual(self.daemon.metrics()["lamina_fetch_bytes_in_flight_most"], 64 * MIB)


class SparseTest(TransferCase):
    def test_sparse_reads_take_small_ranges_and_nothing_ahead(self):
        """[S80]"""
        self.open_large("tar")
        run("sh", "-c", "echo 0 > /sys/class/bdi/$(mountpoint -d " + self.daemon.mountpoint + ")/read_ahead_kb")
        offsets = [n * 9 * MIB + 4096 * n for n in range(10)]
        with open(self.file, "rb", buffering=0) as file:
            for offset in offsets:
                self.assertEqual(os.pread(file.fileno(), 4096, offset), self.content[offset:offset + 4096])
        self.assertEqual(len(self.ranges()), len(offsets))
        self.assertLess(sum(end - begin for begin, end in self.ranges()), len(offsets) * 2 * MIB)
        metrics = self.daemon.metrics()
        self.assertEqual(metrics["lamina_fetch_ahead_bytes_total"], 0)
        self.assertEqual(metrics["lamina_fetch_joined_requests_total"], 0)


class FetchTest(TransferCase):
    def test_an_indexed_image_is_fetched_by_wide_ranges(self):
        """[S82] What is local already is not fetched again."""
        for kind, slack in (("tar", 4 * MIB), ("gzip", SIZE // 4)):
            with self.subTest(kind):
                self.server.stop()
                self.server = self.registry("registry-" + kind)
                self.proxy.upstream = self.server.host
                self.open_large(kind)
                with open(self.file, "rb") as file:
                    self.assertEqual(os.pread(file.fileno(), 4096, 40 * MIB), self.content[40 * MIB:40 * MIB + 4096])
                self.daemon.command("fetch", self.reference)
                self.assertLessEqual(len(self.ranges()), SIZE // (4 * MIB) + 8, self.ranges())
                self.assert_nothing_twice(slack)
                self.proxy.forget()
                self.assertEqual(read(self.file), self.content)
                self.assertEqual(self.ranges(), [])
                self.assertLessEqual(self.daemon.metrics()["lamina_fetch_bytes_in_flight_most"], 64 * MIB)
                self.daemon.stop()
                run("rm", "-rf", self.daemon.store, self.folder + "/layout")


class FirstStreamTest(TransferCase):
    def test_a_large_layer_comes_first_in_pieces_each_once(self):
        """[S17] [S84] Where a connection is slower than the pass."""
        self.push_large("tar")
        self.proxy.fail("/blobs/", rate=16 * MIB)
        self.daemon = self.lamina()
        self.reference = f"{self.proxy.host}/large:large"
        self.daemon.command("fetch", "--index-only", self.reference)
        ranges = self.ranges()
        self.assertEqual(ranges[0], (0, 8 * MIB))
        self.assertEqual([begin for begin, _ in ranges[1:]], [end for _, end in ranges[:-1]])
        self.assertTrue(all(end - begin == 8 * MIB for begin, end in ranges[:-1]), ranges)
        self.assertLessEqual(self.daemon.metrics()["lamina_fetch_bytes_in_flight_most"], 64 * MIB)
        file = self.daemon.path(canonical_host(self.proxy.host), "large", "large", "rootfs", "file")
        self.assertEqual(read(file), self.content)
        self.assertEqual(self.ranges(), ranges)
