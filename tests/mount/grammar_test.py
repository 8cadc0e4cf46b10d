"""Every rule of names through a real mount: what is a name, what it means, and that nothing else is there. A registry with many
tags and nested names; short names by registries.conf."""

import errno
import json
import os
import re
import urllib.request

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, path_name, read
from mount.proxy import Proxy

NOWHERE = "sha256:" + "0" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def kind_of(path):
    """'folder', the target of a link, or the errno of what is not there."""
    try:
        return os.readlink(path)
    except OSError as problem:
        if problem.errno == errno.EINVAL:
            return "folder" if os.path.isdir(path) else "file"
        return errno.errorcode[problem.errno]


class LocalGrammarTest(MountCase):
    """A table: path below the mount, and what stands there. Everything local, so that each answer is exact."""

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.long_tag = "T" + "x" * 126 + "Z"
        self.image = None
        self.daemon = self.lamina()
        self.tags = {"v1", "latest", "1.27", "A_b-C.d", "_x", "0", self.long_tag, "rootfs", "manifest.json", "c"}
        for tag in self.tags:
            self.image = small.make(self.layout, tag, {"file": b"x"})  # the same bytes, so one digest
        for name in ("a/b", "a/b/c", "a/b/c/d", "localhost/x.y__z--1/app", "localhost:5000/team/app", "127.0.0.1:5000/team/app",
                     "[::1]:5000/team/app", "[fe80::1]/app", "docker.io/library/debian", "docker.io/team/app", "Host.example/app"):
            self.daemon.command("add", f"oci:{self.layout.path}", "--as", name)

    def check(self, table):
        for path, wanted in table.items():
            self.assertEqual(kind_of(self.daemon.path(path)), wanted, path)

    def test_every_form_of_a_registry(self):
        """[S3]"""
        self.check({
            "localhost": "folder", "docker.io": "folder", "localhost_5000_": "folder", "localhost:5000": "localhost_5000_",
            "127.0.0.1_5000_": "folder", "127.0.0.1:5000": "127.0.0.1_5000_", "___1__5000_": "folder",
            "[::1]:5000": "___1__5000_", "_fe80__1__": "folder", "[fe80::1]": "_fe80__1__", "Host.example": "folder",
            # None of these is one by the grammar.
            "debian": "ENOENT", "localhost_5000": "ENOENT", "localhost:5000_": "ENOENT", "::1": "ENOENT", "[::1": "ENOENT",
            "[::1]5000": "ENOENT", "[::g]": "ENOENT", "localhost:": "ENOENT", "localhost:0": "ENOENT",
            "localhost:65536": "ENOENT", "-x.example": "ENOENT", "x-.example": "ENOENT", "x..example": "ENOENT",
            ".example": "ENOENT", "x_y.example": "ENOENT", "x y.example": "ENOENT", "x.example@": "ENOENT", "...": "ENOENT",
        })
        for registry in ("localhost:5000", "127.0.0.1:5000", "[::1]:5000"):
            self.assertEqual(read(self.daemon.path(registry, "team/app/v1/rootfs/file")), b"x")
            self.assertNotIn(":", os.path.realpath(self.daemon.path(registry, "team/app:v1/rootfs")))

    def test_every_form_of_a_name_in_a_repository(self):
        """[S2] [S3] [S4] tags, digests, NAME:TAG, NAME@DIGEST, and nothing else."""
        digest = self.image["digest"]
        image = path_name(digest)
        self.check({f"localhost/a/b/{tag}": image for tag in self.tags})
        self.check({
            f"localhost/a/b/{image}": "folder", f"localhost/a/b/{digest}": image,
            "localhost/a/b:v1": "b/v1", f"localhost/a/b@{digest}": "b/" + image, f"localhost/a/b:v1@{digest}": "b/" + image,
            "localhost/a:v1": "ENOENT", f"localhost/a@{digest}": "ENOENT", "localhost/a/b:nosuchtag": "ENOENT",
            f"localhost/a/b@{NOWHERE}": "ENOENT", f"localhost/a/b:a b@{digest}": "ENOENT",
            "localhost/a/b/nosuchtag": "ENOENT", f"localhost/a/b/{NOWHERE}": "ENOENT",
            f"localhost/a/b/{path_name(NOWHERE)}": "ENOENT", "localhost/a/b/sha256-12": "ENOENT",
            "localhost/a/b/sha256:12": "ENOENT", f"localhost/a/b/{digest.upper()}": "ENOENT",
            f"localhost/a/b/{self.long_tag}Z": "ENOENT", "localhost/a/b/.hidden": "ENOENT", "localhost/a/b/-x": "ENOENT",
            "localhost/a/b/x y": "ENOENT", "localhost/a/b/x:y:z": "ENOENT", "localhost/a/b/@": "ENOENT",
            "localhost/a/b/:": "ENOENT", "localhost/a/b/v1@": "ENOENT", "localhost/a/b/\n": "ENOENT",
            "localhost/a/b/\u00e9": "ENOENT",
        })
        self.assertEqual(kind_of(self.daemon.path("localhost/a/b/" + "x" * 256)), "ENOENT")

    def test_names_nest_and_a_tag_wins_over_a_deeper_component(self):
        """[S4] Where a/b has the tag c and a/b/c is a repository, the tag shows; what is deeper is reached by its full names."""
        image = path_name(self.image["digest"])
        self.check({
            "localhost/a": "folder", "localhost/a/b": "folder", "localhost/a/b/c": image,
            "localhost/a/b/c/rootfs": "folder", "localhost/a/b/c:v1": "c/v1", "localhost/x.y__z--1": "folder",
            "localhost/x.y__z--1/app/v1": image, "localhost/x": "ENOENT", "localhost/a/bb": "ENOENT",
            "localhost/UPPER": "ENOENT", "localhost/a/Upper/v1": "ENOENT", "localhost/a..b": "ENOENT",
            "localhost/a/b/d": "ENOENT", "localhost/a_": "ENOENT", "localhost/_a": "ENOENT", "localhost/a___b": "ENOENT",
        })
        resolved = self.daemon.command("resolve", "localhost/a/b/c:v1").stdout
        self.assertEqual(resolved, f"localhost/a/b/c@{self.image['digest']}\n")

    def test_reserved_words_are_no_components(self):
        for word in ("rootfs", "layers", "manifest.json", "config.json", "index.json", "platforms", "status.json"):
            self.assertEqual(kind_of(self.daemon.path("localhost", word)), "ENOENT", word)
            self.assertEqual(kind_of(self.daemon.path("localhost/a", word, "v1")), "ENOENT", word)
        self.assertEqual(kind_of(self.daemon.path("localhost/a/b/v1/rootfs")), "folder")

    def test_docker_hub_has_its_own_rules(self):
        image = path_name(self.image["digest"])
        self.check({
            "docker.io/library": "folder", "docker.io/library/debian": "folder", "docker.io/library/debian/v1": image,
            "docker.io/library/debian:v1": "debian/v1", "docker.io/team/app/v1": image,
        })
        wanted = f"docker.io/library/debian@{self.image['digest']}\n"
        for name in ("debian:v1", "library/debian:v1", "docker.io/debian:v1", "docker.io/library/debian:v1",
                     "index.docker.io/debian:v1", "index.docker.io/library/debian:v1", "debian"):
            self.assertEqual(self.daemon.command("resolve", name).stdout, wanted, name)

    def test_references_outside_the_grammar_are_refused_in_words(self):
        for reference, reason in {
                "Debian": "lower case", "a b": "white space", "https://x.example/y": "without 'https://'",
                "debian:" + "x" * 129: "128", "debian:": "tag is empty", "debian:.x": "not a tag", "debian@sha256:12": "digest",
                "x.example/": "empty", "x.example:99999/a": "not a registry", "[::1]": "registry", "a" * 64: "image id",
                "x.example/" + "a/" * 130 + "a": "255", "a//b": "not a repository name"}.items():
            refused = self.daemon.command("resolve", reference, check=False)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""), reference)
            self.assertIn(reason, refused.stderr, reference)


