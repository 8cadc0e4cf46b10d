"""[S100] A disk below the cache that refuses to be changed for a while, under a daemon that has its files open: every read is
right, status.json says that nothing is kept and why, and what is read afterwards is kept again."""

import errno
import os

from mount.harness import wait_until
from mount.refusing import MIB, RefusingDiskCase

LIBRARY = os.environ.get("LAMINA_FAILING_DISK", "")


class FailingDiskTest(RefusingDiskCase):
    def setUp(self):
        super().setUp()
        self.assertTrue(os.path.exists(LIBRARY), "LAMINA_FAILING_DISK names the library to load")
        self.switch = self.folder + "/refuse"

    def daemon_with(self, code, *options):
        """A daemon whose cache's disk fails with this code while `switch` is there, with the image."""
        daemon = self.lamina(*options, name=f"lamina{code}", start=False)
        daemon.environment.update(LD_PRELOAD=LIBRARY, LAMINA_FAULT_FOLDER=daemon.store + "/cache",
                                  LAMINA_FAULT_WHILE=self.switch, LAMINA_FAULT_ERRNO=str(code))
        daemon.start()
        self.add_to(daemon)
        return daemon

    def refuse(self):
        with open(self.switch, "wb"):
            pass

    def test_nothing_is_kept_while_writes_fail_and_all_is_afterwards(self):
        """[S100]"""
        for code in (errno.EIO, errno.EROFS):
            with self.subTest(code=code):
                daemon = self.daemon_with(code)
                self.forget_bytes(daemon)
                self.assert_right(daemon, "f0", "f3")
                before = self.local(daemon)
                self.assertGreater(before, 0)
                self.refuse()
                self.assert_right(daemon)
                self.assertEqual(self.local(daemon), before)
                self.assertIn(os.strerror(code), self.not_kept(daemon)["reason"])
                self.assertRegex(self.not_kept(daemon)["time"], r"^\d{4}-\d\d-\d\dT")
                self.assertGreater(daemon.metrics()["lamina_cache_write_failures_total"], 0)
                os.unlink(self.switch)
                self.assert_right(daemon)
                self.assert_all_local(daemon)
                self.assertIsNone(self.not_kept(daemon))
                self.assertEqual(daemon.metrics()["lamina_cache_rotten_total"], 0)
                self.assert_all_is_there_after_a_restart(daemon)

    def test_files_that_could_not_be_opened_are_later(self):
        """[S100]"""
        daemon = self.daemon_with(errno.EIO)
        self.forget_bytes(daemon)
        self.refuse()
        self.assert_right(daemon)
        self.assertEqual(self.local(daemon), 0)
        self.assertIn(os.strerror(errno.EIO), self.not_kept(daemon)["reason"])
        os.unlink(self.switch)
        wait_until(lambda: self.assert_right(daemon) or self.not_kept(daemon) is None, "the cache to keep again")
        self.assert_right(daemon)
        self.assert_all_local(daemon)
        self.assert_all_is_there_after_a_restart(daemon)

    def test_at_its_limit_the_cache_loses_nothing_that_cannot_be_freed(self):
        """[S101]"""
        limit = 4 * MIB
        daemon = self.daemon_with(errno.EIO, "--cache-size", str(limit))
        self.assert_right(daemon)
        self.forget_pages(daemon)
        self.assert_right(daemon)
        before = self.local(daemon)
        self.assertGreater(before, 1)
        evicted = daemon.metrics()["lamina_cache_evicted_bytes_total"]
        self.refuse()
        for _ in range(3):
            self.assert_right(daemon)
        self.assertEqual(self.local(daemon), before)
        self.assertEqual(daemon.metrics()["lamina_cache_evicted_bytes_total"], evicted)
        self.assertIsNotNone(self.not_kept(daemon))
        os.unlink(self.switch)
        self.assert_right(daemon)
        self.assertGreater(daemon.metrics()["lamina_cache_evicted_bytes_total"], evicted)
        self.assertIsNone(self.not_kept(daemon))
