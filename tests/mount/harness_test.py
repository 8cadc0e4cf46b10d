"""The harness itself, without lamina: a test that cannot fail shows nothing."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

from images import sample, small
from images.oci import Layout

from mount import compare
from mount.harness import LOG_END, DockerRegistry, Lamina, MountCase, read, run, wait_until
from mount.proxy import Proxy


class ProxyTest(MountCase):
    def setUp(self):
        super().setUp()
        self.server = self.registry()
        self.proxy = Proxy(self.server.host)
        self.addCleanup(self.proxy.stop)
        layout = Layout(self.folder + "/layout")
        descriptor = small.make(layout, "v1", {"file": os.urandom(100_000)})
        (self.digest,) = small.layer_digests(layout, descriptor)
        self.blob = read(layout.blob_path(self.digest))
        self.assertEqual(self.server.push(layout.path, "v1", "app"), descriptor["digest"])
        self.url = f"http://{self.proxy.host}/v2/app/blobs/{self.digest}"

    def get(self, byte_range=None, timeout=30):
        request = urllib.request.Request(self.url, headers={"Range": byte_range} if byte_range else {})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def test_it_forwards_and_counts(self):
        self.assertEqual(self.get(), self.blob)
        self.assertEqual(self.get("bytes=100-299"), self.blob[100:300])
        first, second = self.proxy.gets(self.digest)
        self.assertEqual((first.byte_range, first.status, first.sent), (None, 200, len(self.blob)))
        self.assertEqual((second.byte_range, second.status, second.sent), ("bytes=100-299", 206, 200))
        self.assertEqual(self.proxy.bytes_sent(self.digest), len(self.blob) + 200)

    def test_it_corrupts_truncates_refuses_and_answers_errors(self):
        self.proxy.fail(self.digest, corrupt=True)
        bad = self.get()
        self.assertEqual(len(bad), len(self.blob))
        self.assertEqual(sum(a != b for a, b in zip(bad, self.blob)), 1)
        self.proxy.heal()
        self.proxy.fail(self.digest, truncate=True)
        with self.assertRaises(Exception):
            self.get()
        self.proxy.fail(self.digest, shorten=True)
        self.assertEqual(self.get(), self.blob[:len(self.blob) // 2])
        self.proxy.fail(self.digest, status=503)
        with self.assertRaises(urllib.error.HTTPError):
            self.get()
        self.proxy.fail(self.digest, refuse=True)
        with self.assertRaises(OSError):
            self.get()
        self.proxy.heal()
        self.assertEqual(self.get(), self.blob)

    def test_a_fault_may_be_for_ranges_alone_and_may_hang(self):
        self.proxy.fail(self.digest, ranged=True, hang=True)
        self.assertEqual(self.get(), self.blob)
        with self.assertRaises((socket.timeout, OSError)):
            self.get("bytes=0-9", timeout=0.3)

    def test_a_slow_answer_does_not_keep_others(self):
        self.proxy.fail(self.digest, ranged=True, delay=3600)
        slow = threading.Thread(target=self.get, args=("bytes=0-9", 3600))
        slow.start()
        wait_until(lambda: self.proxy.gets(self.digest), "the slow request to come")
        self.assertEqual(self.get(), self.blob)
        self.assertTrue(slow.is_alive())
        self.proxy.heal()
        slow.join()


class CompareTest(MountCase):
    def trees(self):
        for name in ("a", "b"):
            folder = f"{self.folder}/{name}"
            os.makedirs(folder + "/d")
            with open(folder + "/d/f", "wb") as stream:
                stream.write(b"same")
            os.link(folder + "/d/f", folder + "/d/g")
            os.symlink("target", folder + "/l")
            for path in ("d/f", "l", "d", "."):
                os.utime(f"{folder}/{path}", ns=(5, 5), follow_symlinks=False)
        return self.folder + "/a", self.folder + "/b"

    def test_equal_trees_have_no_difference(self):
        self.assertEqual(compare.differences(*self.trees()), [])

    def test_every_sort_of_difference_is_seen(self):
        a, b = self.trees()
        changes = {
            "mode": lambda: os.chmod(b + "/d/f", 0o600),
            "uid": lambda: os.chown(b + "/d/f", 1, 0),
            "mtime_ns": lambda: os.utime(b + "/d/f", ns=(6, 6)),
            "digest": lambda: run("dd", "if=/dev/zero", f"of={b}/d/f", "bs=4", "count=1", "conv=notrunc"),
            "xattrs": lambda: os.setxattr(b + "/d/f", "user.x", b"1"),
            "missing": lambda: os.unlink(b + "/l"),
            "should not be there": lambda: os.symlink("x", b + "/more"),
            "hard links": lambda: (os.unlink(b + "/d/g"), run("cp", "-p", b + "/d/f", b + "/d/g")),
        }
        for sign, change in changes.items():
            change()
            found = compare.differences(a, b)
            self.assertTrue(any(sign in sentence for sentence in found), (sign, found))

    def test_data_regions_show_holes(self):
        path = self.folder + "/sparse"
        with open(path, "wb") as stream:
            stream.truncate(1 << 20)
            stream.seek(1 << 19)
            stream.write(b"x" * 4096)
        self.assertEqual(compare.data_regions(path), [(1 << 19, (1 << 19) + 4096)])


class SampleTest(MountCase):
    def test_umoci_unpacks_the_sample_as_its_recipe_says(self):
        layout = self.folder + "/layout"
        self.assertEqual(sample.make(layout), sample.make(layout))
        run("umoci", "unpack", "--image", layout + ":latest", self.folder + "/bundle")
        root = self.folder + "/bundle/rootfs"
        self.assertFalse(os.path.exists(root + "/etc/motd"))
        self.assertEqual(os.listdir(root + "/srv/www"), ["index.html"])
        self.assertTrue(os.path.samefile(root + "/usr/share/greeting/hello", root + "/usr/share/greeting/bonjour"))


class RegistryTest(MountCase):
    def test_two_registries_do_not_meet(self):
        one, two = self.registry("one"), self.registry("two")
        self.assertIsInstance(one, DockerRegistry)
        self.assertNotEqual(one.port, two.port)


class LogTest(MountCase):
    def test_a_sanitizers_report_is_found_wherever_it_stands(self):
        daemon = Lamina(self.folder)
        self.assertIsNone(daemon.sanitizer_report())
        with open(daemon.log_path, "w", encoding="utf-8") as log:
            log.write("started\n")
        self.assertIsNone(daemon.sanitizer_report())
        with open(daemon.log_path, "a", encoding="utf-8") as log:
            log.write("ERROR: AddressSanitizer: the reason\n" + "a line of a later start\n" * LOG_END)
        self.assertIn("AddressSanitizer: the reason", daemon.sanitizer_report())


ENDLESS = """
import os, signal, sys, time, unittest
from mount.harness import MountCase

class EndlessTest(MountCase):
    def test_1(self):
        print(self.folder, self.registry().process.pid, flush=True)
        time.sleep(3600)

    def test_2(self):
        print("a test that must not begin", flush=True)

unittest.main()
"""


class EndTest(MountCase):
    """Whatever ends the tests, nothing that they started goes on."""

    def start(self):
        tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        process = subprocess.Popen([sys.executable, "-B", "-c", ENDLESS], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tests)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        folder, registry = process.stdout.readline().split()
        self.addCleanup(run, "rm", "-rf", folder)
        return process, folder, f"/proc/{registry}/root"

    def test_a_request_to_end_cleans_up_and_begins_no_other_test(self):
        process, folder, registry = self.start()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.stdout.read(), "")
        self.assertEqual(process.wait(), 1)
        self.assertFalse(os.path.exists(folder))
        self.assertFalse(os.path.exists(registry))

    def test_what_they_started_ends_with_tests_that_are_killed(self):
        process, _, registry = self.start()
        self.assertTrue(os.path.exists(registry))
        process.kill()
        wait_until(lambda: not os.path.exists(registry), "the registry to end")
