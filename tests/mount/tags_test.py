"""Tags: what a repository's are, what they were, how often and at what cost their registry is asked."""

import json
import os
import urllib.request

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, path_name, read, wait_until
from mount.proxy import Proxy


class TagsCase(MountCase):
    """A registry behind a proxy, with `app`."""

    def setUp(self):
        super().setUp()
        self.server = self.registry()
        self.proxy = Proxy(self.server.host)
        self.addCleanup(self.proxy.stop)
        self.layout = Layout(self.folder + "/layout")
        self.name = self.proxy.host + "/app"

    def push(self, tag, content=b"x\n", name="app"):
        small.make(self.layout, tag, {"file": content})
        return self.server.push(self.layout.path, tag, name)

    def tags(self, daemon, *arguments, check=True):
        return daemon.command("tags", *arguments, check=check)

    def listed(self, daemon, name=None):
        """`tags ls` by tag."""
        rows = json.loads(self.tags(daemon, "ls", "--json", name or self.name).stdout)["tags"]
        return {row["tag"]: row for row in rows}

    def history(self, daemon, name):
        return json.loads(self.tags(daemon, "history", "--json", name).stdout)["history"]


class TagListTest(TagsCase):
    def test_a_list_merges_what_the_registry_has_with_what_is_known_here(self):
        self.push("v1")
        known = self.push("v2", b"2\n")
        local = Layout(self.folder + "/local")
        own = small.make(local, "own", {"file": b"own\n"})
        daemon = self.lamina()
        daemon.command("add", f"oci:{local.path}", "--as", self.name)
        daemon.command("resolve", self.name + ":v2")
        rows = self.listed(daemon)
        self.assertEqual(sorted(rows), ["own", "v1", "v2"])
        self.assertNotIn("digest", rows["v1"])
        self.assertEqual((rows["v2"]["digest"], rows["v2"]["origin"]), (known, "http://" + self.proxy.host))
        self.assertEqual((rows["own"]["digest"], rows["own"]["local"]), (own["digest"], True))
        self.assertEqual({row["gone"] for row in rows.values()}, {False})
        folder = os.listdir(daemon.path(canonical_host(self.proxy.host), "app"))
        self.assertLessEqual(set(rows), set(folder))
        text = self.tags(daemon, "ls", self.name).stdout
        self.assertRegex(text, rf"v2 +{known[:19]} .* http://{self.proxy.host}\n")

    def test_a_tag_that_the_registry_lists_no_more_is_marked(self):
        digest = self.push("v1")
        daemon = self.lamina("--tag-ttl", "0")
        daemon.command("resolve", self.name + ":v1")
        self.push("v2", b"2\n")
        # Deleting the manifest takes all its tags away.
        deletion = urllib.request.Request(f"http://{self.server.host}/v2/app/manifests/{digest}", method="DELETE")
        with urllib.request.urlopen(deletion) as answer:
            self.assertEqual(answer.status, 202)
        rows = self.listed(daemon)
        self.assertEqual((rows["v1"]["gone"], rows["v2"]["gone"]), (True, False))
        self.assertIn("gone", self.tags(daemon, "ls", self.name).stdout)

    def test_what_is_known_is_listed_and_stale_while_the_registry_is_away(self):
        """[S8]"""
        digest = self.push("v1")
        for start in (False, True):
            daemon = self.lamina("--tag-ttl", "0", name=f"away{start}", start=False)
            daemon.command("resolve", self.name + ":v1")
            if start:
                daemon.start()
            self.proxy.fail("", refuse=True)
            row = self.listed(daemon)["v1"]
            self.assertEqual((row["digest"], row["stale"]), (digest, True))
            self.assertTrue(row["reason"])
            done = self.tags(daemon, "ls", self.name)
            self.assertIn("stale", done.stdout)
            self.assertIn("the registry's list is missing", done.stderr)
            self.proxy.heal()
            self.assertFalse(self.listed(daemon)["v1"]["stale"])

    def test_a_repository_of_which_nothing_is_known_is_an_error(self):
        daemon = self.lamina(start=False)
        for command in (["ls"], ["history"]):
            failed = self.tags(daemon, *command, "localhost/nothing", check=False)
            self.assertEqual((failed.returncode, failed.stdout), (1, ""))
            self.assertRegex(failed.stderr, "^lamina: .*localhost/nothing.*\n$")
        refused = self.tags(daemon, "ls", self.name + "@sha256:" + "0" * 64, check=False)
        self.assertRegex(refused.stderr, "^lamina: .*give NAME or NAME:TAG\n$")


class TagHistoryTest(TagsCase):
    def test_history_has_every_digest_that_a_tag_was_seen_at(self):
        """[S40] With a daemon and without one, the oldest first, and a moved tag is marked and logged."""
        digests = [self.push("v1", b"1\n")]
        daemon = self.lamina("--tag-ttl", "600")
        daemon.command("resolve", self.name + ":v1")
        self.assertFalse(self.listed(daemon)["v1"]["moved"])
        for content in (b"2\n", b"3\n"):
            digests.append(self.push("v1", content))
            self.tags(daemon, "refresh", self.name + ":v1")
        rows = self.history(daemon, self.name + ":v1")
        self.assertEqual([row["digest"] for row in rows], digests)
        self.assertEqual({row["origin"] for row in rows}, {"http://" + self.proxy.host})
        for row in rows:
            self.assertLessEqual(row["first_seen"], row["seen"])
        self.assertTrue(self.listed(daemon)["v1"]["moved"])
        self.assertIn(f"tag {self.name}:v1 moved to {digests[2]}", read(daemon.path(".lamina/log")).decode())
        daemon.stop()
        self.assertEqual(self.history(daemon, self.name), rows)
        self.assertIn(digests[0], self.tags(daemon, "history", self.name).stdout)


