"""Archives and layouts as sources: what docker-compatible tools write, each mounted tree compared with what those tools
unpack, and what no honest tool writes."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile

from images import archives, cache, small
from images.oci import IMAGE_INDEX, Layout, REF_NAME

from mount import compare
from mount.harness import MountCase, path_name, read, run


def skopeo(*arguments):
    return run("skopeo", "--insecure-policy", *arguments)


def digest_of_raw_manifest(source):
    raw = subprocess.run(["skopeo", "--insecure-policy", "inspect", "--raw", source], stdout=subprocess.PIPE,
                         check=True).stdout
    return "sha256:" + hashlib.sha256(raw).hexdigest()


class SourceCase(MountCase):
    def setUp(self):
        super().setUp()
        self.work = self.folder + "/work"
        os.makedirs(self.work)
        self.daemon = self.lamina()

    def at(self, name):
        return os.path.join(self.work, name)

    def add(self, *arguments, check=True):
        return self.daemon.command("add", *arguments, check=check)

    def rootfs(self, *parts):
        return self.daemon.path(*parts, "rootfs")

    def raw(self, files, name="raw"):
        return archives.layer_tar(self.at(name), files)

    def images(self):
        return json.loads(self.daemon.command("ls", "--json").stdout)["images"]

    def add_error(self, *arguments):
        """The message of an `add` that must fail."""
        done = self.add(*arguments, check=False)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        return done.stderr

    def assert_same_below(self, expected, actual):
        """All but the root itself: storage drivers give it attributes of their own where no layer has any."""
        self.assertEqual(sorted(os.listdir(expected)), sorted(os.listdir(actual)))
        for name in os.listdir(expected):
            compare.assert_equal(self, f"{expected}/{name}", f"{actual}/{name}")


class ToolsTest(SourceCase):
    """[S28] [S29] What podman, buildah, skopeo and umoci write."""

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.at("layout"))
        self.descriptors = [
            small.make(self.layout, "one", {"etc/a": b"a" * 70000, "bin/x": b"x"}, {"etc/b": b"b"}),
            small.make(self.layout, "two", {"etc/a": b"a" * 70000, "bin/x": b"x"}, {"etc/c": b"c"})]

    def storage(self, tool, *arguments):
        """podman or buildah over a storage of the test's own."""
        return run(tool, "--root", self.at("storage"), "--runroot", self.at("run"), "--storage-driver", "vfs",
                   *arguments).stdout.strip()

    def podman_images(self):
        """Both images in podman's storage, the first with two tags; where podman unpacked them."""
        unpacked = []
        for tag, names in (("one", ["docker.io/library/app:one", "docker.io/library/app:again"]),
                           ("two", ["quay.example/team/other:two"])):
            image = self.storage("podman", "pull", "-q", f"oci:{self.layout.path}:{tag}")
            self.storage("podman", "tag", image, *names)
            unpacked.append(self.storage("podman", "image", "mount", image))
        return unpacked

    def unpacked_by_umoci(self, tag):
        run("umoci", "unpack", "--image", f"{self.layout.path}:{tag}", self.at("bundle-" + tag))
        return self.at(f"bundle-{tag}/rootfs")

    def test_one_archive_of_several_images_that_podman_saves(self):
        one, two = self.podman_images()
        archive = self.at("multi.tar")
        self.storage("podman", "save", "-q", "--multi-image-archive", "-o", archive, "docker.io/library/app:one",
                     "docker.io/library/app:again", "quay.example/team/other:two")
        self.add("docker-archive:" + archive)
        app = self.daemon.path("docker.io/library/app")
        self.assert_same_below(one, app + "/one/rootfs")
        self.assert_same_below(two, self.rootfs("quay.example/team/other/two"))
        self.assertEqual(os.readlink(app + "/one"), os.readlink(app + "/again"))

    def test_an_image_is_chosen_by_reference_by_number_and_by_id(self):
        self.podman_images()
        archive = self.at("multi.tar")
        self.storage("podman", "save", "-q", "--multi-image-archive", "-o", archive, "docker.io/library/app:one",
                     "quay.example/team/other:two")
        with tarfile.open(archive) as tar:
            listed = json.load(tar.extractfile("manifest.json"))
        number = [image["RepoTags"] for image in listed].index(["quay.example/team/other:two"])
        image_id = "sha256:" + listed[number]["Config"].removesuffix(".json")
        for name, choice in (("by-ref", "quay.example/team/other:two"), ("by-number", f"@{number}"),
                             ("by-id", "@" + image_id)):
            added = self.add(f"docker-archive:{archive}:{choice}", "--as", name).stdout.splitlines()
            self.assertEqual(len(added), 1, added)
            self.assertTrue(os.path.exists(self.rootfs("localhost", name, "two") + "/etc/c"), choice)
        self.assertTrue(self.add(f"docker-archive:{archive}:app:one", "--as", "short").stdout.strip())
        self.assertIn("no image named 'app:none'", self.add_error(f"docker-archive:{archive}:app:none"))

    def test_the_oci_archive_of_podman(self):
        one, _ = self.podman_images()
        archive = self.at("podman.tar")
        self.storage("podman", "save", "-q", "--format", "oci-archive", "-o", archive, "docker.io/library/app:one")
        self.add("oci-archive:" + archive, "--as", "app")
        names = os.listdir(self.daemon.path("localhost/app"))
        tag = [name for name in names if not name.startswith(("@", "sha256-"))][0]
        self.assert_same_below(one, self.rootfs("localhost/app", tag))

    def test_archives_that_buildah_pushes(self):
        one, _ = self.podman_images()
        for kind in ("docker-archive", "oci-archive"):
            archive = self.at(kind + ".tar")
            self.storage("buildah", "push", "-q", "docker.io/library/app:one", f"{kind}:{archive}:localhost/built:1")
            self.add(f"{kind}:{archive}", "--as", kind)
            self.assert_same_below(one, self.rootfs("localhost", kind, "1"))

    def test_the_manifest_of_docker_archive_is_the_one_that_skopeo_makes(self):
        """[S29]"""
        archive = self.at("app.tar")
        skopeo("copy", "-q", f"oci:{self.layout.path}:one", f"docker-archive:{archive}:docker.io/library/app:1")
        self.add("docker-archive:" + archive)
        digest = digest_of_raw_manifest("docker-archive:" + archive)
        app = self.daemon.path("docker.io/library/app")
        self.assertEqual(os.readlink(app + "/1"), path_name(digest))
        self.assertEqual("sha256:" + hashlib.sha256(read(app + "/1/manifest.json")).hexdigest(), digest)
        umoci = self.unpacked_by_umoci("one")
        self.assert_same_below(umoci, app + "/1/rootfs")

    def test_the_image_id_names_the_image(self):
        """[S30]"""
        archive = self.at("app.tar")
        skopeo("copy", "-q", f"oci:{self.layout.path}:one", f"docker-archive:{archive}:docker.io/library/app:1")
        self.add("docker-archive:" + archive)
        with tarfile.open(archive) as tar:
            image_id = "sha256:" + json.load(tar.extractfile("manifest.json"))[0]["Config"].removesuffix(".json")
        app = self.daemon.path("docker.io/library/app")
        self.assertEqual(os.readlink(f"{app}/{image_id}"), os.readlink(app + "/1"))
        self.assertEqual(os.path.realpath(f"{app}@{image_id}"), os.path.realpath(app + "/1"))
        resolved = self.daemon.command("resolve", f"app@{image_id}").stdout.strip()
        self.assertEqual(resolved, "docker.io/library/app@" + os.readlink(app + "/1").replace("-", ":", 1))
        self.daemon.restart()
        self.assertEqual(os.readlink(f"{app}/{image_id}"), os.readlink(app + "/1"))

    def test_oci_archives_of_skopeo_with_and_without_a_name(self):
        """[S28]"""
        for name, reference in (("plain", ""), ("tagged", ":v1"), ("full", ":quay.example/team/app:v2")):
            skopeo("copy", "-q", f"oci:{self.layout.path}:two", f"oci-archive:{self.at(name)}.tar{reference}")
            self.add(f"oci-archive:{self.at(name)}.tar")
        umoci = self.unpacked_by_umoci("two")
        folder = path_name(self.descriptors[1]["digest"])
        for place in ("localhost/plain/@0", f"localhost/plain/{folder}", "localhost/tagged/v1", "localhost/tagged/@0",
                      "quay.example/team/app/v2"):
            self.assert_same_below(umoci, self.rootfs(place))
            self.assertEqual(os.path.basename(os.path.realpath(self.daemon.path(place))), folder)
        self.assertIn("@0", os.listdir(self.daemon.path("localhost/plain")))

    def test_archives_compressed_as_a_whole_are_streamed_once(self):
        """[S31]"""
        archive = self.at("app.tar")
        skopeo("copy", "-q", f"oci:{self.layout.path}:one", f"docker-archive:{archive}:docker.io/library/app:1")
        umoci = self.unpacked_by_umoci("one")
        with open(archive, "rb") as stream:
            data = stream.read()
        for kind in ("gzip", "zstd"):
            with open(f"{archive}.{kind}", "wb") as out:
                out.write(archives.pack(data, kind))
            self.add(f"docker-archive:{archive}.{kind}", "--as", kind)
            self.add(f"docker-archive:{archive}.{kind}", "--as", kind + "-again")
            self.assert_same_below(umoci, self.rootfs("localhost", kind, "1"))
            self.assert_same_below(umoci, self.rootfs("localhost", kind + "-again", "1"))
        self.daemon.restart()
        self.daemon.clear_cache()
        for kind in ("gzip", "zstd"):
            self.assert_same_below(umoci, self.rootfs("localhost", kind, "1"))
            self.assertEqual(self.daemon.log_text().count(f"indexing the archive {archive}.{kind}"), 1)


