"""Layers that carry a table of contents, eStargz and zstd:chunked, as Debian's own tools write them: from a real registry,
lazy from the first byte, and the same tree as the plain image. What is wrong with them fails closed, in words."""

import errno
import json
import os

from images import cache, toc
from images.oci import Layout

from mount import compare
from mount.harness import MountCase, canonical_host, read, run
from mount.proxy import Proxy

ROUNDED = ("estargz", "estargz-64k", "stargz-zstd", "legacy")
EXACT = ("chunked", "chunked-new")
# Of a layer of 2.4 MB: the tail with the table, and the chunk that the file is in.
TAIL = 128 << 10
MOST_BYTES = 500_000
MOST_REQUESTS = 3


class TocCase(MountCase):
    def setUp(self):
        super().setUp()
        self.image = cache.get("toc")
        self.server = self.registry()
        self.proxy = Proxy(self.server.host)
        self.addCleanup(self.proxy.stop)

    def layout(self, name):
        return Layout(f"{self.image}/layouts/{name}")

    def push(self, name, layout=None):
        """The image's layers, bottom first."""
        layout = layout or self.layout(name)
        self.server.push(layout.path, toc.TAG, f"toc/{name}")
        return toc.manifest_of(layout)["layers"]

    def reference(self, name):
        return f"{self.proxy.host}/toc/{name}:{toc.TAG}"

    def path_of(self, name):
        return self.daemon.path(canonical_host(self.proxy.host), "toc", name, toc.TAG)

    def rootfs(self, name):
        return self.path_of(name) + "/rootfs"

    def last_error(self, name):
        return json.loads(read(self.path_of(name) + "/status.json"))["last_error"]["message"]

    def assert_lazy(self, layers):
        """What has come of the layers came in ranges, save of those that are smaller than the end that is looked at."""
        gets = [(layer["size"], get) for layer in layers for get in self.proxy.gets(layer["digest"])]
        self.assertTrue(gets)
        self.assertFalse([get for size, get in gets if size > TAIL and not get.byte_range])


class TreeTest(TocCase):
    def assert_same(self, name, options=compare.Options()):
        compare.assert_equal(self, self.rootfs("plain"), self.rootfs(name), options)

    def check(self, names, options=compare.Options()):
        self.push("plain")
        for name in names:
            self.push(name)
        self.daemon = self.lamina()
        for name in names:
            with self.subTest(name):
                self.assert_same(name, options)
                self.assert_lazy(toc.manifest_of(self.layout(name))["layers"])

    def test_tables_of_stargz_snapshotter_show_the_tree_of_the_plain_image(self):
        """[S57] Its writers keep times in whole seconds."""
        self.check(ROUNDED, compare.Options(whole_seconds=True))

    def test_tables_of_containers_storage_show_the_tree_of_the_plain_image(self):
        self.check(EXACT)

    def test_holes_are_not_fetched(self):
        """[S55]"""
        layer = self.push("chunked")[0]["digest"]
        self.daemon = self.lamina()
        self.assertEqual(read(self.rootfs("chunked") + "/zeros/around"), b"A" * 1000 + bytes(3 << 20) + b"B" * 5000 + bytes(70000))
        self.assertLess(self.proxy.bytes_sent(layer), MOST_BYTES)

    def test_a_blob_whose_table_the_manifest_does_not_name_is_a_plain_layer(self):
        """[S56] skopeo of Debian 12 writes such blobs."""
        self.push("plain")
        bare = Layout(self.folder + "/bare")
        toc.rewrite(self.layout("chunked"), bare.path, lambda blob, layer: (blob, {"mediaType": layer["mediaType"]}))
        layers = self.push("bare", bare)
        self.daemon = self.lamina()
        self.assert_same("bare")
        self.assertTrue(any(not get.byte_range for get in self.proxy.gets(layers[0]["digest"])))


    def push_external(self, *toc_tag):
        self.push("plain")
        layers = self.push("external")
        if toc_tag:
            self.server.push(self.layout("external-toc").path, toc.TAG, "toc/external", *toc_tag)
        self.daemon = self.lamina()
        return layers

    def test_a_table_in_another_image_is_found_beside_the_tag(self):
        """[S55]"""
        layers = self.push_external(toc.TAG + "-esgztoc")
        self.assert_same("external", compare.Options(whole_seconds=True))
        self.assert_lazy(layers)

    def test_a_layer_whose_table_in_another_image_is_not_found_is_a_plain_layer(self):
        """[S56]"""
        self.push_external()
        own_files = os.listdir(self.rootfs("external"))
        self.assertFalse([name for name in own_files if "landmark" in name or "stargz" in name])
        self.assert_same("external")


