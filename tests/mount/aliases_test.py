"""Local names of images: by command, by link, through a restart, between machines."""

import errno
import json
import os
import stat

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, path_name, read, run, wait_until

NOWHERE = "sha256:" + "0" * 64


class AliasCase(MountCase):
    """localhost/app with v1 and v2, localhost/team/other with w1."""

    options = ()

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.digests = {tag: small.make(self.layout, tag, {"file": tag.encode()})["digest"] for tag in ("v1", "v2")}
        self.other = Layout(self.folder + "/other")
        self.digests["w1"] = small.make(self.other, "w1", {"file": b"w1"})["digest"]
        self.daemon = self.new_daemon()

    def new_daemon(self, name="lamina", start=True):
        daemon = self.lamina(*self.options, name=name, start=start)
        daemon.command("add", f"oci:{self.layout.path}", "--as", "app")
        daemon.command("add", f"oci:{self.other.path}", "--as", "team/other")
        return daemon

    def alias(self, *arguments, check=True):
        return self.daemon.command("alias", *arguments, check=check)

    def path(self, name, repository="localhost/app"):
        return self.daemon.path(repository, name)

    def resolve(self, name):
        return self.daemon.command("resolve", name).stdout.strip()

    def refused(self, *arguments, why):
        done = self.alias(*arguments, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""), arguments)
        self.assertRegex(done.stderr, rf"^lamina: .*{why}.*\n$", arguments)