class DebianTest(SourceCase):
    """[S9] [S28] A real image through archives equals what umoci unpacks."""

    def setUp(self):
        super().setUp()
        self.image = cache.get("debian")

    def assert_is_umoci_s(self, rootfs):
        compare.assert_equal(self, self.image + "/umoci/rootfs", rootfs)

    def test_docker_archive(self):
        skopeo("copy", "-q", f"oci:{self.image}/layout:gzip", f"docker-archive:{self.at('d.tar')}:debian:12")
        self.add("docker-archive:" + self.at("d.tar"))
        self.assert_is_umoci_s(self.rootfs("docker.io/library/debian/12"))

    def test_compressed_oci_archive(self):
        skopeo("copy", "-q", f"oci:{self.image}/layout:gzip", f"oci-archive:{self.at('d.tar')}:12")
        run("zstd", "-q", "--rm", self.at("d.tar"))
        self.add("oci-archive:" + self.at("d.tar.zst"))
        self.assert_is_umoci_s(self.rootfs("localhost/d/12"))


class HandMadeTest(SourceCase):
    def test_layers_that_are_compressed_inside(self):
        """[S29] Known before reading are their diff ids alone; the digest of the manifest does not change."""
        raw = self.raw({"etc/a": b"a" * 3_000_000, "etc/b": os.urandom(100_000)})
        for kind in ("gzip", "zstd"):
            archive = self.at(kind + ".tar")
            with archives.ArchiveWriter(archive) as out:
                config = archives.config_of([raw])
                out.file("config.json", config)
                out.file("layer", archives.pack(raw, kind))
                out.json("manifest.json", [{"Config": "config.json", "RepoTags": [f"{kind}:1"], "Layers": ["layer"]}])
            self.add("docker-archive:" + archive)
            rootfs = self.rootfs("docker.io/library", kind, "1")
            size = len(archives.pack(raw, kind))
            line = f"docker-archive layer sha256:{archives.sha256(raw)} {kind} {size}\n"
            manifest = json.loads(read(rootfs + "/../manifest.json"))
            self.assertEqual(manifest["layers"][0]["digest"], "sha256:" + archives.sha256(line.encode()))
            with tarfile.open(self.at("raw")) as tar:
                for name in ("etc/a", "etc/b"):
                    self.assertEqual(read(f"{rootfs}/{name}"), tar.extractfile(name).read())

    def test_a_layer_that_is_not_what_the_config_says_fails_its_image(self):
        raw = self.raw({"etc/a": b"right"})
        for kind in (None, "gzip"):
            wrong = self.raw({"etc/a": b"wrong"})
            with archives.ArchiveWriter(self.at("w.tar")) as out:
                out.file("c", archives.config_of([raw]))
                out.file("l", archives.pack(wrong, kind) if kind else wrong)
                out.json("manifest.json", [{"Config": "c", "RepoTags": [f"wrong:{kind}"], "Layers": ["l"]}])
            self.add("docker-archive:" + self.at("w.tar"))
            with self.assertRaises(OSError):
                os.listdir(self.rootfs(f"docker.io/library/wrong/{kind}"))
            self.assertRegex(read(self.daemon.path(f"docker.io/library/wrong/{kind}/status.json")).decode(),
                             "not the one of the (manifest|image config)")

    def test_links_between_layer_members(self):
        low, high = self.raw({"etc/a": b"low"}), self.raw({"etc/b": b"high"})
        with archives.ArchiveWriter(self.at("l.tar")) as out:
            out.file("./c.json", archives.config_of([low, high, low]))
            out.file("x/layer.tar", low)
            out.link("y/layer.tar", "../x/layer.tar")
            out.link("./z/../z/layer.tar", "/y/layer.tar")
            out.file("h/layer.tar", high)
            out.link("g/layer.tar", "h/layer.tar", tarfile.LNKTYPE)
            out.json("manifest.json", [{"Config": "c.json", "RepoTags": None,
                                        "Layers": ["x/layer.tar", "g/layer.tar", "z//layer.tar"]}])
        self.add("docker-archive:" + self.at("l.tar"))
        rootfs = self.rootfs("localhost/l/@0")
        self.assertEqual((read(rootfs + "/etc/a"), read(rootfs + "/etc/b")), (b"low", b"high"))

    def test_the_last_of_two_members_of_one_name_counts(self):
        raw = self.raw({"etc/a": b"a"})
        with archives.ArchiveWriter(self.at("two.tar")) as out:
            out.file("l", b"something else")
            out.file("c", archives.config_of([raw]))
            out.file("l", raw)
            out.json("manifest.json", [{"Config": "c", "RepoTags": ["two:1"], "Layers": ["l"]}])
        self.add("docker-archive:" + self.at("two.tar"))
        self.assertEqual(read(self.rootfs("docker.io/library/two/1") + "/etc/a"), b"a")

    def test_the_form_of_before_manifests(self):
        raws = [self.raw({"etc/a": b"low"}), self.raw({"etc/a": b"high"})]
        with archives.ArchiveWriter(self.at("old.tar")) as out:
            for number, raw in enumerate(raws):
                out.file(f"{number}/VERSION", b"1.0")
                parent = {"parent": str(number - 1)} if number else {}
                out.json(f"{number}/json", {"id": str(number), "created": "2014-01-02T03:04:05Z", **parent,
                                            "architecture": "amd64", "os": "linux",
                                            "config": {"Cmd": ["/old"]}})
                out.file(f"{number}/layer.tar", raw)
            out.json("repositories", {"old": {"1": "1", "0": "0"}, "quay.example/same": {"x": "1"}})
        self.add("docker-archive:" + self.at("old.tar"))
        old = self.daemon.path("docker.io/library/old")
        self.assertEqual(read(old + "/0/rootfs/etc/a"), b"low")
        self.assertEqual(read(old + "/1/rootfs/etc/a"), b"high")
        self.assertEqual(json.loads(read(old + "/1/config.json"))["config"]["Cmd"], ["/old"])
        self.assertEqual(os.readlink(self.daemon.path("quay.example/same/x")), os.readlink(old + "/1"))

    def test_an_archive_of_both_forms_can_be_added_as_either(self):
        layout = Layout(self.at("both"))
        descriptor = small.make(layout, "1", {"etc/a": b"a"})
        manifest = layout.document(descriptor["digest"])
        blob = lambda one: "blobs/" + one["digest"].replace(":", "/")  # pylint: disable=unnecessary-lambda-assignment
        with open(layout.path + "/manifest.json", "w", encoding="utf-8") as out:
            json.dump([{"Config": blob(manifest["config"]), "RepoTags": ["both:1"],
                        "Layers": [blob(layer) for layer in manifest["layers"]]}], out)
        run("tar", "-C", layout.path, "-cf", self.at("both.tar"), ".")
        self.add("docker-archive:" + self.at("both.tar"))
        self.add("oci-archive:" + self.at("both.tar"), "--as", "both")
        self.assertEqual(read(self.rootfs("docker.io/library/both/1") + "/etc/a"), b"a")
        self.assertEqual(read(self.rootfs("localhost/both/1") + "/etc/a"), b"a")
        self.assertEqual(os.readlink(self.daemon.path("localhost/both/1")), path_name(descriptor["digest"]))