class CostTest(TocCase):
    """[S55] The table, by its footer or by the manifest, and one chunk."""

    def check_cold_read(self, name):
        layers = self.push(name)
        layer = layers[0]["digest"]
        self.daemon = self.lamina()
        self.assertEqual(read(self.rootfs(name) + "/many/file-007"), b"7\n" * 7)
        self.assert_lazy(layers)
        gets = self.proxy.gets(layer)
        self.assertLessEqual(len(gets), MOST_REQUESTS, gets)
        self.assertLess(self.proxy.bytes_sent(layer), MOST_BYTES, gets)

    def test_first_file_of_an_estargz_layer(self):
        self.check_cold_read("estargz")

    def test_first_file_of_a_legacy_layer(self):
        self.check_cold_read("legacy")

    def test_first_file_of_a_zstd_chunked_layer_of_stargz_snapshotter(self):
        self.check_cold_read("stargz-zstd")

    def test_first_file_of_a_zstd_chunked_layer_of_containers_storage(self):
        self.check_cold_read("chunked")

    def test_first_file_of_a_zstd_chunked_layer_that_is_found_by_its_footer(self):
        self.check_cold_read("chunked-new")


class WrongTableTest(TocCase):
    """An image whose bottom layer was changed, beside one that is well."""

    def setUp(self):
        super().setUp()
        self.push("plain")

    def open_changed(self, name, change, config=toc.set_diff_ids):
        """`change` is for the first layer."""
        layers = iter([change])
        changed = Layout(self.folder + "/changed")
        keep = lambda blob, layer: (blob, layer)  # noqa: E731
        toc.rewrite(self.layout(name), changed.path, lambda *layer: next(layers, keep)(*layer), config)
        self.push("changed", changed)
        self.daemon = self.lamina()

    def assert_refused(self, words):
        """[S58] No name of it shows, the reason is told, and others are well."""
        with self.assertRaises(OSError) as raised:
            os.listdir(self.rootfs("changed"))
        self.assertEqual(raised.exception.errno, errno.EIO)
        self.assertIn(words, self.last_error("changed"))
        self.assertEqual(read(self.rootfs("plain") + "/new"), b"hello " * 10)

    def test_corrupt_table(self):
        def change(blob, layer):
            middle = (toc.toc_offset(blob) + len(blob)) // 2
            return blob[:middle] + bytes([blob[middle] ^ 0x55]) + blob[middle + 1:], layer
        self.open_changed("estargz", change, config=None)
        self.assert_refused("table of contents")

    def test_corrupt_table_of_zstd_chunked(self):
        def change(blob, layer):
            return blob[:-60] + bytes([blob[-60] ^ 0x55]) + blob[-59:], layer
        self.open_changed("chunked", change, config=None)
        self.assert_refused("compressed table of contents has the digest")

    def test_truncated_footer(self):
        self.open_changed("estargz", lambda blob, layer: (blob[:-10], layer), config=None)
        self.assert_refused("the layer ends in no footer")

    def test_manifest_that_names_two_tables(self):
        def change(blob, layer):
            layer["annotations"][toc.NEW_PREFIX + "manifest-checksum"] = layer["annotations"][toc.TOC_DIGEST]
            return blob, layer
        self.open_changed("estargz", change)
        self.assert_refused("both a zstd:chunked and an eStargz")

    def test_table_with_chunks_that_leave_a_gap(self):
        def change(document):
            chunk = next(entry for entry in document["entries"] if entry["type"] == "chunk")
            chunk["chunkOffset"] += 1
        self.open_changed("estargz", toc.with_table(change))
        self.assert_refused("'etc/big'")

    def check_wrong_chunk_digest(self, name, with_table, config):
        """[S58]"""
        def change(document):
            for entry in document["entries"]:
                if entry["name"] == "times/late":
                    entry["digest"] = "sha256:" + "0" * 64
                    if "chunkDigest" in entry:
                        entry["chunkDigest"] = entry["digest"]
        self.open_changed(name, with_table(change), config)
        self.assertEqual(os.stat(self.rootfs("changed") + "/times/late").st_size, 1)
        with self.assertRaises(OSError) as raised:
            read(self.rootfs("changed") + "/times/late")
        self.assertEqual(raised.exception.errno, errno.EIO)
        self.assertIn("digest", self.last_error("changed"))
        self.assertEqual(len(read(self.rootfs("changed") + "/etc/big")), 5 << 20)

    def test_wrong_digest_of_a_chunk(self):
        self.check_wrong_chunk_digest("estargz", toc.with_table, toc.set_diff_ids)

    def test_wrong_digest_of_a_chunk_of_zstd_chunked(self):
        self.check_wrong_chunk_digest("chunked", toc.with_chunked_table, None)

    def check_disagreement(self, name, with_table, config):
        """[S59] Nobody can see it before all of the layer has come; then the layer is refused and stays so."""
        def change(document):
            next(entry for entry in document["entries"] if entry["name"] == "owner")["uid"] = 0
        self.open_changed(name, with_table(change), config)
        self.assertEqual(os.stat(self.rootfs("changed") + "/owner").st_uid, 0)
        done = self.daemon.command("fetch", self.reference("changed"), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("differ at '/owner': its owner", done.stderr)
        with self.assertRaises(OSError):
            read(self.rootfs("changed") + "/owner")
        self.daemon.restart()
        with self.assertRaises(OSError):
            read(self.rootfs("changed") + "/owner")
        self.assertEqual(read(self.rootfs("plain") + "/new"), b"hello " * 10)

    def test_table_that_disagrees_with_the_tar(self):
        self.check_disagreement("estargz", toc.with_table, toc.set_diff_ids)

    def test_table_of_zstd_chunked_that_disagrees_with_the_tar(self):
        self.check_disagreement("chunked", toc.with_chunked_table, None)


class WholeTest(TocCase):
    def test_a_layer_that_has_come_whole_is_verified_and_stays_the_same(self):
        names = ("estargz", "chunked")
        for name in ("plain",) + names:
            self.push(name)
        self.daemon = self.lamina()
        for name in names:
            with self.subTest(name):
                before = {path: os.lstat(path) for path in map(os.fsencode, run("find", self.rootfs(name)).stdout.splitlines())}
                self.daemon.command("fetch", self.reference(name))
                compare.assert_equal(self, self.rootfs("plain"), self.rootfs(name), compare.Options(whole_seconds=True))
                for path, status in before.items():
                    self.assertEqual((os.lstat(path).st_ino, os.lstat(path).st_mtime_ns), (status.st_ino, status.st_mtime_ns), path)


class StrictTest(TocCase):
    """[S63] Whatever a manifest names, the layers are streamed as a whole and have indexes made here."""

    def check(self, *options):
        layers = self.push("estargz")
        self.push("plain")
        self.daemon = self.lamina(*options)
        compare.assert_equal(self, self.rootfs("plain"), self.rootfs("estargz"))
        status = json.loads(read(self.path_of("estargz") + "/status.json"))
        self.assertEqual([layer["index"] for layer in status["layers"]], ["own"] * len(layers))
        self.assertTrue(all(layer["verified_whole"] for layer in status["layers"]))
        for layer in layers:
            self.assertEqual([get.byte_range for get in self.proxy.gets(layer["digest"])], [None])

    def test_for_all(self):
        self.check("--strict")

    def test_for_a_registry(self):
        self.check("--strict-registry", self.proxy.host)

    def test_for_a_registry_by_the_options_file(self):
        path = self.folder + "/options.toml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'[registry."{self.proxy.host}"]\nstrict = true\n')
        self.check("--config", path)

    def test_other_registries_are_not_strict(self):
        self.push("estargz")
        self.daemon = self.lamina("--strict-registry", "registry.example")
        os.listdir(self.rootfs("estargz"))
        status = json.loads(read(self.path_of("estargz") + "/status.json"))
        self.assertEqual({layer["index"] for layer in status["layers"]}, {"eStargz"})
        self.assertFalse(any(layer["verified_whole"] for layer in status["layers"]))
        self.assertTrue(all(layer["cold_read_bytes"]["most"] > 0 for layer in status["layers"]))


class StatusTest(TocCase):
    def test_it_tells_of_all_layers_before_one_is_read(self):
        """From what is on disk, also where the registry is gone."""
        self.push("estargz")
        self.daemon = self.lamina()
        os.listdir(self.rootfs("estargz"))
        self.daemon.restart()
        self.proxy.forget()
        self.proxy.fail("/blobs/", refuse=True)
        status = json.loads(read(self.path_of("estargz") + "/status.json"))
        self.assertEqual(status["tree"], "ready")
        self.assertEqual([layer["index"] for layer in status["layers"]], ["eStargz"] * len(status["layers"]))
        self.assertIsNone(status["last_error"])
        self.assertEqual(self.proxy.gets("/blobs/"), [])
