"""What comes out of an image without a mount: `lamina cat`, `lamina tree` and `lamina cp`, by a daemon that holds the
store and by the command alone, as root and as nobody."""

import json
import os
import shutil
import stat
import subprocess

from images import big, cache, small
from images.layers import TarLayer
from images.oci import Layer, Layout

from mount import compare
from mount.harness import MountCase, lamina_binary, run
from mount.proxy import Proxy


class OutputCase(MountCase):
    """lamina's commands over a store that no daemon holds."""

    def setUp(self):
        super().setUp()
        self.store = self.folder + "/store"

    def command(self, *arguments, check=True, **options):
        return run(lamina_binary(), *arguments, "--store", self.store, check=check, **options)

    def output(self, *arguments):
        return subprocess.run([lamina_binary(), *arguments, "--store", self.store], check=True, stdout=subprocess.PIPE).stdout

    def add(self, layout, name="app"):
        self.command("add", f"oci:{layout}", "--as", name)

    def refusal(self, *arguments):
        done = self.command(*arguments, check=False)
        self.assertEqual(done.returncode, 1, done)
        return done.stderr

    def small_image(self, *layers):
        layout = Layout(self.folder + "/layout")
        small.make(layout, "1", *layers)
        self.add(layout.path)
        return "localhost/app:1"


class DebianTest(OutputCase):
    """An image of Debian packages with everything odd in it; umoci says what it holds."""

    def setUp(self):
        super().setUp()
        self.image = cache.get("debian")
        self.umoci = self.image + "/umoci/rootfs"
        self.add(f"{self.image}/layout:gzip", "debian")
        self.reference = "localhost/debian:gzip"

    def test_a_copy_of_all_equals_what_umoci_unpacks(self):
        """[S51] Attributes, links, sparse files and xattrs come along."""
        self.command("cp", self.reference + ":/", self.folder + "/copy")
        compare.assert_equal(self, self.umoci, self.folder + "/copy")
        sparse = os.lstat(self.folder + "/copy/odd/sparse-2g")
        self.assertGreater(sparse.st_size, 2**31 - 1)
        self.assertLess(sparse.st_blocks * 512, 64 << 20)

    def test_a_tar_of_a_directory_is_what_gnu_tar_reads(self):
        with open(self.folder + "/out.tar", "wb") as out:
            subprocess.run([lamina_binary(), "cp", self.reference + ":/etc", "-", "--store", self.store], stdout=out, check=True)
        os.mkdir(self.folder + "/copy")
        warnings = run("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", self.folder + "/out.tar",
                       "-C", self.folder + "/copy").stderr
        self.assertEqual(warnings, "")
        compare.assert_equal(self, self.umoci + "/etc", self.folder + "/copy/etc")

    def test_the_listing_is_what_umoci_unpacks(self):
        """[S52] A line of JSON for each entry, with its attributes."""
        told = {}
        for line in self.output("tree", "--json", self.reference).splitlines():
            entry = json.loads(line)
            path = bytes.fromhex(entry["path_hex"]) if "path_hex" in entry else entry["path"].encode()
            self.assertNotIn(path or b".", told)
            told[path or b"."] = entry
        expected, _ = compare.snapshot(self.umoci, compare.Options(content=False))
        self.assertEqual(set(told), set(expected))
        kinds = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO,
                 "character device": stat.S_IFCHR, "block device": stat.S_IFBLK}
        for path, want in expected.items():
            got = told[path]
            self.assertEqual((kinds[got["type"]], got["uid"], got["gid"], tuple(got.get("device", (0, 0)))),
                             (want.type, want.uid, want.gid, want.device), path)
            if want.type != stat.S_IFLNK:
                self.assertEqual(int(got["mode"], 8), want.mode, path)
            if want.type == stat.S_IFREG:
                self.assertEqual((got["size"], got["links"]), (want.size, want.nlink), path)
            target = bytes.fromhex(got["target_hex"]) if "target_hex" in got else got.get("target", "").encode()
            self.assertEqual(target, want.target, path)

    def test_cat_gives_a_files_bytes(self):
        self.assertEqual(self.output("cat", self.reference, "/etc/os-release"),
                         compare_bytes(self.umoci + "/usr/lib/os-release"))
        self.assertEqual(self.output("cat", self.reference, "bin/../bin/sh"), compare_bytes(self.umoci + "/usr/bin/dash"))

    def test_nobody_copies_what_he_may_and_is_told_the_rest(self):
        """[S53] No mount and no root: devices and owners are beyond him, and all else comes."""
        folder = self.folder + "/nobody"
        os.mkdir(folder)
        shutil.chown(folder, "nobody")
        os.chmod(self.folder, 0o755)
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", lamina_binary()]
        options = ["--store", folder + "/store"]
        run(*as_nobody, "add", f"oci:{self.image}/layout:gzip", "--as", "debian", *options)
        done = run(*as_nobody, "cp", self.reference + ":/opt", folder + "/copy", *options, check=False)
        self.assertEqual(done.returncode, 1)
        expected, _ = compare.snapshot(self.umoci + "/opt")
        copied, _ = compare.snapshot(folder + "/copy")
        devices = {path for path, entry in expected.items() if entry.type in (stat.S_IFCHR, stat.S_IFBLK)}
        self.assertTrue(devices)
        for path in devices:
            self.assertRegex(done.stderr, f"copy/{os.fsdecode(path)}': .*Operation not permitted")
        capable = {path for path, entry in expected.items() if "security.capability" in dict(entry.xattrs)}
        self.assertTrue(capable)
        for path in capable:
            self.assertIn(f"copy/{os.fsdecode(path)}': Cannot restore extended attributes: security.capability", done.stderr)
        self.assertEqual(set(copied), set(expected) - devices)
        for path, entry in copied.items():
            self.assertEqual((entry.type, entry.size, entry.mtime_ns, entry.target, entry.digest),
                             (expected[path].type, expected[path].size, expected[path].mtime_ns, expected[path].target,
                              expected[path].digest), path)