class BrokenTest(SourceCase):
    """[S32] A bad source, or a bad image in one, is an error in words and takes nothing else down."""

    def write(self, manifest, *members, name="bad.tar"):
        """An archive with this manifest.json (bytes, or a document) and (name, bytes) or (name, target, type) members."""
        with archives.ArchiveWriter(self.at(name)) as out:
            for member in members:
                if len(member) == 2:
                    out.file(*member)
                else:
                    out.link(*member)
            if isinstance(manifest, bytes):
                out.file("manifest.json", manifest)
            elif manifest is not None:
                out.json("manifest.json", manifest)
        return "docker-archive:" + self.at(name)

    def test_archives_of_which_nothing_can_be_used(self):
        raw = self.raw({"etc/a": b"a"})
        config = ("c", archives.config_of([raw]))
        image = {"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}
        layer = ("l", raw)
        cases = [
            ("null", (b"null",), "null and not the list of images"),
            ("no list", (b"{}",), "no array and not the list"),
            ("no JSON", (b"[",), "not JSON"),
            ("nothing", (None, layer), "neither manifest.json nor repositories"),
            ("an OCI archive", (None, ("index.json", b"{}")), "add it as oci-archive:"),
            ("no images", ([],), "holds no images"),
            ("no tag", ([{**image, "RepoTags": ["a"]}], config, layer), "'a' has no tag"),
            ("no name", ([{**image, "RepoTags": ["A B:1"]}], config, layer), "RepoTags"),
            ("no config", ([image], layer), "has no member 'c'"),
            ("no layer", ([image], config), "has no member 'l'"),
            ("too few layers", ([{**image, "Layers": []}], config), "1 diff_ids for 0 layers"),
            ("a circle", ([image], config, ("l", "m", tarfile.SYMTYPE), ("m", "l", tarfile.SYMTYPE)), "in a circle"),
            ("out", ([image], config, ("l", "../../etc/passwd", tarfile.SYMTYPE)), "leads out of the archive"),
            ("out and in", ([{**image, "Layers": ["../l"]}], config, layer), "leads out of the archive"),
            ("a link to nothing", ([image], config, ("l", "m", tarfile.LNKTYPE)), "no member 'm', to which 'l' leads"),
        ]
        for what, content, words in cases:
            with self.subTest(what):
                error = self.add_error(self.write(*content))
                self.assertIn(words, error)
                self.assertIn(self.at("bad.tar"), error)
                self.assertEqual(len(error.strip().splitlines()), 1, error)
        self.assertEqual(self.images(), [])

    def test_files_that_are_no_archive(self):
        with open(self.at("text"), "wb") as out:
            out.write(b"no tar " * 1000)
        with open(self.at("empty"), "wb"):
            pass
        raw = self.raw({"etc/a": b"a" * 10000})
        archives.save(self.at("cut.tar"), [(["a:1"], [raw])])
        os.truncate(self.at("cut.tar"), 9000)
        packed = archives.pack(read(self.at("cut.tar")), "gzip")
        with open(self.at("cut.gz"), "wb") as out:
            out.write(packed[:len(packed) // 2])
        os.mkfifo(self.at("fifo"))
        for name, words in (("text", "checksum"), ("empty", "neither manifest.json"), ("cut.tar", "ends before the data"),
                            ("cut.gz", "truncated"), ("fifo", "not a regular file"), ("missing", "away")):
            for kind in ("docker-archive", "oci-archive"):
                error = self.add_error(f"{kind}:{self.at(name)}")
                if not (kind == "oci-archive" and name == "empty"):
                    self.assertIn(words, error)
        self.assertIn("no source that lamina reads", self.add_error("tarball:" + self.at("text")))

    def test_a_member_that_is_stored_sparse_cannot_be_a_layer(self):
        os.makedirs(self.at("s"))
        with open(self.at("s/l"), "wb") as out:
            out.seek(10_000_000)
            out.write(b"end")
        with open(self.at("s/manifest.json"), "w", encoding="utf-8") as out:
            json.dump([{"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}], out)
        with open(self.at("s/c"), "wb") as out:
            out.write(archives.config_of([b""]))
        for form in ("gnu", "posix"):
            run("tar", "-C", self.at("s"), "--sparse", "--format", form, "-cf", self.at("sparse.tar"), "c", "l",
                "manifest.json")
            self.assertIn("sparse", self.add_error("docker-archive:" + self.at("sparse.tar")))

    def test_others_go_on(self):
        raw = self.raw({"etc/a": b"a"})
        good = {"Config": "c", "RepoTags": ["good:1"], "Layers": ["l"]}
        bad = {"Config": "c", "RepoTags": ["bad:1"], "Layers": ["nowhere"]}
        source = self.write([bad, good], ("c", archives.config_of([raw])), ("l", raw))
        layout = Layout(self.at("layout"))
        small.make(layout, "v", {"x": b"x"})
        done = self.add("oci:" + self.at("missing"), source, "oci:" + layout.path, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nowhere", done.stderr)
        self.assertIn("missing", done.stderr)
        self.assertEqual(read(self.rootfs("docker.io/library/good/1") + "/etc/a"), b"a")
        self.assertEqual(read(self.rootfs("localhost/layout/v") + "/x"), b"x")
        with self.assertRaises(OSError):
            os.readlink(self.daemon.path("docker.io/library/bad/1"))

    def test_one_name_for_two_images_is_an_error_that_lists_both(self):
        """[S33]"""
        layout = Layout(self.at("layout"))
        digests = [small.make(layout, None, {"x": content})["digest"] for content in (b"1", b"2", b"3")]
        with open(layout.path + "/index.json", "w", encoding="utf-8") as out:
            entries = [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
                        "size": os.path.getsize(layout.blob_path(digest)), "annotations": {REF_NAME: name}}
                       for digest, name in zip(digests, ("same", "same", "other"))]
            json.dump({"schemaVersion": 2, "manifests": entries}, out)
        run("tar", "-C", layout.path, "-cf", self.at("a.tar"), ".")
        for source in ("oci:" + layout.path, "oci-archive:" + self.at("a.tar")):
            error = self.add_error(source, "--as", "app")
            self.assertIn(digests[0], error)
            self.assertIn(digests[1], error)
            self.assertIn("'localhost/app:same' stands for both", error)
            app = self.daemon.path("localhost/app")
            self.assertEqual(read(app + "/other/rootfs/x"), b"3")
            self.assertEqual(read(app + "/@1/rootfs/x"), b"2")
            self.assertEqual(read(f"{app}/{path_name(digests[0])}/rootfs/x"), b"1")
            with self.assertRaises(OSError):
                os.readlink(app + "/same")
            self.assertEqual(self.add(source + ":@0", "--as", "first").stdout.strip(),
                             f"localhost/first:same@{digests[0]}")


class OciTest(SourceCase):
    def test_an_index_in_an_index_in_an_archive(self):
        """[S28]"""
        layout = Layout(self.at("layout"))
        image = small.make(layout, None, {"x": b"inner"})
        inner = layout.put_index([(image, {"os": "linux", "architecture": "amd64"})])
        outer = layout.put_index([(inner, {"os": "linux", "architecture": "amd64"})])
        layout.tag(outer, "nested")
        run("tar", "-C", layout.path, "-cf", self.at("nested.tar"), ".")
        self.add("oci-archive:" + self.at("nested.tar"))
        nested = self.daemon.path("localhost/nested/nested")
        self.assertEqual(read(nested + "/rootfs/x"), b"inner")
        self.assertEqual(json.loads(read(nested + "/index.json"))["mediaType"], IMAGE_INDEX)

    def test_several_names_of_one_image(self):
        layout = Layout(self.at("layout"))
        descriptor = small.make(layout, "a", {"x": b"x"})
        layout.tag(descriptor, "b")
        layout.tag(descriptor, "quay.example/team/app:c")
        self.add("oci:" + layout.path)
        for place in ("localhost/layout/a", "localhost/layout/b", "localhost/layout/@1", "quay.example/team/app/c"):
            self.assertEqual(os.path.basename(os.path.realpath(self.daemon.path(place))),
                             path_name(descriptor["digest"]), place)

    def test_what_a_layout_lacks_comes_from_the_registry_that_the_name_names(self):
        """[S34]"""
        registry = self.registry()
        whole = Layout(self.at("whole"))
        descriptor = small.make(whole, "v1", {"etc/a": b"a"}, {"etc/b": b"b"})
        registry.push(whole.path, "v1", "team/app")
        lacking = self.at("lacking")
        shutil.copytree(whole.path, lacking)
        layout = Layout(lacking)
        layout.tag(descriptor, f"{registry.host}/team/app:v1")
        for layer in layout.document(descriptor["digest"])["layers"][1:]:
            os.unlink(layout.blob_path(layer["digest"]))
        run("tar", "-C", lacking, "-cf", self.at("lacking.tar"), ".")
        self.add(f"oci:{lacking}:{registry.host}/team/app:v1", "--as", "elsewhere")
        self.add(f"oci-archive:{self.at('lacking.tar')}:{registry.host}/team/app:v1", "--as", "packed")
        for name in ("elsewhere", "packed"):
            rootfs = self.rootfs("localhost", name, "v1")
            self.assertEqual((read(rootfs + "/etc/a"), read(rootfs + "/etc/b")), (b"a", b"b"))
        status = json.loads(read(self.daemon.path("localhost/elsewhere/v1/status.json")))
        self.assertTrue(status["local"])
        self.assertEqual(status["origin"], "oci:" + lacking)


class ChangeTest(SourceCase):
    """[S35] A source that changes or goes away while it is mounted."""

    def setUp(self):
        super().setUp()
        self.archive = self.at("app.tar")
        self.first = self.raw({"etc/read": b"read" * 500_000, "etc/unread": os.urandom(3_000_000)})
        archives.save(self.archive, [(["app:1"], [self.first])])
        self.add("docker-archive:" + self.archive)
        self.app = self.daemon.path("docker.io/library/app")

    def forget_bytes(self):
        """The index stays, the cache goes: bytes come from the archive."""
        self.assertEqual(read(self.app + "/1/rootfs/etc/read"), b"read" * 500_000)
        self.daemon.clear_cache()
        self.assertEqual(read(self.app + "/1/rootfs/etc/read"), b"read" * 500_000)

    def assert_unread_fails(self):
        image = os.path.realpath(self.app + "/1")
        with self.assertRaises(OSError):
            read(image + "/rootfs/etc/unread")
        self.assertEqual(read(image + "/rootfs/etc/read"), b"read" * 500_000)
        return json.loads(read(image + "/status.json"))["last_error"]["message"]

    def test_gone(self):
        self.forget_bytes()
        os.rename(self.archive, self.archive + ".away")
        self.assertIn("away", self.assert_unread_fails())
        os.rename(self.archive + ".away", self.archive)
        self.assertEqual(len(read(self.app + "/1/rootfs/etc/unread")), 3_000_000)

    def test_cut_off(self):
        self.forget_bytes()
        os.truncate(self.archive, 10_000)
        self.assertIn(self.archive, self.assert_unread_fails())

    def test_other_bytes_of_the_same_size(self):
        self.forget_bytes()
        before = os.stat(self.archive)
        with open(self.archive, "r+b") as out:
            out.seek(before.st_size // 2)
            out.write(bytes(200_000))
        os.utime(self.archive, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertTrue(self.assert_unread_fails())

    def test_another_archive_in_its_place(self):
        old = os.path.realpath(self.app + "/1")
        self.assertEqual(os.stat(old + "/rootfs/etc/read").st_size, 2_000_000)
        other = self.raw({"etc/new": b"new"})
        archives.save(self.archive + ".new", [(["app:1", "app:2"], [other])])
        os.rename(self.archive + ".new", self.archive)
        self.assertIn("app:2", self.add("docker-archive:" + self.archive).stdout)
        self.assertEqual(read(self.app + "/2/rootfs/etc/new"), b"new")
        self.assertEqual(os.readlink(self.app + "/1"), os.readlink(self.app + "/2"))
        self.assertEqual(read(old + "/rootfs/etc/read"), b"read" * 500_000)  # it is in the cache

    def test_a_changed_archive_is_read_again_without_being_told(self):
        other = self.raw({"etc/new": b"new"})
        archives.save(self.archive + ".new", [(["app:later"], [other])])
        os.rename(self.archive + ".new", self.archive)
        self.assertEqual(read(self.app + "/later/rootfs/etc/new"), b"new")


class ForgetTest(SourceCase):
    """[S36] `lamina forget`."""

    def sources(self):
        layout = Layout(self.at("layout"))
        small.make(layout, "a", {"x": b"a"})
        archives.save(self.at("d.tar"), [(["one:1", "one:2"], [self.raw({"x": b"1"})]),
                                         (["two:1"], [self.raw({"x": b"2"})])])
        self.add("oci:" + layout.path, "docker-archive:" + self.at("d.tar"))
        return layout

    def names(self):
        return sorted(f"{image['repository']}:{image['tag']}" for image in self.images())

    def test_a_source(self):
        self.sources()
        place = self.daemon.path("docker.io/library/one/1")
        self.assertEqual(read(place + "/rootfs/x"), b"1")
        os.readlink(self.daemon.path("localhost/layout/a"))
        self.daemon.command("forget", "docker-archive:" + self.at("d.tar"))
        self.assertEqual(self.names(), ["localhost/layout:a"])
        self.daemon.restart()
        self.assertEqual(self.names(), ["localhost/layout:a"])
        self.daemon.command("forget", "oci:" + self.at("layout"))
        self.assertEqual(self.names(), [])
        self.assertFalse(os.path.exists(self.daemon.path("localhost/layout")))

    def test_without_a_daemon_and_when_the_source_is_gone(self):
        self.sources()
        self.daemon.stop()
        os.unlink(self.at("d.tar"))
        self.daemon.command("forget", "docker-archive:" + self.at("d.tar"))
        self.assertEqual(self.names(), ["localhost/layout:a"])
        self.daemon.start()
        self.assertEqual(self.names(), ["localhost/layout:a"])

    def test_a_name(self):
        self.sources()
        done = self.daemon.command("forget", "one:1", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("one of several names that docker-archive:" + self.at("d.tar"), done.stderr)
        self.daemon.command("forget", "localhost/layout:a")
        self.assertEqual(self.names(), ["docker.io/library/one:1", "docker.io/library/one:2", "docker.io/library/two:1"])
        self.assertEqual(self.daemon.command("forget", "none:1", check=False).returncode, 1)

    def test_what_was_chosen_from_an_archive_one_by_one(self):
        self.sources()
        self.daemon.command("forget", "docker-archive:" + self.at("d.tar"))
        for reference in ("one:2", "two:1"):
            self.add(f"docker-archive:{self.at('d.tar')}:{reference}")
        self.daemon.command("forget", f"docker-archive:{self.at('d.tar')}:one:2")
        self.assertEqual(self.names(), ["docker.io/library/two:1", "localhost/layout:a"])

    def test_a_local_name_wins_until_it_is_forgotten(self):
        """[S6]"""
        registry = self.registry()
        layout = Layout(self.at("remote"))
        small.make(layout, "v1", {"x": b"remote"})
        registry.push(layout.path, "v1", "team/app")
        local = Layout(self.at("local"))
        small.make(local, "v1", {"x": b"local"})
        self.daemon.stop()
        self.daemon.options += ["--tag-ttl", "0"]
        self.daemon.start()
        self.add("oci:" + local.path, "--as", registry.host + "/team/app")
        place = self.daemon.path(registry.host, "team/app/v1")
        self.assertEqual(read(place + "/rootfs/x"), b"local")
        answer = json.loads(self.daemon.command("resolve", "--json", registry.host + "/team/app:v1").stdout)
        self.assertEqual((answer["local"], answer["origin"]), (True, "oci:" + local.path))
        self.daemon.command("forget", "oci:" + local.path)
        answer = json.loads(self.daemon.command("resolve", "--json", registry.host + "/team/app:v1").stdout)
        self.assertFalse(answer["local"])
        self.assertIn(registry.host, answer["origin"])
        inspected = json.loads(self.daemon.command("inspect", "--json", registry.host + "/team/app:v1").stdout)
        self.assertFalse(inspected["status"]["local"])


class ScaleTest(SourceCase):
    """[S37] Adding reads headers, not bodies."""

    def test_an_archive_of_100_gb(self):
        """The bodies are holes of a sparse file: reading them would take as long as real ones."""
        raw = self.raw({"etc/a": b"a"})
        with archives.ArchiveWriter(self.at("end.tar")) as out:
            out.file("c", archives.config_of([raw]))
            out.file("l", raw)
            out.json("manifest.json", [{"Config": "c", "RepoTags": ["big:1"], "Layers": ["l"]}])
        size = 10 << 30
        with open(self.at("big.tar"), "wb") as out:
            for number in range(10):
                member = tarfile.TarInfo(f"filler{number}")
                member.size = size
                out.write(member.tobuf(tarfile.GNU_FORMAT))
                out.seek(size, os.SEEK_CUR)
            with open(self.at("end.tar"), "rb") as end:
                shutil.copyfileobj(end, out)
        before = self.bytes_read()
        self.add("docker-archive:" + self.at("big.tar"))
        self.assertLess(self.bytes_read() - before, 1 << 20)
        self.assertEqual(read(self.rootfs("docker.io/library/big/1") + "/etc/a"), b"a")

    def bytes_read(self):
        """By the daemon, from whatever file."""
        with open(f"/proc/{self.daemon.process.pid}/io", encoding="ascii") as stream:
            return int(stream.readline().split()[1])

    def test_an_archive_of_100_000_members(self):
        raw = self.raw({"etc/a": b"a"})
        with archives.ArchiveWriter(self.at("many.tar")) as out:
            out.file("c", archives.config_of([raw]))
            for number in range(100_000):
                out.file(f"some/folder/{number}", b"x")
            out.file("l", raw)
            out.json("manifest.json", [{"Config": "c", "RepoTags": ["many:1"], "Layers": ["l"]}])
        self.add("docker-archive:" + self.at("many.tar"))
        self.assertEqual(read(self.rootfs("docker.io/library/many/1") + "/etc/a"), b"a")

    def test_thousands_of_images_in_one_source(self):
        raw = self.raw({"etc/a": b"a"})
        count = 3000
        with archives.ArchiveWriter(self.at("many.tar")) as out:
            out.file("l", raw)
            listed = []
            for number in range(count):
                config = json.loads(archives.config_of([raw]))
                config["author"] = str(number)
                listed.append({"Config": out.json(f"c{number}", config), "RepoTags": [f"many:{number}"],
                               "Layers": ["l"]})
            out.json("manifest.json", listed)
        self.add("docker-archive:" + self.at("many.tar"))
        many = self.daemon.path("docker.io/library/many")
        self.assertEqual(len(self.images()), count)
        targets = {os.readlink(f"{many}/{number}") for number in range(count)}
        self.assertEqual(len(targets), count)
        self.assertEqual(read(f"{many}/{count - 1}/rootfs/etc/a"), b"a")

    def test_thousands_of_sources(self):
        count = 2000
        raw = self.raw({"etc/a": b"a"})
        archives.save(self.at("0.tar"), [(["x:1"], [raw])])
        for number in range(1, count):
            os.link(self.at("0.tar"), self.at(f"{number}.tar"))
        self.add(*[f"docker-archive:{self.at(str(number))}.tar:@0" for number in range(count)], "--as", "one")
        self.assertEqual(read(self.rootfs("localhost/one/1") + "/etc/a"), b"a")
        self.daemon.restart()
        self.assertEqual(read(self.rootfs("localhost/one/@0") + "/etc/a"), b"a")
        self.assertEqual([image["tag"] for image in self.images()], ["1"])
