"""Images with SOCI indexes, by an independent writer (tests/images/soci.py), in a real registry: lazy from the first byte,
the same tree as without, and nothing believed that is not right."""

import errno
import gzip
import json
import os
import random

from images import cache, small, soci
from images.layers import TarLayer
from images.oci import Layer, Layout

from mount import compare
from mount.fetch_test import CHUNK, FetchCase
from mount.harness import MountCase, canonical_host, read, run

SPAN = 512 << 10
NOISE = random.Random(7).randbytes(16 << 20)
PIECE = 64 << 10  # bytes of each file of noise
NAMED = "named by the manifest"
REFERRING = "among the referrers in"


def noise(number):
    return NOISE[number * PIECE:(number + 1) * PIECE]


def _base(path):
    with TarLayer(path) as layer:
        layer.directory(".").directory("noise").directory("etc", mode=0o750, uid=3, gid=4)
        for number in range(len(NOISE) // PIECE):
            layer.file(f"noise/{number:03}", noise(number))
        layer.file("etc/empty").file("etc/text", b"some text\n" * 50_000, mode=0o4755, mtime="1.000000001")
        layer.symlink("etc/link", "text").hardlink("etc/hard", "etc/text").fifo("etc/pipe")
        layer.device("etc/char", "char", 5, 1).device("etc/block", "block", 8, 17)
        layer.file("etc/" + "long" * 60, b"long")
        layer.file(b"etc/no-utf8-\xff\xfe", b"bytes", xattrs={"user.note": b"a\0\xff\"\\ b"})
        layer.file("etc/tool", b"x", xattrs={"security.capability": bytes.fromhex("0100000202000000") + bytes(12)})
        layer.directory("gone").file("gone/file", b"x").directory("hidden").file("hidden/file", b"x")


def _middle(path):
    with TarLayer(path) as layer:
        layer.directory("middle").file("middle/file", b"m" * 5000)
        layer.directory("hidden").opaque("hidden").file("hidden/new", b"new")


def _upper(path):
    with TarLayer(path) as layer:
        layer.whiteout("gone").directory("upper").file("upper/file", b"u" * 700_000)
        layer.hardlink("upper/hard", "upper/file")


class SociCase(FetchCase):
    """A registry that holds the same image of three layers with and without SOCI indexes."""

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.daemon = None

    def make_image(self, base=None, kinds=("gzip", "gzip", "tar")):
        """The plain image, in the layout alone; layer 0 may be a ready blob."""
        layers = []
        for number, (write, kind) in enumerate(zip((_base, _middle, _upper), kinds)):
            raw = f"{self.folder}/{number}.tar"
            write(raw)
            blob = None
            if base and number == 0:
                blob = base(raw)
            layers.append(Layer(raw, kind, blob))
        self.image = self.layout.put_image(layers)
        self.layout.tag(self.image, "plain")
        self.layers = [layer["digest"] for layer in self.layout.document(self.image["digest"])["layers"]]

    def push(self, *tags):
        for tag in tags:
            self.server.push(self.layout.path, tag, "app")

    def push_artifact(self, descriptor, tag=None):
        soci.push(self.server.host, "app", self.layout, descriptor, tag)

    def push_v1(self, **more):
        """The plain image, and beside it an index that refers to it. Its tag, and the index."""
        index = soci.add_v1(self.layout, self.image, SPAN, **more)
        self.push("plain")
        self.push_artifact(soci.put_referrers(self.layout, [index]), soci.fallback_tag(self.image))
        return "plain", self.layout.document(index["digest"])

    def push_v2(self, **more):
        """The image with the annotation that names its index. Its tag, and the index."""
        _, index = soci.add_v2(self.layout, self.image, SPAN, "v2", **more)
        self.push_artifact(index)
        self.push("v2")
        return "v2", self.layout.document(index["digest"])

    def mount(self, tag, *options):
        self.daemon = self.daemon or self.lamina(*options)
        return self.image_path("app", tag) + "/rootfs"

    def assert_same_tree(self, rootfs):
        """As the plain image, from the layout, is served by another daemon."""
        other = self.lamina(name="other")
        other.command("add", f"oci:{self.layout.path}:plain", "--as", "plain")
        compare.assert_equal(self, other.path("localhost", "plain", "plain", "rootfs"), rootfs)

    def whole_streams(self, number):
        return [record for record in self.proxy.gets(self.layers[number]) if not record.byte_range]

    def ztoc_of(self, index, number):
        return next(entry["digest"] for entry in index["layers"]
                    if entry["annotations"][soci.LAYER_DIGEST] == self.layers[number])

    def status(self, tag):
        return json.loads(read(self.image_path("app", tag) + "/status.json"))

    def referrer_requests(self):
        return (len(self.proxy.records("/referrers/")),
                len(self.proxy.records("/manifests/" + soci.fallback_tag(self.image))))


class SociTreeTest(SociCase):
    def test_an_image_whose_manifest_names_the_index_is_lazy_and_the_same(self):
        """[S60] [S61]"""
        self.make_image()
        tag, _ = self.push_v2()
        rootfs = self.mount(tag)
        listing = sorted(os.listdir(rootfs + "/noise"))
        self.assertEqual(len(listing), len(NOISE) // PIECE)
        for number in range(3):
            self.assertEqual(self.whole_streams(number), [], self.proxy.records())
        self.assertIn(NAMED, self.daemon.log_text())
        self.assertEqual(self.referrer_requests(), (0, 0))
        self.assert_same_tree(rootfs)

    def test_an_image_that_is_referred_to_is_lazy_and_the_same(self):
        """[S60] [S61] The first checkpoint of layer 0 is implied."""
        self.make_image()
        tag, _ = self.push_v1(kinds={0: "v1", 2: "plain-flatbuffer"})
        rootfs = self.mount(tag)
        os.listdir(rootfs)
        for number in range(3):
            self.assertEqual(self.whole_streams(number), [], self.proxy.records())
        self.assertIn(REFERRING, self.daemon.log_text())
        self.assert_same_tree(rootfs)

    def test_layers_without_a_ztoc_are_indexed_beside_those_with_one(self):
        """[S60]"""
        self.make_image()
        tag, _ = self.push_v2(skip={1})
        rootfs = self.mount(tag)
        os.listdir(rootfs)
        self.assertEqual([len(self.whole_streams(number)) for number in range(3)], [0, 1, 0])
        self.assert_same_tree(rootfs)

    def test_layers_of_several_members_and_of_odd_headers(self):
        """[S60] What follows the first member belongs to the last span."""
        self.make_image(base=self._two_members)
        tag, _ = self.push_v2()
        rootfs = self.mount(tag)
        os.listdir(rootfs)
        self.assertEqual(self.whole_streams(0), [])
        self.assert_same_tree(rootfs)

    def _two_members(self, raw):
        data = read(raw)
        blob = self.folder + "/members.gz"
        with open(blob, "wb") as out:
            with gzip.GzipFile("a name in the header", "wb", 6, out, 0) as packer:
                packer.write(data[:12 << 20])
            out.write(gzip.compress(b""))
            out.write(gzip.compress(data[12 << 20:]))
        return blob

    def test_whole_images_agree_with_their_indexes(self):
        """[S62] After all has come the index is lamina's own, and the tree is what it was."""
        self.make_image()
        tag, _ = self.push_v2()
        rootfs = self.mount(tag)
        before = compare.snapshot(rootfs)
        self.daemon.command("fetch", f"{self.proxy.host}/app:{tag}")
        self.assertEqual(compare.snapshot(rootfs), before)
        self.daemon.restart()
        self.assertEqual(compare.snapshot(rootfs), before)


class SociCostTest(SociCase):
    def test_a_cold_read_costs_the_spans_of_its_chunk(self):
        """[S61] And a walk of the tree nothing but the header of a layer."""
        self.make_image()
        tag, index = self.push_v2()
        rootfs = self.mount(tag)
        for folder, _, files in os.walk(rootfs):
            for name in files:
                os.lstat(os.path.join(folder, name))
        self.assertLess(self.proxy.bytes_sent(self.layers[0]), 100, self.proxy.records(self.layers[0]))
        for number in (200, 10, 100):
            self.proxy.forget()
            self.assertEqual(read(f"{rootfs}/noise/{number:03}"), noise(number))
            # A chunk is 1 MiB of noise, which does not shrink; spans begin before it and end behind.
            self.assertLess(self.proxy.bytes_sent(self.layers[0]), CHUNK + 4 * SPAN)
            self.assertLessEqual(len(self.proxy.gets(self.layers[0])), 2, self.proxy.records(self.layers[0]))
            self.assertEqual(self.whole_streams(0), [])
        self.assertEqual(len(self.proxy.gets(self.ztoc_of(index, 0))), 0)

    def test_referrers_are_asked_for_once_an_image(self):
        """[S60] docker-registry has no list of them, so that the tag is asked for, too."""
        self.make_image()
        tag, _ = self.push_v1()
        rootfs = self.mount(tag)
        self.run_threads(16, lambda _: os.listdir(rootfs))
        self.assertEqual(self.referrer_requests(), (1, 1))
        self.daemon.restart()
        read(f"{rootfs}/noise/000")
        self.assertEqual(self.referrer_requests(), (1, 1))

    def test_an_image_that_nothing_refers_to_costs_two_requests(self):
        """[S60]"""
        self.make_image()
        self.push("plain")
        rootfs = self.mount("plain")
        os.listdir(rootfs)
        self.assertEqual(self.referrer_requests(), (1, 1))
        self.assertEqual([len(self.whole_streams(number)) for number in range(3)], [1, 1, 1])

    def test_nobody_is_asked_about_zstd_layers(self):
        """[S60] No zTOC tells of them."""
        self.image = small.make(self.layout, "zstd", {"a": b"a" * 5000}, {"b": b"b"}, kind="zstd")
        self.push("zstd")
        os.listdir(self.mount("zstd"))
        self.assertEqual(self.referrer_requests(), (0, 0))


class SociDistrustTest(SociCase):
    def test_a_span_with_another_digest_is_an_error_of_what_needs_it(self):
        """[S61] In words; the rest can be read."""
        def spoil(number, document):
            if number == 0:
                digests = document["compression_info"]["span_digests"]
                digests[len(digests) // 2] = "sha256:" + 64 * "0"
        self.make_image()
        tag, _ = self.push_v2(spoil=spoil)
        rootfs = self.mount(tag)
        with self.assertRaises(OSError) as caught:
            for number in range(100, 156):
                read(f"{rootfs}/noise/{number:03}")
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertIn("digest", str(self.status(tag)))
        self.assertEqual(read(f"{rootfs}/noise/000"), noise(0))
        self.assertEqual(read(f"{rootfs}/noise/255"), noise(255))

    def assert_indexed_here(self, tag):
        rootfs = self.mount(tag)
        os.listdir(rootfs)
        self.assertEqual(len(self.whole_streams(0)), 1, self.proxy.records())
        self.assertIn("cannot be used", self.daemon.log_text())
        self.assert_same_tree(rootfs)

    def test_a_ztoc_that_is_not_what_its_digest_says_is_left_alone(self):
        """[S62]"""
        self.make_image()
        tag, index = self.push_v2()
        self.proxy.fail(self.ztoc_of(index, 0), corrupt=True)
        self.assert_indexed_here(tag)

    def test_a_ztoc_that_cannot_be_is_left_alone(self):
        """[S62]"""
        def spoil(number, document):
            if number == 0:
                document["toc"]["metadata"][3]["uncompressed_offset"] += 2048
        self.make_image()
        tag, _ = self.push_v2(spoil=spoil)
        self.assert_indexed_here(tag)

    def test_checkpoints_of_a_header_that_the_layer_does_not_have_are_left_alone(self):
        """[S62] The first one is implied and means 10 bytes; the layer's has a name in it."""
        def named(raw):
            blob = self.folder + "/named.gz"
            with open(blob, "wb") as out:
                with gzip.GzipFile("a name in the header", "wb", 6, out, 0) as packer:
                    packer.write(read(raw))
            return blob
        self.make_image(base=named)
        tag, _ = self.push_v1(kinds={0: "v1"})
        self.assert_indexed_here(tag)

    def test_an_index_of_another_image_is_left_alone(self):
        """[S62]"""
        self.make_image()
        other = small.make(self.layout, "other", {"x": b"x"})
        index = soci.add_v1(self.layout, other, SPAN)
        self.push("plain")
        self.push_artifact(soci.put_referrers(self.layout, [index]), soci.fallback_tag(self.image))
        os.listdir(self.mount("plain"))
        self.assertEqual(len(self.whole_streams(0)), 1)

    def test_a_ztoc_that_tells_another_tree_is_found_out_when_the_layer_has_come(self):
        """[S62] The image is then refused, for ever and in words."""
        def spoil(number, document):
            if number == 0:
                entry = next(e for e in document["toc"]["metadata"] if e["name"] == "etc/tool")
                entry["mode"] = 0o4777
        self.make_image()
        tag, _ = self.push_v2(spoil=spoil)
        rootfs = self.mount(tag)
        self.assertEqual(os.stat(rootfs + "/etc/tool").st_mode & 0o7777, 0o4777)
        done = self.daemon.command("fetch", f"{self.proxy.host}/app:{tag}", check=False)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("SOCI", done.stderr)
        with self.assertRaises(OSError):
            read(f"{rootfs}/noise/000")
        self.daemon.restart()
        with self.assertRaises(OSError):
            read(f"{rootfs}/noise/001")
        self.assertIn("not served", str(self.status(tag)))


class SociDebianTest(MountCase):
    def test_a_debian_image_equals_what_umoci_unpacks(self):
        """[S60] [S61] Its layers with sparse files are none that a zTOC can tell of."""
        made = cache.get("debian")
        run("skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", f"oci:{made}/layout:gzip",
            f"oci:{self.folder}/layout:gzip")
        layout = Layout(self.folder + "/layout")
        (entry,) = json.loads(read(layout.path + "/index.json"))["manifests"]
        image = {key: entry[key] for key in ("mediaType", "digest", "size")}
        _, soci_index = soci.add_v2(layout, image, 1 << 24, "soci")
        server = self.registry()
        soci.push(server.host, "debian", layout, soci_index)
        server.push(layout.path, "soci", "debian")
        daemon = self.lamina()
        rootfs = daemon.path(canonical_host(server.host), "debian", "soci", "rootfs")
        compare.assert_equal(self, made + "/umoci/rootfs", rootfs)
        self.assertIn(NAMED, daemon.log_text())
        self.assertIn("sparse file", daemon.log_text())