def compare_bytes(path):
    with open(path, "rb") as stream:
        return stream.read()


class DaemonTest(MountCase):
    def test_a_daemon_that_holds_the_store_gives_the_same(self):
        image = cache.get("debian")
        self.daemon = self.lamina()
        self.daemon.command("add", f"oci:{image}/layout:zstd-frames", "--as", "debian")
        self.daemon.command("cp", "localhost/debian:zstd-frames:/", self.folder + "/copy")
        compare.assert_equal(self, image + "/umoci/rootfs", self.folder + "/copy")
        listed = self.daemon.command("tree", "--json", "localhost/debian:zstd-frames").stdout.splitlines()
        expected, _ = compare.snapshot(image + "/umoci/rootfs", compare.Options(content=False))
        self.assertEqual(len(listed), len(expected))

    def test_who_leaves_in_the_middle_leaves_no_trace(self):
        """A reader that has enough ends the request; the daemon serves the next one."""
        image = cache.get("debian")
        self.daemon = self.lamina()
        self.daemon.command("add", f"oci:{image}/layout:gzip", "--as", "debian")
        command = [lamina_binary(), "cat", "localhost/debian:gzip", "/odd/sparse-2g", "--store", self.daemon.store]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            self.assertEqual(reader.stdout.read(1 << 20)[4096:], bytes((1 << 20) - 4096))
            reader.stdout.close()
            reader.wait(timeout=60)
        self.assertEqual(self.daemon.command("cat", "localhost/debian:gzip", "/etc/debian_version").returncode, 0)


class LazyTest(MountCase):
    def test_one_file_costs_what_its_chunks_cost(self):
        """[S18] cat fetches by ranges what the file needs, and no more."""
        image = cache.get("big")
        server = self.registry()
        server.push(image + "/layout", "gzip", "big")
        proxy = Proxy(server.host)
        self.addCleanup(proxy.stop)
        daemon = self.lamina()
        reference = f"{proxy.host}/big:gzip"
        daemon.command("fetch", "--index-only", reference)
        daemon.clear_cache()
        proxy.forget()
        sort = "plain"
        done = subprocess.run([lamina_binary(), "cat", reference, "/" + big.path_of(sort, 17), "--store", daemon.store],
                              check=True, capture_output=True)
        self.assertEqual(done.stdout, big.content_of(sort, 17))
        layer = json.loads(daemon.command("inspect", "--json", reference).stdout)["manifest"]["layers"][0]["digest"]
        self.assertTrue(all(record.byte_range for record in proxy.gets(layer)), proxy.gets(layer))
        self.assertTrue(0 < proxy.bytes_sent(layer) < 2 << 20, proxy.gets(layer))