class ManyTagsTest(MountCase):
    """A registry with 2,500 tags of one repository and names that nest."""

    COUNT = 2500

    def setUp(self):
        super().setUp()
        self.server = self.registry()
        self.layout = Layout(self.folder + "/layout")
        small.make(self.layout, "first", {"file": b"many\n"})
        self.digest = self.server.push(self.layout.path, "first", "a/b")
        self.manifest = self.fetch("GET", "/v2/a/b/manifests/first", headers={"Accept": MANIFEST})
        for number in range(1, self.COUNT):
            self.tag("a/b", f"t{number:04}")
        self.proxy = Proxy(self.server.host)
        self.addCleanup(self.proxy.stop)
        self.proxy.page_size = 500

    def fetch(self, method, path, data=None, headers=None):
        request = urllib.request.Request(f"http://{self.server.host}{path}", data=data, method=method, headers=headers or {})
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def tag(self, name, tag):
        self.fetch("PUT", f"/v2/{name}/manifests/{tag}", self.manifest, {"Content-Type": MANIFEST})

    def test_all_are_listed_page_by_page_and_each_is_reached_without_a_list(self):
        """[S5] By `tags ls` and by `ls`, in pages of the registry's Link headers."""
        for name in ("a/b/c", "a/b/t0001", "a/b/c/d"):
            self.server.push(self.layout.path, "first", name)
        daemon = self.lamina("--tag-ttl", "600")
        host = self.proxy.host
        repository = daemon.path(canonical_host(host), "a/b")
        # The very first access is by name, and asks for that alone.
        self.assertEqual(os.readlink(repository + "/t2499"), path_name(self.digest))
        self.assertEqual(read(repository + "/t1234/rootfs/file"), b"many\n")
        rows = json.loads(daemon.command("tags", "ls", "--json", host + "/a/b").stdout)["tags"]
        self.assertEqual(sorted(row["tag"] for row in rows),
                         sorted(["first"] + [f"t{number:04}" for number in range(1, self.COUNT)]))
        known = {row["tag"] for row in rows if "digest" in row}
        self.assertEqual(known, {"t2499", "t1234"})
        pages = [record for record in self.proxy.records("/v2/a/b/tags/list") if record.status == 200]
        self.assertEqual(len(pages), 5)
        listed = set(os.listdir(repository))
        self.assertEqual({name for name in listed if re.fullmatch(r"t\d{4}|first", name)}, {row["tag"] for row in rows})
        # Names that nest below: a tag wins over the component of its name.
        self.assertEqual(kind_of(repository + "/t0001"), path_name(self.digest))
        self.assertEqual(kind_of(repository + "/c"), "folder")
        self.assertEqual(read(repository + "/c/first/rootfs/file"), b"many\n")
        self.assertEqual(read(repository + "/c/d/first/rootfs/file"), b"many\n")
        self.assertEqual(kind_of(repository + "/c/nosuch"), "ENOENT")
        self.assertIn("c", listed)