class CommandTest(AliasCase):
    def test_an_alias_is_a_link_that_follows_its_tag(self):
        """[S44] readlink, lamina and a second start see the same alias."""
        self.assertFalse(os.path.lexists(self.path("stable")))  # the kernel holds that it is not there
        self.alias("localhost/app:stable", "v1")

        def check(tag):
            self.assertEqual(os.readlink(self.path("stable")), "v1")
            self.assertEqual(os.path.realpath(self.path("stable")), self.path(path_name(self.digests[tag])))
            self.assertEqual(self.resolve("localhost/app:stable"), "localhost/app@" + self.digests[tag])
            self.assertIn("stable", os.listdir(self.path("")))
            self.assertEqual(os.readlink(self.daemon.path("localhost/app:stable")), "app/stable")

        check("v1")
        self.daemon.restart()
        check("v1")
        self.daemon.stop()
        self.assertEqual(self.resolve("localhost/app:stable"), "localhost/app@" + self.digests["v1"])
        self.daemon.start()
        self.alias("localhost/app:stable", "v2")
        wait_until(lambda: os.readlink(self.path("stable")) == "v2", "the alias that leads elsewhere now")
        self.assertEqual(read(self.path("stable/rootfs/file")), b"v2")
        self.alias("--rm", "localhost/app:stable")
        wait_until(lambda: not os.path.lexists(self.path("stable")), "the alias to go")

    def test_an_alias_follows_a_tag_that_moves(self):
        """[S44]"""
        self.alias("localhost/app:stable", "v1")
        self.assertEqual(self.resolve("localhost/app:stable"), "localhost/app@" + self.digests["v1"])
        moved = small.make(self.layout, "v1", {"file": b"moved"})["digest"]
        self.daemon.command("tags", "refresh", "localhost/app:stable")
        self.assertEqual(self.resolve("localhost/app:stable"), "localhost/app@" + moved)
        wait_until(lambda: read(self.path("stable/rootfs/file")) == b"moved", "what the tag is now")

    def test_an_alias_to_a_digest_is_a_pin(self):
        """[S45] It stays where its tag moves away, and the store marks its image."""
        pin = self.digests["v1"]
        for number, target in enumerate((pin, path_name(pin), "localhost/app@" + pin)):
            self.alias(f"localhost/app:pin{number}", target)
            self.assertEqual(os.readlink(self.path(f"pin{number}")), path_name(pin))
        small.make(self.layout, "v1", {"file": b"moved"})
        self.daemon.command("tags", "refresh", "localhost/app:v1")
        self.assertEqual(self.resolve("localhost/app:pin0"), "localhost/app@" + pin)
        self.assertEqual(read(self.path("pin0/rootfs/file")), b"v1")
        self.daemon.stop()
        self.assertEqual(self.resolve("localhost/app:pin1"), "localhost/app@" + pin)

    def test_an_alias_may_lead_to_another_repository(self):
        """[S44] By a relative link; the image is that repository's."""
        self.alias("localhost/app:far", "localhost/team/other:w1")
        self.alias("localhost/team/other:back", "localhost/app:v2")
        self.alias("127.0.0.1:5000/some/thing:here", "localhost/app@" + self.digests["v1"])
        self.assertEqual(os.readlink(self.path("far")), "../team/other/w1")
        self.assertEqual(read(self.path("far/rootfs/file")), b"w1")
        self.assertEqual(self.resolve("localhost/app:far"), "localhost/team/other@" + self.digests["w1"])
        self.assertEqual(os.readlink(self.path("back", "localhost/team/other")), "../../app/v2")
        self.assertEqual(read(self.path("back/rootfs/file", "localhost/team/other")), b"v2")
        self.assertEqual(read(self.daemon.path("127.0.0.1:5000/some/thing/here/rootfs/file")), b"v1")
        self.assertEqual(self.daemon.command("inspect", "--json", "localhost/app:far").returncode, 0)
        self.assertIn("wholly local", self.daemon.command("fetch", "localhost/app:far").stdout)

    def test_a_chain_is_followed_and_a_circle_refused(self):
        """[S46] At creation, with an error that names the alias."""
        self.alias("localhost/app:a0", "v1")
        for number in range(1, 16):
            self.alias(f"localhost/app:a{number}", f"a{number - 1}")
        self.assertEqual(self.resolve("localhost/app:a15"), "localhost/app@" + self.digests["v1"])
        self.assertEqual(read(self.path("a15/rootfs/file")), b"v1")
        self.alias("localhost/app:a16", "a15")
        self.refused("localhost/app:a17", "a16", why="localhost/app:a17 .*circle or over more than 16")
        self.refused("localhost/app:self", "self", why="localhost/app:self .*circle")
        self.alias("localhost/team/other:there", "localhost/app:a1")
        self.refused("localhost/app:a0", "localhost/team/other:there", why="localhost/app:a0 .*circle")
        self.assertEqual(self.resolve("localhost/app:a0"), "localhost/app@" + self.digests["v1"])

    def test_what_cannot_be_an_alias_is_refused(self):
        nested = Layout(self.folder + "/nested")
        small.make(nested, "v1", {"file": b"x"})
        self.daemon.command("add", f"oci:{nested.path}", "--as", "app/deeper")
        self.refused("localhost/app", "v1", why="give NAME:ALIAS")
        self.refused("localhost/app:deeper", "v1", why="a folder of repositories has this name")
        self.refused("localhost/app:" + path_name(NOWHERE), "v1", why="its name is no tag")
        self.refused("localhost/app:x", "no target", why="no target")
        self.refused("localhost/app:x", "sha256:12", why="sha256:12")
        self.refused("--rm", "localhost/app:v1", why="localhost/app:v1 is no alias")
        self.assertEqual(self.alias("--rm", check=False).returncode, 2)

    def test_an_alias_wins_over_the_tag_of_the_same_name_and_says_so(self):
        """[S47]"""
        self.alias("localhost/app:v1", "v2")
        self.assertEqual(os.readlink(self.path("v1")), "v2")
        self.assertEqual(self.resolve("localhost/app:v1"), "localhost/app@" + self.digests["v2"])
        rows = json.loads(self.daemon.command("tags", "ls", "--json", "localhost/app").stdout)["tags"]
        row = next(row for row in rows if row["tag"] == "v1")
        self.assertEqual((row["alias"], row["digest"]), ("localhost/app:v2", self.digests["v2"]))
        self.assertRegex(self.daemon.command("tags", "ls", "localhost/app").stdout, "v1 .*alias.* -> localhost/app:v2\n")
        status = json.loads(read(self.path("v1/status.json")))
        self.assertEqual(status["aliases"], ["localhost/app:v1"])
        self.alias("--rm", "localhost/app:v1")
        wait_until(lambda: os.readlink(self.path("v1")) == path_name(self.digests["v1"]), "the tag again")
        self.assertEqual(json.loads(read(self.path("v2/status.json")))["aliases"], [])

    def test_a_target_that_is_not_there_yet_is_an_error_when_it_is_used(self):
        self.alias("localhost/app:later", "v3")
        failed = self.daemon.command("resolve", "localhost/app:later", check=False)
        self.assertRegex(failed.stderr, "^lamina: localhost/app:later is an alias: .*v3.*\n$")
        self.assertEqual(os.readlink(self.path("later")), "v3")
        self.assertFalse(os.path.exists(self.path("later")))
        self.alias("localhost/app:gone", NOWHERE)
        self.assertFalse(os.path.exists(self.path("gone")))

    def test_an_alias_may_be_of_one_platform(self):
        variants = {name: small.make(self.layout, None, {"arch": name.encode()}, architecture=name)
                    for name in ("amd64", "riscv64")}
        self.layout.tag(self.layout.put_index([(descriptor, {"architecture": name, "os": "linux"})
                                               for name, descriptor in variants.items()]), "multi")
        self.daemon.command("add", f"oci:{self.layout.path}", "--as", "app")
        self.alias("--platform", "linux/riscv64", "localhost/app:odd", "multi")
        wanted = variants["riscv64"]["digest"]
        self.assertEqual(self.resolve("localhost/app:odd"), "localhost/app@" + wanted)
        self.assertEqual(os.readlink(self.path("odd")), path_name(wanted))
        self.assertEqual(read(self.path("odd/rootfs/arch")), b"riscv64")
        self.daemon.restart()
        self.assertEqual(os.readlink(self.path("odd")), path_name(wanted))
        self.assertIn("for linux/riscv64", self.alias().stdout)

    def test_commands_answer_without_a_daemon_and_with_one(self):
        self.daemon.stop()
        self.alias("localhost/app:stable", "v1")
        alone = self.alias().stdout
        self.assertRegex(alone, rf"^localhost/app:stable +{self.digests['v1'][:19]} +localhost/app:v1\n$")
        self.daemon.start()
        self.assertEqual(self.alias().stdout, alone)
        self.assertEqual(self.alias("localhost/app").stdout, alone)
        self.assertEqual(self.alias("localhost/team/other").stdout, "")
        self.assertEqual(os.readlink(self.path("stable")), "v1")

    def test_a_registry_is_followed_and_its_folder_reached(self):
        server = self.registry()
        digest = server.push(self.layout.path, "v1", "team/app")
        name = server.host + "/team/app"
        self.alias(name + ":prod", "v1")
        self.alias("localhost/app:remote", name + ":v1")
        self.assertEqual(read(self.daemon.path(server.host, "team/app/prod/rootfs/file")), b"v1")
        self.assertEqual(os.readlink(self.path("remote")), f"../../{canonical_host(server.host)}/team/app/v1")
        self.assertEqual(read(self.path("remote/rootfs/file")), b"v1")
        self.assertEqual(self.resolve(name + ":prod"), f"{name}@{digest}")


