"""Registries that are down, blobs that are wrong: an honest errno, the reason in words, and nobody else is hurt."""

import errno
import json
import os
import subprocess
import sys
import time

from images import small
from images.oci import Layout

from mount.fetch_test import FetchCase
from mount.harness import read, wait_until

# What a user may be told of data that cannot be had, and of names that cannot be asked for.
DATA_ERRORS = {errno.EIO}
NAME_ERRORS = {errno.ETIMEDOUT, errno.EACCES, errno.EIO}
READ_BOUND = 30  # seconds
FAILURE_KEPT = 3  # seconds after which what was long waited for is certainly tried anew
PATIENCE = 120  # seconds after which a test calls it hung; the bound itself is 30 s


class FailureCase(FetchCase):
    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.data = {f"data/{n:03}": os.urandom(8192) for n in range(400)}
        descriptor = small.make(self.layout, "bad", self.data)
        (self.blob,) = small.layer_digests(self.layout, descriptor)
        self.digest = descriptor["digest"]
        self.server.push(self.layout.path, "bad", "app")
        good = Layout(self.folder + "/good")
        small.make(good, "v1", {"file": b"unharmed\n"})
        self.daemon = self.lamina("--tag-ttl", "600")
        self.daemon.command("add", f"oci:{good.path}", "--as", "good")
        self.image = self.image_path("app", "bad")
        # The documents are known before anything fails.
        self.assertEqual(os.readlink(self.image), self.digest.replace(":", "-"))

    def attempt(self, code, *arguments):
        """Runs Python code in a process of its own that is waited for with a bound; its errno or 0."""
        script = ("import os, sys\ntry:\n    " + code + "\nexcept OSError as problem:\n    sys.exit(problem.errno)\n")
        done = subprocess.run([sys.executable, "-c", script, *arguments], timeout=PATIENCE, check=False,
                              stdout=subprocess.DEVNULL)
        return done.returncode

    def listing_errno(self):
        return self.attempt("os.listdir(sys.argv[1])", self.image + "/rootfs")

    def reading_errno(self, name):
        return self.attempt("open(sys.argv[1], 'rb').read()", f"{self.image}/rootfs/{name}")

    def assert_others_are_well(self):
        """[S16] [S25]"""
        self.assertEqual(read(self.daemon.path("localhost/good/v1/rootfs/file")), b"unharmed\n")

    def last_error(self):
        """[S24] The reason stands in status.json, in an xattr and in the log."""
        error = json.loads(read(self.image + "/status.json"))["last_error"]
        self.assertIsNotNone(error)
        self.assertIn(error["message"], os.getxattr(self.image, "user.lamina.error").decode())
        self.assertIn(self.blob[:20], json.dumps(error) + self.daemon.log())
        self.assertTrue(read(self.daemon.path(".lamina/log")))
        return json.dumps(error)

    def assert_heals(self, after_silence=False):
        """[S26] A failure is not remembered, but [S88] a host of which nothing was heard is left alone for a moment."""
        self.proxy.heal()
        if after_silence:
            time.sleep(FAILURE_KEPT)
        for name, data in list(self.data.items())[::50]:
            self.assertEqual(read(f"{self.image}/rootfs/{name}"), data)


class FirstAccessFailureTest(FailureCase):
    def fail_and_heal(self, errors, **fault):
        self.proxy.fail(self.blob, **fault)
        return self.assert_fails_and_heals(errors)

    def assert_fails_and_heals(self, errors, after_silence=False):
        self.assertIn(self.listing_errno(), errors)
        self.assert_others_are_well()
        error = self.last_error()
        self.assert_heals(after_silence)
        return error

    def test_a_blob_with_a_wrong_byte_shows_none_of_its_names(self):
        """[S17]"""
        self.fail_and_heal(DATA_ERRORS, corrupt=True)

    def test_a_blob_that_is_too_short_shows_none_of_its_names(self):
        """[S17]"""
        self.fail_and_heal(DATA_ERRORS, shorten=True)

    def test_a_blob_whose_transfer_always_breaks_off_shows_none_of_its_names(self):
        """[S17]"""
        self.fail_and_heal(NAME_ERRORS, truncate=True)

    def test_a_registry_that_fails_for_a_blob_is_an_error_that_says_500(self):
        self.assertIn("500", self.fail_and_heal(NAME_ERRORS, status=500))

    def test_a_blob_that_is_gone_is_an_error_that_says_404(self):
        self.assertIn("404", self.fail_and_heal(NAME_ERRORS, status=404))

    def test_a_registry_that_closes_its_connections_is_an_error(self):
        self.fail_and_heal(NAME_ERRORS, refuse=True)

    def test_a_registry_that_stalls_is_an_error_within_the_bound(self):
        """[S23]"""
        self.proxy.fail(self.blob, ranged=True, hang=True)  # when it is asked to go on
        self.proxy.fail(self.blob, ranged=False, hang=True, stop_after=100_000)
        self.assert_fails_and_heals(NAME_ERRORS, after_silence=True)


