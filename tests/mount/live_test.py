"""What is in use stays as it is while names come and go: mounts inside an image, processes in it, the kernel's caches."""

import os
import subprocess

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, path_name, read, run, wait_until

KEPT_BY_THE_KERNEL = ("lookup", "getattr", "readdir", "readdirplus", "readlink", "read")


class LiveImageTest(MountCase):
    """A shell sits in an image of a layout, a file system is mounted below its rootfs; then names change."""

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.descriptor = small.make(self.layout, "v1", {"etc/one": b"1\n", "etc/two": b"2\n", "proc/empty": b""})
        self.daemon = self.lamina("--tag-ttl", "600")
        self.add(self.layout, "team/app")
        self.repository = self.daemon.path("localhost/team/app")
        self.rootfs = os.path.realpath(self.repository + "/v1/rootfs")
        self.mount_inside()
        self.shell = self.shell_inside()

    def add(self, layout, name):
        self.daemon.command("add", f"oci:{layout.path}", "--as", name)

    def mount_inside(self):
        """As a runtime mounts /proc: in a folder of the image."""
        self.inner = self.rootfs + "/proc"
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.inner], check=True)
        self.addCleanup(run, "umount", self.inner, check=False)
        with open(self.inner + "/mark", "wb") as stream:
            stream.write(b"inside\n")

    def shell_inside(self):
        shell = subprocess.Popen(["sleep", "600"], cwd=self.rootfs + "/etc")
        self.addCleanup(shell.wait)
        self.addCleanup(shell.kill)
        return shell

    def touch_names(self):
        """The kernel holds every name on the way, and one that is not there."""
        self.assertTrue(os.path.exists(self.repository + "/v1/rootfs/etc/one"))
        self.assertFalse(os.path.exists(self.repository + "/later"))

    def assert_all_stays(self):
        """[S7]"""
        self.assertTrue(os.path.ismount(self.inner), "what is mounted inside the image was detached")
        self.assertEqual(read(self.inner + "/mark"), b"inside\n")
        self.assertEqual(os.readlink(f"/proc/{self.shell.pid}/cwd"), self.rootfs + "/etc")

    def walk(self):
        """By descriptors, so that no folder of names is crossed; how many files."""
        seen = 0
        for _, folders, files, folder in os.fwalk(".", dir_fd=self.opened):
            folders[:] = [name for name in folders if name != "proc"]
            for name in files:
                os.stat(name, dir_fd=folder)
                with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as stream:
                    stream.read()
                seen += 1
        return seen

    def counts(self):
        """(messages now, what reading the counters costs)"""
        start = self.daemon.messages()
        now = self.daemon.messages()
        return now, {name: now.get(name, 0) - start.get(name, 0) for name in KEPT_BY_THE_KERNEL}

    def assert_walk_costs_nothing(self):
        """[S12]"""
        before, own = self.counts()
        self.walk()
        after = self.daemon.messages()
        for name in KEPT_BY_THE_KERNEL:
            self.assertLessEqual(after.get(name, 0) - before.get(name, 0), own[name], f"{name} was sent again")

    def open_warm(self):
        self.opened = os.open(self.rootfs, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, self.opened)
        self.assertEqual(self.walk(), 2)

    def test_a_source_that_is_added_takes_nothing_away(self):
        self.open_warm()
        self.touch_names()
        other = Layout(self.folder + "/other")
        small.make(other, "v1", {"file": b"x\n"})
        self.add(other, "team/other")
        self.assert_all_stays()
        self.assert_walk_costs_nothing()
        self.assertEqual(read(self.daemon.path("localhost/team/other/v1/rootfs/file")), b"x\n")

    def test_a_tag_that_moves_takes_nothing_away(self):
        self.open_warm()
        self.touch_names()
        moved = small.make(self.layout, "v1", {"etc/one": b"new\n"})
        small.make(self.layout, "later", {"etc/one": b"later\n"})
        self.add(self.layout, "team/app")
        self.assert_all_stays()
        self.assert_walk_costs_nothing()
        # The names themselves are told at once, far before their time to live ends.
        wait_until(lambda: os.readlink(self.repository + "/v1") == path_name(moved["digest"]), "the moved tag")
        wait_until(lambda: os.path.exists(self.repository + "/later"), "the new tag")
        self.assert_all_stays()

    def test_the_first_touch_of_another_repository_takes_nothing_away(self):
        self.open_warm()
        server = self.registry()
        server.push(self.layout.path, "v1", "some/app")
        self.touch_names()
        path = self.daemon.path(canonical_host(server.host), "some/app/v1/rootfs/etc/one")
        self.assertEqual(read(path), b"1\n")
        self.assert_all_stays()
        self.assert_walk_costs_nothing()

    def test_a_name_that_was_missing_and_became_a_folder_is_left_alone(self):
        self.assertFalse(os.path.exists(self.daemon.path("localhost/new")))
        new = Layout(self.folder + "/new")
        small.make(new, "v1", {"proc/empty": b""})
        self.add(new, "new/app")
        inner = os.path.realpath(self.daemon.path("localhost/new/app/v1/rootfs")) + "/proc"
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
        self.addCleanup(run, "umount", inner, check=False)
        self.add(self.layout, "team/more")
        self.assertTrue(os.path.ismount(inner), "what is mounted inside the image was detached")
        self.assert_all_stays()