class PathTest(OutputCase):
    """Where copies go and what paths mean; images and destinations that are out for more."""

    def make(self):
        return self.small_image({"etc/one": b"1\n", "etc/sub/two": b"2\n", "top": b"top\n"})

    def files(self, folder):
        return {os.path.relpath(os.path.join(at, name), folder): compare_bytes(os.path.join(at, name))
                for at, _, names in os.walk(folder) for name in names}

    def test_a_copy_goes_into_a_directory_or_gets_a_name(self):
        image = self.make()
        os.mkdir(self.folder + "/into")
        self.command("cp", image + ":/etc", self.folder + "/into")
        self.assertEqual(self.files(self.folder + "/into"), {"etc/one": b"1\n", "etc/sub/two": b"2\n"})
        self.command("cp", image + ":/etc/", self.folder + "/named")
        self.assertEqual(self.files(self.folder + "/named"), {"one": b"1\n", "sub/two": b"2\n"})
        os.mkdir(self.folder + "/contents")
        self.command("cp", image + ":/etc/.", self.folder + "/contents")
        self.assertEqual(self.files(self.folder + "/contents"), {"one": b"1\n", "sub/two": b"2\n"})
        self.command("cp", image + ":/top", self.folder + "/file")
        self.assertEqual(compare_bytes(self.folder + "/file"), b"top\n")
        self.command("cp", image + ":/top", "here", cwd=self.folder)
        self.assertEqual(compare_bytes(self.folder + "/here"), b"top\n")

    def test_what_was_there_is_replaced_and_directories_are_joined(self):
        image = self.make()
        os.makedirs(self.folder + "/into/etc")
        for name in ("one", "own"):
            with open(f"{self.folder}/into/etc/{name}", "w", encoding="utf-8") as out:
                out.write("old")
        self.command("cp", image + ":/etc", self.folder + "/into")
        self.assertEqual(self.files(self.folder + "/into"),
                         {"etc/one": b"1\n", "etc/own": b"old", "etc/sub/two": b"2\n"})

    def test_wrong_places_are_refused_in_words(self):
        image = self.make()
        self.assertIn("there is no 'none'", self.refusal("cat", image, "/etc/none"))
        self.assertIn("is a directory", self.refusal("cat", image, "/etc"))
        self.assertIn("is no directory", self.refusal("tree", image, "/top/below"))
        self.assertIn("is not REF:PATH", self.refusal("cp", image, self.folder))
        self.assertIn("there is no directory", self.refusal("cp", image + ":/top", self.folder + "/none/"))
        with open(self.folder + "/file", "w", encoding="utf-8") as out:
            out.write("mine")
        self.assertIn("destination is none", self.refusal("cp", image + ":/etc", self.folder + "/file"))
        self.assertEqual(compare_bytes(self.folder + "/file"), b"mine")

    def hostile(self):
        """Links of the image that lead out of it."""
        raw = self.folder + "/hostile.tar"
        with TarLayer(raw) as layer:
            layer.file("secret", b"of the image")
            layer.symlink("out", "/secret")
            layer.symlink("up", "../../../../../../../../secret")
            layer.symlink("loop", "loop")
            layer.directory("d")
            layer.file("d/passwd", b"hostile")
        layout = Layout(self.folder + "/layout")
        layout.tag(layout.put_image([Layer(raw, "gzip")]), "1")
        self.add(layout.path)
        return "localhost/app:1"

    def test_links_of_an_image_stay_inside_it(self):
        """[S54] Absolute links and '..' are resolved inside the image, and loops end."""
        image = self.hostile()
        for path in ("/out", "/up", "out", "../../secret"):
            self.assertEqual(self.output("cat", image, path), b"of the image", path)
        self.assertIn("too many symbolic links", self.refusal("cat", image, "/loop"))

    def test_a_copy_writes_through_no_link_of_the_destination(self):
        """[S54] A link in the way is replaced, whatever it leads to."""
        image = self.hostile()
        outside = self.folder + "/outside"
        os.mkdir(outside)
        os.mkdir(self.folder + "/into")
        os.symlink(outside, self.folder + "/into/d")
        os.symlink(outside + "/created", self.folder + "/into/secret")
        self.command("cp", image + ":/.", self.folder + "/into")
        self.assertEqual(os.listdir(outside), [])
        self.assertEqual(compare_bytes(self.folder + "/into/d/passwd"), b"hostile")
        self.assertFalse(os.path.islink(self.folder + "/into/d"))
        self.assertEqual(compare_bytes(self.folder + "/into/secret"), b"of the image")
        self.assertEqual(os.readlink(self.folder + "/into/out"), "/secret")

    def test_the_drawing_shows_who_is_below_whom(self):
        image = self.make()
        self.assertEqual(self.command("tree", image).stdout,
                         "/\n├── etc\n│   ├── one\n│   └── sub\n│       └── two\n└── top\n")
        self.assertEqual(self.command("tree", "--depth", "1", image, "/etc").stdout, "/etc\n├── one\n└── sub\n")
        self.assertRegex(self.command("tree", "--long", image, "/top").stdout,
                         r"^-rw-r--r--   1 +0/0 +4 \S+Z  /top\n$")