class ReadFailureTest(FailureCase):
    """The image is indexed and its cache empty: single ranges fail."""

    def setUp(self):
        super().setUp()
        os.listdir(self.image + "/rootfs")
        self.daemon.clear_cache()

    def fail_and_heal(self, **fault):
        self.proxy.fail(self.blob, **fault)
        self.assertIn(self.reading_errno("data/123"), DATA_ERRORS)
        self.assertEqual(self.listing_errno(), 0)
        self.assert_others_are_well()
        self.last_error()
        self.assert_heals(after_silence="hang" in fault)

    def test_a_range_with_a_wrong_byte_is_an_error_and_no_data(self):
        """[S20] [S23]"""
        self.fail_and_heal(corrupt=True)

    def test_a_truncated_range_is_an_error(self):
        self.fail_and_heal(truncate=True)

    def test_a_registry_that_fails_is_an_error(self):
        self.fail_and_heal(status=500)

    def test_a_registry_that_hangs_is_an_error_within_the_bound(self):
        """[S23]"""
        self.fail_and_heal(hang=True)

    def test_what_is_cached_stays_readable_while_the_registry_is_away(self):
        self.assertEqual(read(self.image + "/rootfs/data/000"), self.data["data/000"])
        self.proxy.fail("", refuse=True)
        self.assertEqual(read(self.image + "/rootfs/data/000"), self.data["data/000"])
        self.assertIn(self.reading_errno("data/399"), DATA_ERRORS)

    def test_a_waiting_reader_can_be_interrupted(self):
        """[S27]"""
        fault = self.proxy.fail(self.blob, hang=True)
        reader = subprocess.Popen(["cat", self.image + "/rootfs/data/200"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        wait_until(lambda: self.proxy.gets(self.blob), "the read to reach the registry")
        reader.terminate()
        # Far less than the bound of a read; a process that cannot be interrupted would wait for all of it.
        reader.wait(20)
        fault.removed.set()


class ManyReadersTest(FailureCase):
    """More chunks are asked for at the same time than jobs run for one registry."""

    READERS = 40

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/many")
        self.data = {f"data/{n:03}": os.urandom(1_200_000) for n in range(self.READERS)}
        descriptor = small.make(self.layout, "many", self.data)
        (self.blob,) = small.layer_digests(self.layout, descriptor)
        self.server.push(self.layout.path, "many", "app")
        self.image = self.image_path("app", "many")
        self.assertEqual(len(os.listdir(self.image + "/rootfs/data")), self.READERS)
        self.daemon.clear_cache()

    def test_all_are_told_within_one_bound(self):
        """[S23] The bound counts from when a read was asked, and the kernel's second question adds none."""
        self.proxy.fail(self.blob, hang=True)
        start = time.monotonic()
        names = list(self.data)
        errors = self.run_threads(self.READERS, lambda number: self.reading_errno(names[number]))
        self.assertEqual(set(errors), DATA_ERRORS)
        self.assertLess(time.monotonic() - start, 3 * READ_BOUND)
        self.assert_others_are_well()
        self.proxy.heal()
        time.sleep(FAILURE_KEPT)
        self.assertEqual(read(f"{self.image}/rootfs/{names[0]}"), self.data[names[0]])


class RegistryDownTest(FailureCase):
    def test_a_name_that_cannot_be_asked_for_is_no_enoent(self):
        """[S23]"""
        self.proxy.fail("", refuse=True)
        path = self.image_path("unknown/repository", "v1")
        self.assertIn(self.attempt("os.stat(sys.argv[1])", path), NAME_ERRORS)
        self.assert_others_are_well()

    def test_a_registry_that_hangs_delays_nobody_else(self):
        """[S25]"""
        self.proxy.fail("", hang=True)
        waiting = [subprocess.Popen(["stat", self.image_path(f"unknown/{n}", "v1")], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for n in range(20)]
        wait_until(lambda: self.proxy.records("unknown"), "the registry to be asked")
        self.assert_others_are_well()
        os.listdir(self.daemon.mountpoint)
        self.assertTrue(any(process.poll() is None for process in waiting), "nobody waited, so nothing was shown")
        self.proxy.heal()
        for process in waiting:
            process.wait(PATIENCE)

    def test_one_that_is_known_to_be_silent_is_only_probed(self):
        """[S88] [S8] Names and bytes that are not here fail, a known tag is as last known, and nothing of it is sent."""
        daemon = self.lamina("--tag-ttl", "0", "--negative-ttl", "0", name="other")
        tag = self.image_path("app", "bad", daemon)
        self.assertEqual(read(tag + "/rootfs/data/000"), self.data["data/000"])
        daemon.clear_cache()
        self.proxy.fail("", hang=True)
        self.assertIn(self.attempt("os.stat(sys.argv[1])", self.image_path("app", "first", daemon)), NAME_ERRORS)
        self.proxy.forget()
        for number in range(10):
            unknown = self.image_path("app", f"unknown{number}", daemon)
            self.assertEqual(self.attempt("os.stat(sys.argv[1])", unknown), errno.ETIMEDOUT)
        self.assertEqual(os.readlink(tag), self.digest.replace(":", "-"))
        self.assertIn(self.attempt("open(sys.argv[1], 'rb').read()", tag + "/rootfs/data/123"), DATA_ERRORS)
        self.assertEqual({record.path for record in self.proxy.records("")} - {"/v2"}, set())
        self.assertIn("since it is away", daemon.log())
        self.proxy.heal()
        wait_until(lambda: self.attempt("open(sys.argv[1], 'rb').read()", tag + "/rootfs/data/123") == 0, "the registry to be asked")

    def test_a_malformed_layer_fails_its_image_alone_and_says_which_entry(self):
        """[S16]"""
        raw = self.folder + "/malformed.tar"
        from images.layers import TarLayer  # pylint: disable=import-outside-toplevel
        from images.oci import Layer  # pylint: disable=import-outside-toplevel
        with TarLayer(raw) as layer:
            layer.file("fine", b"x").hardlink("etc/broken", "not/there")
        self.layout.tag(self.layout.put_image([Layer(raw)]), "malformed")
        self.server.push(self.layout.path, "malformed", "app")
        image = self.image_path("app", "malformed")
        self.assertIn(self.attempt("os.listdir(sys.argv[1])", image + "/rootfs"), DATA_ERRORS)
        self.assertIn("etc/broken", read(image + "/status.json").decode())
        self.assert_others_are_well()