class ShortNameTest(MountCase):
    """[S50] Names without a registry in commands, by registries.conf."""

    def setUp(self):
        super().setUp()
        self.first, self.second = self.registry("first"), self.registry("second")
        self.layout = Layout(self.folder + "/layout")
        self.digest = small.make(self.layout, "v1", {"file": b"x\n"})["digest"]
        self.config = self.folder + "/registries.conf"

    def daemon_with(self, text, start=True):
        with open(self.config, "w", encoding="utf-8") as stream:
            stream.write(text)
        daemon = self.lamina("--negative-ttl", "0", name=f"lamina{start}", start=start)
        daemon.environment["CONTAINERS_REGISTRIES_CONF"] = self.config
        return daemon

    def test_the_first_registry_that_has_it_is_taken(self):
        self.second.push(self.layout.path, "v1", "lamina-short")
        for start in (False, True):
            daemon = self.daemon_with(f'unqualified-search-registries = ["{self.first.host}", "{self.second.host}"]', start)
            wanted = f"{self.second.host}/lamina-short@{self.digest}\n"
            self.assertEqual(daemon.command("resolve", "lamina-short:v1").stdout, wanted)
            missing = daemon.command("resolve", "lamina-short:v9", check=False)
            self.assertEqual(missing.returncode, 1)
            for host in (self.first.host, self.second.host):
                self.assertIn(f"{host}/lamina-short:v9", missing.stderr)
            self.assertIn("indexed", daemon.command("fetch", "--index-only", "lamina-short:v1").stdout)
            several = daemon.command("tags", "ls", "lamina-short", check=False)
            self.assertRegex(several.stderr, f"may mean {self.first.host}/lamina-short or .*: write it in full")
        self.first.push(self.layout.path, "v1", "lamina-short")
        self.assertEqual(daemon.command("resolve", "lamina-short:v1").stdout,
                         f"{self.first.host}/lamina-short@{self.digest}\n")

    def test_a_registry_that_is_away_ends_the_search(self):
        self.second.push(self.layout.path, "v1", "lamina-short")
        daemon = self.daemon_with(f'unqualified-search-registries = ["{self.first.host}", "{self.second.host}"]', False)
        self.first.stop()
        failed = daemon.command("resolve", "lamina-short:v1", check=False)
        self.assertEqual((failed.returncode, failed.stdout), (1, ""))
        self.assertIn(self.first.host, failed.stderr)

    def test_an_alias_of_a_short_name_is_one_name(self):
        self.second.push(self.layout.path, "v1", "team/app")
        daemon = self.daemon_with(f'[aliases]\n"lamina-short" = "{self.second.host}/team/app"')
        wanted = f"{self.second.host}/team/app@{self.digest}\n"
        self.assertEqual(daemon.command("resolve", "lamina-short:v1").stdout, wanted)
        self.assertIn("v1 ", daemon.command("tags", "ls", "lamina-short").stdout)
        daemon.command("alias", "lamina-short:prod", "v1")
        self.assertEqual(daemon.command("resolve", self.second.host + "/team/app:prod").stdout, wanted)

    def test_a_file_that_is_wrong_is_named_whatever_is_asked_for(self):
        daemon = self.daemon_with("this is none", start=False)
        failed = daemon.command("resolve", "lamina-short", check=False)
        self.assertEqual((failed.returncode, failed.stdout), (1, ""))
        self.assertIn(self.config, failed.stderr)
        self.second.push(self.layout.path, "v1", "app")
        # It may have meant to block that name, or to send it elsewhere.
        full = daemon.command("resolve", self.second.host + "/app:v1", check=False)
        self.assertEqual(full.returncode, 1)
        self.assertIn(self.config, full.stderr)
