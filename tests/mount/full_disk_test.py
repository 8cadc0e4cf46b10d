"""[S77] [S100] The store on a disk that has no room: for bytes, for files; or that cannot be written. Every read is right; what
finds room again, or a disk that can be written, is kept."""

import os

from mount.cache_test import disk_bytes
from mount.harness import run, wait_until
from mount.refusing import RefusingDiskCase



class FullDiskTest(RefusingDiskCase):
    def setUp(self):
        super().setUp()
        self.disk = self.folder + "/lamina/store"
        os.makedirs(self.disk)
        self.addCleanup(run, "umount", "-l", self.disk, check=False)

    def daemon_on(self, options):
        """A daemon whose store is a tmpfs with these options, with the image."""
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", self.disk)
        daemon = self.lamina("--cache-size", "none")
        self.add_to(daemon)
        return daemon

    def test_without_room_for_bytes_reads_are_right_and_room_is_used_again(self):
        """[S77]"""
        daemon = self.daemon_on("size=4M")
        self.assert_right(daemon)
        self.assertLess(self.local(daemon), self.layer(daemon)["chunks"])
        self.assertIn("leaves the last", self.not_kept(daemon)["reason"])
        run("mount", "-o", "remount,size=64M", self.disk)
        self.assert_right(daemon)
        self.assert_all_local(daemon)
        self.assertIsNone(self.not_kept(daemon))

    def test_without_room_for_files_reads_are_right_and_room_is_used_again(self):
        """[S77]"""
        daemon = self.daemon_on("size=64M,nr_inodes=200")
        self.assert_right(daemon)
        daemon.clear_cache()
        daemon.stop()
        for name in os.listdir(self.disk + "/cache"):
            os.unlink(f"{self.disk}/cache/{name}")
        fillers = []
        try:
            while True:
                fillers.append(f"{self.disk}/filler{len(fillers)}")
                with open(fillers[-1], "wb"):
                    pass
        except OSError:
            fillers.pop()
        daemon.start()
        self.assert_right(daemon)
        self.assertEqual(disk_bytes(self.disk + "/cache"), 0)
        for path in fillers:
            os.unlink(path)
        wait_until(lambda: self.assert_right(daemon) or self.not_kept(daemon) is None, "the cache to keep again")
        self.assert_right(daemon)
        self.assert_all_local(daemon)
        self.assert_all_is_there_after_a_restart(daemon)


class ReadOnlyDiskTest(RefusingDiskCase):
    """The cache on a tmpfs of its own. The kernel makes a disk read-only while nobody has a file open for writing: the
    database of a running daemon has."""

    def setUp(self):
        super().setUp()
        self.disk = self.folder + "/lamina/store/cache"
        os.makedirs(self.disk)
        run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", self.disk)
        self.addCleanup(run, "umount", "-l", self.disk, check=False)

    def test_a_cache_that_cannot_be_written_serves_and_keeps_again_once_it_can(self):
        """[S100]"""
        daemon = self.lamina()
        self.add_to(daemon)
        self.forget_bytes(daemon)
        self.assert_right(daemon, "f0", "f3")
        before, chunks = self.local(daemon), self.layer(daemon)["chunks"]
        self.assertLess(0, before)
        self.assertLess(before, chunks)
        daemon.restart()
        run("mount", "-o", "remount,ro", self.disk)
        self.assert_right(daemon)
        self.assertEqual(self.local(daemon), before)
        self.assertIn("Read-only file system", self.not_kept(daemon)["reason"])
        self.assertEqual(daemon.metrics()["lamina_cache_checked_total"], before)
        self.assertGreaterEqual(daemon.metrics()["lamina_cache_write_failures_total"], chunks - before)
        run("mount", "-o", "remount,rw", self.disk)
        wait_until(lambda: self.assert_right(daemon) or self.not_kept(daemon) is None, "the cache to keep again")
        self.assert_right(daemon)
        self.assert_all_local(daemon)
        self.assert_all_is_there_after_a_restart(daemon)