class AskingTest(TagsCase):
    def requests(self):
        return [(record.method, record.path.rsplit("/", 1)[1]) for record in self.proxy.records("/manifests/")]

    def test_a_tag_that_has_not_moved_transfers_no_document(self):
        """[S41] Nor after a restart; one that has moved is read anew."""
        digest = self.push("v1")
        daemon = self.lamina("--tag-ttl", "0")
        wanted = f"{self.name}@{digest}\n"
        self.assertEqual(daemon.command("resolve", self.name + ":v1").stdout, wanted)
        self.assertIn(("GET", "v1"), self.requests())
        for _ in range(2):
            self.proxy.forget()
            self.assertEqual(daemon.command("resolve", self.name + ":v1").stdout, wanted)
            self.assertEqual(self.requests(), [("HEAD", "v1")])
            self.assertEqual(sum(record.sent for record in self.proxy.records()), 0)
            daemon.restart()
        moved = self.push("v1", b"moved\n")
        self.proxy.forget()
        self.assertEqual(daemon.command("resolve", self.name + ":v1").stdout, f"{self.name}@{moved}\n")
        self.assertEqual(self.requests(), [("HEAD", "v1"), ("GET", "v1")])

    def test_refresh_asks_at_once_and_the_tree_shows_it(self):
        """[S42]"""
        first = self.push("v1", b"1\n")
        daemon = self.lamina("--tag-ttl", "600", "--negative-ttl", "600")
        repository = daemon.path(canonical_host(self.proxy.host), "app")
        self.assertEqual(os.readlink(repository + "/v1"), path_name(first))
        self.assertFalse(os.path.lexists(repository + "/v2"))
        moved, new = self.push("v1", b"2\n"), self.push("v2", b"3\n")
        self.assertEqual(os.readlink(repository + "/v1"), path_name(first))
        self.assertFalse(os.path.lexists(repository + "/v2"))
        rows = json.loads(self.tags(daemon, "refresh", "--json", self.name).stdout)["tags"]
        self.assertEqual([(row["tag"], row["digest"], row["moved"]) for row in rows], [("v1", moved, True)])
        self.tags(daemon, "refresh", self.name + ":v2")
        wait_until(lambda: os.readlink(repository + "/v1") == path_name(moved), "the moved tag")
        wait_until(lambda: os.path.lexists(repository + "/v2"), "the new tag")
        self.assertEqual(os.readlink(repository + "/v2"), path_name(new))
        self.assertIn("v2", os.listdir(repository))
        missing = self.tags(daemon, "refresh", self.name + ":nosuchtag", check=False)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("nosuchtag", missing.stderr)

    def test_refresh_of_a_registry_that_is_away_says_so(self):
        """[S8]"""
        self.push("v1")
        daemon = self.lamina()
        daemon.command("resolve", self.name + ":v1")
        self.proxy.fail("", refuse=True)
        row = json.loads(self.tags(daemon, "refresh", "--json", self.name + ":v1").stdout)["tags"][0]
        self.assertTrue(row["stale"])
        self.assertTrue(row["reason"])
        self.assertEqual(self.tags(daemon, "refresh", self.name, check=False).returncode, 1)

    def test_times_to_live_are_each_registrys_own(self):
        """[S43] Of tags and of what is not there, by the config file or the command line."""
        self.push("v1")
        other = Proxy(self.server.host)
        self.addCleanup(other.stop)
        config = self.folder + "/lamina.toml"
        with open(config, "w", encoding="utf-8") as stream:
            stream.write(f"""
                tag-ttl = 600
                negative-ttl = 600
                [registry."{self.proxy.host}"]
                tag-ttl = 0
                negative-ttl = 0
            """)
        by_options = ["--tag-ttl", "600", "--negative-ttl", "600", f"--registry-tag-ttl={self.proxy.host}=0",
                      f"--registry-negative-ttl={self.proxy.host}=0"]
        for number, options in enumerate((["--config", config], by_options)):
            daemon = self.lamina(*options, name=f"ttl{number}")
            for proxy, asked in ((self.proxy, True), (other, False)):
                for tag in ("v1", "nosuchtag"):
                    daemon.command("resolve", f"{proxy.host}/app:{tag}", check=False)
                    proxy.forget()
                    daemon.command("resolve", f"{proxy.host}/app:{tag}", check=False)
                    self.assertEqual(bool(proxy.records("/manifests/" + tag)), asked, (proxy.host, tag))

    def test_a_time_to_live_that_is_none_is_wrong_usage(self):
        daemon = self.lamina(start=False)
        for text in ("docker.io", "docker.io=x", "=5", "docker.io=-1", "no host=5"):
            refused = daemon.command("ls", "--registry-tag-ttl", text, check=False)
            self.assertEqual(refused.returncode, 2, text)
        config = self.folder + "/lamina.toml"
        for text in ('[registry."docker.io"]\ncolour = 1', '[registry]\ntag-ttl = 1', '[registry."a b"]\ntag-ttl = 1'):
            with open(config, "w", encoding="utf-8") as stream:
                stream.write(text)
            refused = daemon.command("ls", "--config", config, check=False)
            self.assertEqual(refused.returncode, 2, text)
            self.assertRegex(refused.stderr, f"^lamina: {config}: .*\n$")