class MoveTest(AliasCase):
    """--export and --import"""

    def document(self):
        path = self.folder + "/aliases.json"
        self.alias("--export", path)
        with open(path, encoding="utf-8") as stream:
            return path, json.load(stream)

    def test_a_set_moves_to_another_machine(self):
        """[S48]"""
        self.alias("localhost/app:stable", "v1")
        self.alias("localhost/app:pin", self.digests["v2"])
        self.alias("--platform", "linux/arm64", "localhost/team/other:far", "localhost/app:v2")
        path, document = self.document()
        self.assertEqual(document, {"version": 1, "repositories": {
            "localhost/app": {
                "aliases": {"pin": {"target": self.digests["v2"]}, "stable": {"target": "v1"}},
                "tags": {tag: self.digests[tag] for tag in ("v1", "v2")}},
            "localhost/team/other": {
                "aliases": {"far": {"target": "localhost/app:v2", "platform": "linux/arm64"}}}}})
        second = self.lamina(name="second", start=False)
        second.command("alias", "--import", path)
        second.start()
        # The tag is known from the document, though no source of this machine has it.
        self.assertEqual(os.readlink(second.path("localhost/app/stable")), "v1")
        self.assertEqual([row["digest"] for row in json.loads(
            second.command("tags", "history", "--json", "localhost/app:v1").stdout)["history"]], [self.digests["v1"]])
        exported = self.folder + "/again.json"
        second.command("alias", "--export", exported)
        self.assertEqual(read(exported), read(path))

    def test_an_import_that_is_wrong_somewhere_changes_nothing(self):
        """[S48]"""
        self.alias("localhost/app:stable", "v1")
        before = self.alias("--json").stdout
        path, document = self.document()
        fine = {"target": "v2"}
        wrong = {
            "version": dict(document, version=2),
            "colour": dict(document, colour=1),
            "no/registry": {"version": 1, "repositories": {"no/registry": {"aliases": {"x": fine}}}},
            "UPPER": {"version": 1, "repositories": {"localhost/UPPER": {"aliases": {"x": fine}}}},
            "circle": {"version": 1, "repositories": {"localhost/app": {"aliases": {
                "new": fine, "a": {"target": "b"}, "b": {"target": "a"}}}}},
            "no target": {"version": 1, "repositories": {"localhost/app": {"aliases": {
                "new": fine, "x": {"target": "no target"}}}}},
            "platform": {"version": 1, "repositories": {"localhost/app": {"aliases": {
                "new": fine, "x": {"target": "v1", "platform": "a/b/c/d/e"}}}}},
            "sha256:1": {"version": 1, "repositories": {"localhost/app": {"aliases": {"new": fine},
                                                                         "tags": {"v1": "sha256:1"}}}},
        }
        for reason, bad in wrong.items():
            with open(path, "w", encoding="utf-8") as stream:
                json.dump(bad, stream)
            self.refused("--import", path, why=reason)
            self.assertEqual(self.alias("--json").stdout, before, reason)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("{")
        self.refused("--import", path, why="aliases")
        self.refused("--import", self.folder + "/nosuchfile", why="nosuchfile")
        self.assertEqual(self.alias("--json").stdout, before)


