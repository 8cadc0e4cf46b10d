"""[S9] Inside rootfs everything is what unpacking the image with a correct tool gives: umoci, and the kernel's overlayfs
over what GNU tar unpacked, judge real Debian images of every compression."""

import contextlib
import os
import subprocess
import unittest

from images import cache, debian

from mount import compare
from mount.harness import MountCase, canonical_host, run


@contextlib.contextmanager
def overlay_of(folders, mountpoint):
    """The kernel's read-only overlay of layer folders, bottom first."""
    os.makedirs(mountpoint)
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "ro,lowerdir=" + ":".join(reversed(folders)), mountpoint],
                   check=True)
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", mountpoint], check=True)


def layer_folders(image):
    return [f"{image}/layers/{number}" for number in range(len(os.listdir(image + "/layers")))]


class TreeTest(MountCase):
    def setUp(self):
        super().setUp()
        self.image = cache.get("debian")

    def rootfs_from_registry(self, tag):
        registry = self.registry()
        registry.push(self.image + "/layout", tag, "team/debian")
        self.daemon = self.lamina()
        return self.daemon.path(canonical_host(registry.host), "team/debian", tag, "rootfs")

    def rootfs_from_layout(self, tag):
        self.daemon = self.lamina()
        self.daemon.command("add", f"oci:{self.image}/layout:{tag}", "--as", "debian")
        return self.daemon.path("localhost/debian", tag, "rootfs")

    def assert_is_umoci_s(self, rootfs):
        compare.assert_equal(self, self.image + "/umoci/rootfs", rootfs)

    def test_gzip_image_of_a_registry_equals_what_umoci_unpacks(self):
        self.assert_is_umoci_s(self.rootfs_from_registry("gzip"))

    def test_zstd_image_of_a_registry_equals_what_umoci_unpacks_of_its_gzip_twin(self):
        self.assert_is_umoci_s(self.rootfs_from_registry("zstd"))

    def test_image_of_many_gzip_members_in_a_layout_equals_what_umoci_unpacks(self):
        self.assert_is_umoci_s(self.rootfs_from_layout("gzip-members"))

    def test_image_of_many_zstd_frames_in_a_layout_equals_what_umoci_unpacks(self):
        self.assert_is_umoci_s(self.rootfs_from_layout("zstd-frames"))

    def test_image_still_equals_after_its_cache_is_emptied(self):
        rootfs = self.rootfs_from_registry("gzip")
        os.listdir(rootfs)
        self.daemon.clear_cache()
        self.assert_is_umoci_s(rootfs)

    def test_image_equals_the_kernels_overlay_of_its_unpacked_layers(self):
        rootfs = self.rootfs_from_layout("stackable")
        # overlayfs counts the links that a lower layer had, and gives merged folders one link.
        options = compare.Options(nlink=False, directory_nlink=False)
        with overlay_of(layer_folders(self.image), self.folder + "/overlay") as reference:
            compare.assert_equal(self, reference, rootfs, options)

    def test_each_layer_equals_its_unpacked_folder_with_whiteouts_as_overlayfs_keeps_them(self):
        """[S14] layers/N is layer N's own tree: whiteouts are character devices 0/0, hidden folders are marked."""
        rootfs = self.rootfs_from_layout("stackable")
        folders = layer_folders(self.image)
        layers = os.path.join(os.path.dirname(rootfs), "layers")
        self.assertEqual(sorted(os.listdir(layers)), sorted([str(n) for n in range(len(folders))] + ["top"]))
        self.assertEqual(os.path.realpath(layers + "/top"), os.path.realpath(f"{layers}/{len(folders) - 1}"))
        # Whiteouts and folders without entries have no attributes of their own to compare.
        for number in (0, 3, 4):
            compare.assert_equal(self, folders[number], f"{layers}/{number}")
        with overlay_of([f"{layers}/{number}" for number in range(len(folders))], self.folder + "/of-lamina") as stacked:
            compare.assert_equal(self, rootfs, stacked, compare.Options(nlink=False, directory_nlink=False, content=False))
        marked = os.getxattr(f"{layers}/5/opt/wide", "trusted.overlay.opaque")
        self.assertEqual(marked, b"y")
        gone = os.lstat(f"{layers}/5/opt/installed/file-kept")
        self.assertEqual((gone.st_mode & 0o170000, gone.st_rdev), (0o020000, 0))

    def test_holes_of_sparse_files_are_found_by_seek(self):
        """Every byte of data lies in a region that SEEK_DATA tells, and a file of holes stays one."""
        rootfs = self.rootfs_from_layout("stackable")
        for name, unit in (("sparse-2g", 64 << 10), ("sparse-pax", 4096), ("sparse-many", 4096)):
            path = f"{rootfs}/odd/{name}"
            size = os.stat(path).st_size
            source = f"{self.image}/layers/{4 if name == 'sparse-pax' else 3}/odd/{name}"
            expected = compare.data_regions(source)
            told = compare.data_regions(path)
            self.assertGreater(len(told), 1, name)
            for begin, end in expected:
                self.assertTrue(any(b <= begin and end <= e for b, e in told), (name, begin, end, told))
            allowed = sum(end - begin + 2 * unit for begin, end in expected)
            self.assertLessEqual(sum(e - b for b, e in told), min(size, allowed), name)

    def test_odd_entries_are_among_those_compared(self):
        """The images must hold what the comparison is about."""
        rootfs = self.rootfs_from_layout("gzip").encode()
        status = os.lstat(rootfs + b"/odd/sparse-2g")
        self.assertEqual(status.st_size, 2 * debian.GIB)
        self.assertTrue(os.path.exists(rootfs + b"/" + debian.NOT_UTF8))
        self.assertEqual(os.stat(rootfs + b"/odd/" + debian.LONGEST.encode()).st_size, 19)
        self.assertEqual(os.lstat(rootfs + b"/opt/installed/bin/setuid-cat").st_mode & 0o7777, 0o6755)
        self.assertEqual(os.getxattr(rootfs + b"/opt/installed/bin/capable", "security.capability"), debian.CAPABILITY)
        self.assertEqual(os.lstat(rootfs + b"/opt/installed/block").st_rdev, os.makedev(259, 70000))
        self.assertEqual(os.lstat(rootfs + b"/opt/joined/first-again").st_nlink, 4)
        self.assertFalse(os.path.lexists(rootfs + b"/usr/share/zoneinfo"))
        self.assertEqual(sorted(os.listdir(rootfs + b"/opt/wide")), [b"0001", b"only"])

    def test_gnu_tar_reads_the_whole_tree_and_its_archive_unpacks_to_the_same(self):
        rootfs = self.rootfs_from_layout("gzip")
        copy = self.folder + "/copy"
        os.makedirs(copy)
        archive = self.folder + "/copy.tar"
        flags = ("--xattrs", "--xattrs-include=*", "--xattrs-exclude=user.lamina.*", "--numeric-owner", "--format=posix")
        run("tar", *flags, "--sparse", "-cf", archive, "-C", rootfs, "opt", "odd", "etc")
        run("tar", *flags, "-xpf", archive, "-C", copy)
        options = compare.Options(directory_nlink=False)
        for name in ("opt", "odd", "etc"):
            compare.assert_equal(self, f"{self.image}/umoci/rootfs/{name}", f"{copy}/{name}", options)

    def test_files_tell_which_layer_they_come_from(self):
        rootfs = self.rootfs_from_layout("gzip")
        path = rootfs + "/odd/" + debian.LONGEST
        self.assertEqual(os.getxattr(path, "user.lamina.layer"), b"3")
        manifest = os.path.join(os.path.dirname(rootfs), "manifest.json")
        with open(manifest, encoding="utf-8") as stream:
            self.assertIn(os.getxattr(path, "user.lamina.digest").decode(), stream.read())


if __name__ == "__main__":
    unittest.main()
