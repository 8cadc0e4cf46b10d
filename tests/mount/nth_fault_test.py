"""[S76] The N-th call of a function of the C library fails, N = 1, 2, 3 and so on until a run makes fewer calls: each run
gives the right bytes, or one error and the exit code 1; and the next run on the same store is right."""

import errno
import os
import random
import shutil
import subprocess

from images import small
from images.oci import Layout

from mount.harness import MountCase, lamina_binary, run

LIBRARY = os.environ.get("LAMINA_NTH_FAULT", "")
HUNG = 120
KIB = 1 << 10


class NthFaultTest(MountCase):
    def setUp(self):
        super().setUp()
        self.assertTrue(os.path.exists(LIBRARY), "LAMINA_NTH_FAULT names the library to load")
        numbers = random.Random(3)
        self.content = numbers.randbytes(200 * KIB) + bytes(64 * KIB) + b"text of it " * 20_000
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", {"other": numbers.randbytes(50 * KIB)}, {"dir/file": self.content})
        self.layout = layout.path
        self.prepared = self.folder + "/prepared"
        run(lamina_binary(), "add", "--store", self.prepared, "oci:" + self.layout, "--as", "app")
        self.local = "localhost/app:v1"
        self.more = {}

    def cat(self, store, reference, **fault):
        environment = dict(os.environ, HOME=self.folder, XDG_RUNTIME_DIR=self.folder, **fault)
        return subprocess.run([lamina_binary(), "cat", "--store", store, reference, "/dir/file"], env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=HUNG, check=False)

    def cat_with_fault(self, store, reference, call, number, code):
        """The run, and how many such calls it made."""
        report = self.folder + "/report"
        if os.path.exists(report):
            os.unlink(report)
        done = self.cat(store, reference, LD_PRELOAD=LIBRARY, LAMINA_FAULT_CALL=call, LAMINA_FAULT_N=str(number),
                        LAMINA_FAULT_ERRNO=str(code), LAMINA_FAULT_REPORT=report, **self.more)
        self.assertTrue(os.path.exists(report), f"it died of signal or exit code {done.returncode}: {done.stderr!r}")
        with open(report, encoding="ascii") as stream:
            return done, int(stream.read())

    def assert_honest(self, done):
        """Right bytes, or one error with words and not one wrong byte."""
        if done.returncode == 0:
            self.assertTrue(done.stdout == self.content, "wrong bytes")
            return
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertTrue(self.content.startswith(done.stdout), "wrong bytes before the error")
        errors = [line for line in done.stderr.splitlines() if line.startswith(b"lamina: ")]
        self.assertEqual(len(errors), 1, done.stderr)

    def fail_each(self, call, code, reference=None, every=200, step=7):
        """The first faults all, later ones in steps. Returns how many runs met one."""
        reference = reference or self.local
        number, met = 1, 0
        while True:
            store = f"{self.folder}/store"
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(self.prepared, store)
            with self.subTest(call=call, number=number):
                done, calls = self.cat_with_fault(store, reference, call, number, code)
                self.assert_honest(done)
                if calls < number:
                    self.assertEqual(done.returncode, 0, done.stderr)
                    return met
                after = self.cat(store, reference)
                self.assertTrue(after.stdout == self.content, f"the next run: {after.stderr!r}")
            met += 1
            number += 1 if number < every else step

    def test_of_calls_that_change_files(self):
        for call, code in (("write", errno.ENOSPC), ("pwrite", errno.ENOSPC), ("pwrite", errno.EIO), ("rename", errno.EIO),
                           ("fsync", errno.EIO), ("ftruncate", errno.EIO)):
            with self.subTest(call=call, code=code):
                self.assertGreater(self.fail_each(call, code), 0)

    def test_of_calls_that_read_files(self):
        for call, code in (("open", errno.EMFILE), ("open", errno.EIO), ("pread", errno.EIO), ("mmap", errno.ENOMEM)):
            with self.subTest(call=call, code=code):
                self.assertGreater(self.fail_each(call, code), 0)

    def test_of_calls_to_the_network(self):
        registry = self.registry()
        registry.push(self.layout, "v1", "app")
        for call, code in (("recv", errno.ECONNRESET), ("send", errno.EPIPE), ("connect", errno.ECONNREFUSED),
                           ("socket", errno.EMFILE)):
            with self.subTest(call=call, code=code):
                self.assertGreater(self.fail_each(call, code, f"{registry.host}/app:v1"), 0)