class LinkTest(AliasCase):
    """`ln -s` and `rm` in a mount with --link-aliases."""

    options = ("--link-aliases",)

    def fails(self, number, work, *arguments):
        with self.assertRaises(OSError, msg=arguments) as caught:
            work(*arguments)
        self.assertEqual(caught.exception.errno, number, (errno.errorcode.get(caught.exception.errno), arguments))

    def test_a_link_is_an_alias(self):
        """[S49] ln -s and rm; the command and a second start see it."""
        run("ln", "-s", "v1", self.path("prod"))
        self.assertEqual(os.readlink(self.path("prod")), "v1")
        self.assertEqual(read(self.path("prod/rootfs/file")), b"v1")
        self.assertEqual(self.resolve("localhost/app:prod"), "localhost/app@" + self.digests["v1"])
        run("ln", "-s", self.digests["v2"], self.path("pin"))
        self.assertEqual(os.readlink(self.path("pin")), path_name(self.digests["v2"]))
        self.daemon.restart()
        self.assertEqual(os.readlink(self.path("prod")), "v1")
        self.assertIn("prod", os.listdir(self.path("")))
        run("rm", self.path("prod"))
        self.assertFalse(os.path.lexists(self.path("prod")))
        self.assertNotIn("prod", os.listdir(self.path("")))
        self.assertEqual(self.daemon.command("resolve", "localhost/app:prod", check=False).returncode, 1)
        run("ln", "-s", "v2", self.path("prod"))
        self.assertEqual(read(self.path("prod/rootfs/file")), b"v2")
        self.alias("--rm", "localhost/app:pin")
        wait_until(lambda: not os.path.lexists(self.path("pin")), "the alias to go")

    def test_a_link_may_lead_to_another_repository_and_be_replaced(self):
        """[S49]"""
        run("ln", "-s", "../team/other/w1", self.path("far"))
        self.assertEqual(read(self.path("far/rootfs/file")), b"w1")
        os.symlink("../../localhost/team/other:w1", self.path("colon"))
        self.assertEqual(os.readlink(self.path("colon")), "../team/other/w1")
        run("ln", "-sfn", "v2", self.path("far"))
        self.assertEqual(read(self.path("far/rootfs/file")), b"v2")
        run("mv", "-T", self.path("far"), self.path("near"))
        self.assertEqual(os.readlink(self.path("near")), "v2")
        self.assertFalse(os.path.lexists(self.path("far")))
        self.assertEqual(sorted(row["alias"] for row in json.loads(self.alias("--json").stdout)["aliases"]),
                         ["colon", "near"])

    def test_what_cannot_be_an_alias_is_an_honest_errno(self):
        for target in ("no target", "/absolute", "../../..", "..", ".", "rootfs/etc", "a:b:c", "../UPPER/v1",
                       "../../docker.io/single"):
            self.fails(errno.EINVAL, os.symlink, target, self.path("x"))
        self.fails(errno.EINVAL, os.symlink, "v1", self.path("no name"))
        self.fails(errno.ELOOP, os.symlink, "x", self.path("x"))
        self.fails(errno.EEXIST, os.symlink, "v2", self.path("v1"))
        self.fails(errno.EROFS, os.unlink, self.path("v1"))
        self.fails(errno.EROFS, os.rename, self.path("v1"), self.path("v9"))
        os.symlink("v1", self.path("alias"))
        self.fails(errno.EROFS, os.rename, self.path("alias"), self.path("alias", "localhost/team/other"))
        for folder in ("", "localhost", "localhost/team", ".lamina", "localhost/app/v1", "localhost/app/v1/rootfs"):
            self.fails(errno.EROFS, os.symlink, "v1", self.daemon.path(folder, "x"))

    def test_all_else_stays_read_only(self):
        """[S11] The kernel takes this mount for writable; lamina refuses, and no page can be written to."""
        image = os.path.realpath(self.path("v1"))
        path = image + "/rootfs/file"
        attempts = {
            "open": lambda: os.open(path, os.O_WRONLY), "append": lambda: os.open(path, os.O_RDWR | os.O_APPEND),
            "create": lambda: os.open(image + "/rootfs/new", os.O_CREAT | os.O_WRONLY),
            "mkdir": lambda: os.mkdir(self.path("new")), "unlink": lambda: os.unlink(path),
            "rename": lambda: os.rename(path, path + "2"), "chmod": lambda: os.chmod(path, 0o777),
            "chown": lambda: os.chown(path, 1, 1), "truncate": lambda: os.truncate(path, 0),
            "utime": lambda: os.utime(path, (1, 1)), "link": lambda: os.link(path, path + "2"),
            "setxattr": lambda: os.setxattr(path, "user.x", b"1"), "mknod": lambda: os.mknod(self.path("new")),
            "rmdir": lambda: os.rmdir(image),
        }
        for name, attempt in attempts.items():
            with self.assertRaises(OSError, msg=name) as caught:
                attempt()
            self.assertIn(caught.exception.errno, (errno.EROFS, errno.ENOTEMPTY), name)
        self.assertEqual(read(path), b"v1")

    def test_another_user_changes_nothing(self):
        """[S49]"""
        os.symlink("v1", self.path("prod"))
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self.assertNotEqual(run(*user, "ln", "-s", "v1", self.path("x"), check=False).returncode, 0)
        self.assertNotEqual(run(*user, "rm", "-f", self.path("prod"), check=False).returncode, 0)
        self.assertEqual(run(*user, "cat", self.path("prod/rootfs/file")).stdout, "v1")
        self.assertEqual(os.readlink(self.path("prod")), "v1")
        self.assertEqual(stat.S_IMODE(os.stat(self.path("")).st_mode), 0o755)


class ReadOnlyTest(AliasCase):
    def test_a_mount_takes_no_links_unless_told_to(self):
        """[S49]"""
        self.alias("localhost/app:stable", "v1")
        for work in (lambda: os.symlink("v1", self.path("x")), lambda: os.unlink(self.path("stable"))):
            with self.assertRaises(OSError) as caught:
                work()
            self.assertEqual(caught.exception.errno, errno.EROFS)
        self.assertFalse(os.path.lexists(self.path("x")))
        self.assertEqual(os.readlink(self.path("stable")), "v1")
