"""The names that users see: tags, digests, canonical paths, documents, platforms; and what the kernel is told of them."""

import errno
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, lamina_binary, path_name, read, run, wait_until


class LocalNamesTest(MountCase):
    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.descriptor = small.make(self.layout, "v1", {"etc/one": b"1\n"}, {"etc/two": b"2\n"})
        self.daemon = self.lamina()
        self.daemon.command("add", f"oci:{self.layout.path}", "--as", "team/app")
        self.repository = self.daemon.path("localhost/team/app")
        self.image = f"{self.repository}/{path_name(self.descriptor['digest'])}"

    def test_a_tag_is_a_link_to_the_image_beside_it(self):
        """[S2] readlink resolves a tag."""
        self.assertEqual(os.readlink(self.repository + "/v1"), path_name(self.descriptor["digest"]))
        self.assertEqual(read(self.repository + "/v1/rootfs/etc/two"), b"2\n")

    def test_digests_as_users_write_them_are_links_to_the_canonical_folder(self):
        """[S3]"""
        digest = self.descriptor["digest"]
        self.assertEqual(os.readlink(f"{self.repository}/{digest}"), path_name(digest))
        self.assertEqual(read(f"{self.repository}/{digest}/rootfs/etc/one"), b"1\n")

    def test_no_canonical_path_has_a_colon(self):
        """[S1]"""
        for name in ("v1", self.descriptor["digest"]):
            real = os.path.realpath(f"{self.repository}/{name}/rootfs/etc/one")
            self.assertEqual(real, self.image + "/rootfs/etc/one")
            self.assertNotIn(":", real)

    def test_manifest_and_config_are_the_bytes_that_their_digests_name(self):
        """[S10]"""
        manifest = read(self.image + "/manifest.json")
        self.assertEqual("sha256:" + hashlib.sha256(manifest).hexdigest(), self.descriptor["digest"])
        config = json.loads(manifest)["config"]
        self.assertEqual("sha256:" + hashlib.sha256(read(self.image + "/config.json")).hexdigest(), config["digest"])

    def test_an_image_folder_holds_what_design_says(self):
        self.assertEqual(sorted(os.listdir(self.image)),
                         ["config.json", "layers", "manifest.json", "rootfs", "status.json"])
        self.assertEqual(sorted(os.listdir(self.image + "/layers")), ["0", "1", "top"])
        self.assertEqual(read(self.image + "/layers/0/etc/one"), b"1\n")
        self.assertFalse(os.path.exists(self.image + "/layers/0/etc/two"))
        self.assertFalse(os.path.exists(self.image + "/layers/2"))

    def test_status_tells_the_source_and_the_layers(self):
        os.listdir(self.image + "/rootfs")
        status = json.loads(read(self.image + "/status.json"))
        self.assertEqual(status["digest"], self.descriptor["digest"])
        self.assertIn(self.layout.path, json.dumps(status))
        self.assertEqual([layer["digest"] for layer in status["layers"]],
                         small.layer_digests(self.layout, self.descriptor))
        self.assertIsNone(status["last_error"])

    def test_unknown_names_do_not_exist(self):
        """[S4] A repository that lacks the tag gives ENOENT."""
        for name in ("nosuchtag", "sha256-" + "0" * 64, "sha256:" + "0" * 64, "UPPER"):
            with self.assertRaises(FileNotFoundError, msg=name):
                os.lstat(f"{self.repository}/{name}")
        with self.assertRaises(FileNotFoundError):
            os.lstat(self.daemon.path("localhost/nothing/here"))

    def test_a_folder_lists_what_is_known_below_it(self):
        self.assertIn("localhost", os.listdir(self.daemon.mountpoint))
        self.assertIn(".lamina", os.listdir(self.daemon.mountpoint))
        self.assertEqual(os.listdir(self.daemon.path("localhost")), ["team"])
        self.assertEqual(os.listdir(self.daemon.path("localhost/team")), ["app"])
        self.assertIn("v1", os.listdir(self.repository))
        self.assertIn(path_name(self.descriptor["digest"]), os.listdir(self.repository))

    def test_a_new_tag_in_a_layout_shows_while_it_is_mounted(self):
        second = small.make(self.layout, "v2", {"etc/one": b"new\n"})
        self.daemon.command("add", f"oci:{self.layout.path}", "--as", "team/app")
        wait_until(lambda: os.path.exists(self.repository + "/v2"), "the new tag")
        self.assertEqual(os.readlink(self.repository + "/v2"), path_name(second["digest"]))

    def test_inode_numbers_survive_a_restart(self):
        """[S13]"""
        names = [self.image + "/rootfs" + name for name in ("", "/etc", "/etc/one", "/etc/two")]
        before = [os.stat(name).st_ino for name in names]
        self.assertEqual(len(set(before)), len(names))
        self.daemon.restart()
        self.assertEqual([os.stat(name).st_ino for name in names], before)

    def test_writing_is_refused_as_on_a_read_only_file_system(self):
        """[S11]"""
        path = self.image + "/rootfs/etc/one"
        attempts = {
            "open": lambda: os.open(path, os.O_WRONLY),
            "create": lambda: os.open(self.image + "/rootfs/new", os.O_CREAT | os.O_WRONLY),
            "mkdir": lambda: os.mkdir(self.image + "/rootfs/new"),
            "unlink": lambda: os.unlink(path),
            "rename": lambda: os.rename(path, path + "2"),
            "chmod": lambda: os.chmod(path, 0o777),
            "chown": lambda: os.chown(path, 1, 1),
            "truncate": lambda: os.truncate(path, 0),
            "utime": lambda: os.utime(path, (1, 1)),
            "link": lambda: os.link(path, path + "2"),
            "symlink": lambda: os.symlink("x", self.image + "/rootfs/new"),
            "setxattr": lambda: os.setxattr(path, "user.x", b"1"),
            "mknod": lambda: os.mknod(self.image + "/rootfs/new"),
        }
        for name, attempt in attempts.items():
            with self.assertRaises(OSError, msg=name) as caught:
                attempt()
            self.assertEqual(caught.exception.errno, errno.EROFS, name)

    def test_the_mount_has_its_flags(self):
        """[S11] read-only, nosuid, nodev, and the kernel checks permissions."""
        with open("/proc/self/mountinfo", encoding="utf-8") as stream:
            line = next(line for line in stream if f" {self.daemon.mountpoint} " in line)
        own, _, rest = line.partition(" - ")
        flags = own.split()[5].split(",")
        self.assertLessEqual({"ro", "nosuid", "nodev"}, set(flags))
        self.assertLessEqual({"default_permissions", "allow_other"}, set(rest.split()[2].split(",")))

    def test_another_user_reads_what_modes_allow(self):
        """[S11]"""
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", self.image + "/rootfs/etc/one")
        self.assertEqual(done.stdout, "1\n")

    def test_what_was_read_once_is_answered_by_the_kernel(self):
        """[S12] A second walk sends no lookup, getattr or readdir to the daemon, a second read no read."""
        rootfs = os.open(self.image + "/rootfs", os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, rootfs)

        def walk():
            seen = 0
            for _, _, files, folder in os.fwalk(".", dir_fd=rootfs):
                for name in files:
                    os.stat(name, dir_fd=folder)
                    with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as stream:
                        stream.read()
                    seen += 1
            return seen

        self.assertEqual(walk(), 2)
        start = self.daemon.messages()
        calibrated = self.daemon.messages()  # what reading the counters itself costs
        walk()
        after = self.daemon.messages()
        for operation in ("lookup", "getattr", "readdir", "readdirplus", "readlink", "read"):
            own = calibrated.get(operation, 0) - start.get(operation, 0)
            walked = after.get(operation, 0) - calibrated.get(operation, 0)
            self.assertLessEqual(walked, own, f"{operation} was sent to the daemon again")

    def test_the_daemon_tells_of_itself(self):
        self.assertRegex(read(self.daemon.path(".lamina/version")).decode(), r"\d+\.\d+")
        self.assertIn("lamina", read(self.daemon.path(".lamina/log")).decode())
        self.assertIn("lookup", self.daemon.messages())


class RegistryNamesTest(MountCase):
    def setUp(self):
        super().setUp()
        self.server = self.registry()
        self.layout = Layout(self.folder + "/layout")
        self.daemon = self.lamina("--tag-ttl", "1")

    def push(self, tag, name, files):
        descriptor = small.make(self.layout, tag, files)
        self.server.push(self.layout.path, tag, name)
        return descriptor

    def test_a_registry_is_reached_by_both_its_names(self):
        """[S3] HOST:PORT is a link to HOST_PORT_."""
        self.push("v1", "team/app", {"file": b"of a registry\n"})
        host = self.server.host
        self.assertEqual(os.readlink(self.daemon.path(host)), canonical_host(host))
        path = self.daemon.path(host, "team/app/v1/rootfs/file")
        self.assertEqual(read(path), b"of a registry\n")
        self.assertNotIn(":", os.path.realpath(path))

    def test_a_name_needs_no_listing(self):
        """[S5] The very first access to a deep path works; afterwards the repository lists its tags."""
        self.push("v1", "a/b/c", {"file": b"deep\n"})
        self.push("v2", "a/b/c", {"file": b"deeper\n"})
        repository = self.daemon.path(canonical_host(self.server.host), "a/b/c")
        self.assertEqual(read(repository + "/v1/rootfs/file"), b"deep\n")
        self.assertLessEqual({"v1", "v2"}, set(os.listdir(repository)))

    def test_names_nest(self):
        self.push("v1", "a/b", {"file": b"a/b\n"})
        self.push("v1", "a/b/c", {"file": b"a/b/c\n"})
        top = self.daemon.path(canonical_host(self.server.host))
        self.assertEqual(read(top + "/a/b/v1/rootfs/file"), b"a/b\n")
        self.assertEqual(read(top + "/a/b/c/v1/rootfs/file"), b"a/b/c\n")

    def test_a_tag_that_a_repository_lacks_does_not_exist(self):
        """[S4]"""
        self.push("v1", "app", {"file": b"x"})
        with self.assertRaises(FileNotFoundError):
            os.lstat(self.daemon.path(canonical_host(self.server.host), "app/v9"))

    def test_a_local_name_wins_over_the_registry(self):
        """[S6]"""
        self.push("v1", "app", {"file": b"of the registry\n"})
        repository = self.daemon.path(canonical_host(self.server.host), "app")
        self.assertEqual(read(repository + "/v1/rootfs/file"), b"of the registry\n")
        local = Layout(self.folder + "/local")
        small.make(local, "v1", {"file": b"local\n"})
        self.daemon.command("add", f"oci:{local.path}:v1", "--as", self.server.host + "/app")
        wait_until(lambda: read(repository + "/v1/rootfs/file") == b"local\n", "the local name to win")

    def test_listing_what_is_known_asks_no_registry(self):
        self.push("v1", "app", {"file": b"x"})
        self.push("v2", "app", {"file": b"y"})
        daemon = self.lamina("--tag-ttl", "0", name="listing")
        name = self.server.host + "/app"
        daemon.command("resolve", name + ":v1")

        def requests():
            return daemon.metrics()[f'lamina_registry_requests_total{{host="{self.server.host}"}}']
        before = requests()
        self.assertIn(name + ":v1 ", daemon.command("ls").stdout)
        self.assertEqual(requests(), before)
        # One repository is asked for.
        self.assertIn(name + ":v2 ", daemon.command("ls", name).stdout)
        self.assertGreater(requests(), before)

    def test_an_index_shows_its_platforms(self):
        amd64 = small.make(self.layout, None, {"arch": b"amd64\n"}, architecture="amd64")
        arm64 = small.make(self.layout, None, {"arch": b"arm64\n"}, architecture="arm64")
        index = self.layout.put_index([
            (arm64, {"architecture": "arm64", "os": "linux"}),
            (amd64, {"architecture": "amd64", "os": "linux"}),
        ])
        self.layout.tag(index, "multi")
        self.server.push(self.layout.path, "multi", "app")
        repository = self.daemon.path(canonical_host(self.server.host), "app")
        image = f"{repository}/multi"
        self.assertEqual(os.readlink(image), path_name(index["digest"]))
        host = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        self.assertEqual(read(image + "/rootfs/arch").decode().strip(), host)
        self.assertEqual("sha256:" + hashlib.sha256(read(image + "/index.json")).hexdigest(), index["digest"])
        self.assertEqual(sorted(os.listdir(image + "/platforms")), ["linux-amd64", "linux-arm64"])
        for name, descriptor in (("amd64", amd64), ("arm64", arm64)):
            link = f"{image}/platforms/linux-{name}"
            self.assertEqual(os.readlink(link), "../../" + path_name(descriptor["digest"]))
            self.assertEqual(read(link + "/rootfs/arch").decode().strip(), name)

    def test_another_platform_is_chosen_where_asked(self):
        arm64 = small.make(self.layout, None, {"arch": b"arm64\n"}, architecture="arm64")
        amd64 = small.make(self.layout, None, {"arch": b"amd64\n"}, architecture="amd64")
        self.layout.tag(self.layout.put_index([
            (amd64, {"architecture": "amd64", "os": "linux"}),
            (arm64, {"architecture": "arm64", "os": "linux"}),
        ]), "multi")
        daemon = self.lamina("--platform", "linux/arm64", name="other")
        daemon.command("add", f"oci:{self.layout.path}", "--as", "app")
        self.assertEqual(read(daemon.path("localhost/app/multi/rootfs/arch")), b"arm64\n")


def is_running(pid):
    """A process that has ended and is not waited for yet runs no more."""
    try:
        return read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False


class CommandsTest(MountCase):
    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        self.descriptor = small.make(self.layout, "v1", {"file": b"x\n"})
        self.name = "localhost/app"

    def test_commands_answer_without_a_daemon_and_with_one(self):
        daemon = self.lamina(start=False)
        daemon.command("add", f"oci:{self.layout.path}", "--as", "app")
        wanted = f"{self.name}@{self.descriptor['digest']}\n"
        self.assertEqual(daemon.command("resolve", self.name + ":v1").stdout, wanted)
        daemon.start()
        self.assertEqual(daemon.command("resolve", self.name + ":v1").stdout, wanted)
        self.assertEqual(read(daemon.path("localhost/app/v1/rootfs/file")), b"x\n")

    def test_an_error_reads_the_same_with_a_daemon_and_without_one(self):
        daemon = self.lamina(start=False)
        commands = (["resolve", "localhost/nothing:v1"], ["inspect", "localhost/nothing:v1"],
                    ["fetch", "localhost/nothing:v1"], ["add", "oci:/nowhere"])
        alone = [daemon.command(*command, check=False) for command in commands]
        daemon.start()
        for command, before in zip(commands, alone):
            asked = daemon.command(*command, check=False)
            self.assertEqual((asked.returncode, asked.stderr), (1, before.stderr))
            self.assertRegex(asked.stderr, "^lamina: .*no(thing|where)")

    def test_an_option_wins_over_the_environment(self):
        daemon = self.lamina(start=False)  # sets LAMINA_STORE
        given = self.folder + "/given"
        daemon.command("add", "--store", given, f"oci:{self.layout.path}", "--as", "app")
        self.assertTrue(os.path.exists(given + "/lamina.db"))
        self.assertFalse(os.path.exists(daemon.store))

    def test_listing_and_inspection_name_the_image(self):
        daemon = self.lamina()
        daemon.command("add", f"oci:{self.layout.path}", "--as", "app")
        self.assertIn(self.name + ":v1", daemon.command("ls").stdout)
        images = json.loads(daemon.command("ls", "--json").stdout)["images"]
        self.assertEqual([(row["repository"], row["tag"], row["digest"]) for row in images],
                         [(self.name, "v1", self.descriptor["digest"])])
        inspected = json.loads(daemon.command("inspect", "--json", self.name + ":v1").stdout)
        self.assertEqual(inspected["manifest"], self.layout.document(self.descriptor["digest"]))

    def test_fetch_makes_an_image_wholly_local(self):
        daemon = self.lamina()
        daemon.command("add", f"oci:{self.layout.path}", "--as", "app")
        daemon.command("fetch", "--index-only", self.name + ":v1")
        daemon.command("fetch", self.name + ":v1")
        status = json.loads(read(daemon.path("localhost/app/v1/status.json")))
        for layer in status["layers"]:
            self.assertEqual(layer["chunks_local"], layer["chunks"])

    def test_exit_codes_are_as_documented(self):
        daemon = self.lamina(start=False)
        self.assertEqual(daemon.command("version").returncode, 0)
        self.assertEqual(daemon.command("--help").returncode, 0)
        self.assertEqual(daemon.command("nosuchcommand", check=False).returncode, 2)
        self.assertEqual(daemon.command("resolve", check=False).returncode, 2)
        failed = daemon.command("add", "oci:/nowhere", check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr, r"^lamina: .*/nowhere.*\n$")

    def write_config(self, text):
        path = self.folder + "/lamina.toml"
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def test_a_config_file_gives_every_command_its_options(self):
        daemon = self.lamina(start=False)
        there, other = self.folder + "/there", self.folder + "/other"
        config = self.write_config(f"""
            # of all commands
            store = "{there}"
            json = true
            insecure-registry = ["one.example", "two.example"]
            [resolve]
            json = false
            store = "{other}"
            [mount]
            private = true
        """)
        added = daemon.command("add", "--config", config, f"oci:{self.layout.path}", "--as", "app")
        self.assertEqual(json.loads(added.stdout)["added"][0]["tag"], "v1")
        self.assertTrue(os.path.exists(there + "/lamina.db"))
        self.assertFalse(os.path.exists(daemon.store))
        # A section wins over the top of the file, the command line over both.
        self.assertEqual(daemon.command("resolve", "--config", config, self.name + ":v1", check=False).returncode, 1)
        self.assertTrue(os.path.exists(other + "/lamina.db"))
        found = daemon.command("resolve", "--config", config, "--store", there, self.name + ":v1")
        self.assertEqual(found.stdout, f"{self.name}@{self.descriptor['digest']}\n")
        daemon.command("mount", "--config", config, daemon.mountpoint)
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            (line,) = [line for line in mounts if f" {daemon.mountpoint} " in line]
        self.assertNotIn("allow_other", line)
        daemon.command("umount", daemon.mountpoint)

    def test_a_config_file_that_is_wrong_is_wrong_usage(self):
        daemon = self.lamina(start=False)
        for text, reason in {"colour = 1": "colour", "[nosuch]\njson = true": "nosuch", "[ls]\nlazy = true": "lazy",
                             "what is this": "what is this", "tag-ttl = \"soon\"": "tag-ttl",
                             "platform = \"\"": "platform", "config = \"x\"": "config"}.items():
            refused = daemon.command("inspect", "--config", self.write_config(text), self.name, check=False)
            self.assertEqual(refused.returncode, 2, text)
            self.assertRegex(refused.stderr, rf"^lamina: {self.folder}/lamina.toml: .*{reason}.*\n$")
        missing = daemon.command("ls", "--config", self.folder + "/nosuchfile", check=False)
        self.assertEqual(missing.returncode, 2)
        self.assertIn("/nosuchfile", missing.stderr)
        self.assertFalse(os.path.exists(daemon.store))

    def test_wrong_values_are_wrong_usage(self):
        daemon = self.lamina(start=False)
        for command in (["resolve", "--platform", "nonsense", "debian"], ["mount", "--log-level", "bogus"],
                        ["version", "--log-level", "bogus"], ["inspect", "--tag-ttl", "-1", "debian"]):
            refused = daemon.command(*command, check=False)
            self.assertEqual((refused.returncode, refused.stdout), (2, ""), command)
            self.assertIn(command[1], refused.stderr)

    def test_relative_paths_mean_the_folder_of_the_command(self):
        daemon = self.lamina(start=False)
        daemon.environment["LAMINA_STORE"] = "relative"
        os.symlink(self.layout.path, daemon.folder + "/layout")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", "/dev/null",
            "-out", daemon.folder + "/ca.pem")
        daemon.command("mount", "--ca-file", "ca.pem", "images")
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        self.assertTrue(os.path.exists(daemon.folder + "/relative/control.sock"))
        daemon.command("add", "oci:layout", "--as", "app")
        self.assertEqual(read(daemon.path("localhost/app/v1/rootfs/file")), b"x\n")
        # The file is read when a registry is first asked: a path that leads nowhere would be the reason of the error.
        asked = daemon.command("resolve", "127.0.0.1:1/app", check=False)
        self.assertNotIn("ca.pem", asked.stderr)
        daemon.command("umount", "images")

    def test_options_of_a_command_hold_with_a_daemon_too(self):
        variants = {name: small.make(self.layout, None, {"arch": name.encode()}, architecture=name)
                    for name in ("amd64", "riscv64")}
        attestation = small.make(self.layout, None, {"predicate": b"{}"}, architecture="unknown")
        index = self.layout.put_index([(descriptor, {"architecture": name, "os": "linux"})
                                       for name, descriptor in variants.items()] + [
                                           (attestation, {"architecture": "unknown", "os": "unknown"})])
        self.layout.tag(index, "multi")
        daemon = self.lamina(start=False)
        daemon.command("add", f"oci:{self.layout.path}:multi", "--as", "app")
        for _ in ("alone", "with a daemon"):
            for name, descriptor in variants.items():
                options = ["--platform", "linux/" + name, self.name + ":multi"]
                self.assertEqual(daemon.command("resolve", *options).stdout, f"{self.name}@{descriptor['digest']}\n")
                inspected = json.loads(daemon.command("inspect", "--json", *options).stdout)
                self.assertEqual(inspected["config"]["architecture"], name)
                self.assertEqual([(offer["platform"], offer["digest"], offer["chosen"]) for offer in inspected["platforms"]],
                                 [("linux/" + other, of["digest"], other == name) for other, of in variants.items()])
                self.assertIn(descriptor["digest"], daemon.command("fetch", *options).stdout)
            missing = daemon.command("resolve", "--platform", "linux/s390x", self.name + ":multi", check=False)
            self.assertEqual(missing.returncode, 1)
            self.assertIn("linux/s390x", missing.stderr)
            if not daemon.process:
                daemon.start()
        for option in (["--tag-ttl", "1"], ["--insecure-registry", "x.example"], ["--ca-file", "/etc/hostname"]):
            refused = daemon.command("resolve", *option, self.name + ":multi", check=False)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertRegex(refused.stderr, f"^lamina: {option[0]} is up to the daemon .*\n$")

    def test_every_command_helps_with_an_example(self):
        daemon = self.lamina(start=False)
        for command in ("mount", "umount", "add", "ls", "resolve", "inspect", "fetch", "alias", "doctor", "version",
                        "tags", "tags ls", "tags refresh", "tags history"):
            text = daemon.command(*command.split(), "--help").stdout
            self.assertIn("Example", text, command)
            self.assertTrue(re.search(r"lamina " + command, text), command)

    def test_help_tells_apart_what_a_daemon_that_runs_refuses(self):
        daemon = self.lamina(start=False)
        own, without = daemon.command("cache", "stat", "--help").stdout.split("Without a daemon:")
        for option in ("--tag-ttl", "--hosts-dir", "--cache-size", "--connections"):
            self.assertNotIn(option + " ", own)
            self.assertIn(option + " ", without)
        self.assertIn("--store ", own)
        mount = daemon.command("mount", "--help").stdout
        self.assertIn("--tag-ttl ", mount)
        self.assertNotIn("Without a daemon", mount)

    def test_the_version_is_told_as_an_option_and_as_a_command(self):
        daemon = self.lamina(start=False)
        told = daemon.command("--version").stdout
        self.assertRegex(told, r"^lamina [0-9.]+\n$")
        self.assertEqual(daemon.command("version").stdout, told)

    def test_mount_returns_when_the_tree_answers_and_umount_ends_the_daemon(self):
        daemon = self.lamina(start=False)
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        daemon.command("mount", daemon.mountpoint)
        self.assertTrue(os.path.exists(daemon.path(".lamina/version")))
        daemon.command("umount", daemon.mountpoint)
        self.assertEqual(os.listdir(daemon.mountpoint), [])
        # The store is free again: a second daemon starts at once.
        daemon.command("mount", daemon.mountpoint)
        daemon.command("umount", daemon.mountpoint)

    def test_umount_leaves_what_is_not_lamina(self):
        daemon = self.lamina(start=False)
        run("mount", "-t", "tmpfs", "-o", "size=64k", "other", daemon.mountpoint)
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        for options in ([], ["--lazy"]):
            refused = daemon.command("umount", *options, daemon.mountpoint, check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertRegex(refused.stderr, r"^lamina: no lamina is mounted at .*\n$")
            self.assertTrue(os.path.ismount(daemon.mountpoint))

    def test_umount_waits_for_the_daemon_of_the_mount_whatever_store_is_named(self):
        daemon = self.lamina(start=False)
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        daemon.command("mount", daemon.mountpoint)
        pid = int(read(daemon.path(".lamina/process")).split()[0])
        link = self.folder + "/link"
        os.symlink(daemon.mountpoint, link)
        daemon.command("umount", "--store", self.folder + "/another", link)
        self.assertFalse(is_running(pid))
        self.assertFalse(os.path.exists(self.folder + "/another"))

    def test_umount_fails_where_the_daemon_does_not_end(self):
        daemon = self.lamina()
        daemon.process.send_signal(signal.SIGSTOP)
        self.addCleanup(daemon.process.send_signal, signal.SIGCONT)
        failed = daemon.command("umount", "--wait", "1", daemon.mountpoint, check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr, r"^lamina: .*its daemon has.*\n$")
        self.assertFalse(os.path.ismount(daemon.mountpoint))

    def test_a_signal_to_end_takes_the_mount_away(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            daemon = self.lamina(name=number.name)
            daemon.process.send_signal(number)
            self.assertEqual(daemon.process.wait(60), 0, number)
            self.assertFalse(os.path.ismount(daemon.mountpoint), number)
            daemon.process = None

    def test_umount_takes_away_what_a_killed_daemon_left(self):
        daemon = self.lamina()
        daemon.process.kill()
        daemon.process.wait()
        daemon.killed = True
        daemon.command("umount", daemon.mountpoint)
        self.assertFalse(os.path.ismount(daemon.mountpoint))

    def doctor(self, daemon, *options, code=0):
        done = daemon.command("doctor", "--json", *options, daemon.mountpoint, check=False)
        self.assertEqual(done.returncode, code, done.stdout)
        found = json.loads(done.stdout)
        self.assertEqual(found["usable"], code == 0)
        return {finding["what"]: (finding["grade"], finding["detail"]) for finding in found["findings"]}

    def test_doctor_tells_what_is_there_and_makes_nothing(self):
        daemon = self.lamina(start=False)
        found = self.doctor(daemon)
        self.assertEqual(found["FUSE"], ("ok", "/dev/fuse opens"))
        self.assertEqual(found["kernel"][1], os.uname().release)
        self.assertIn("not made yet", found["store"][1])
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.assertIn(str(hard), found["open files"][1])
        self.assertEqual(found["mount"][0], "limited")
        self.assertFalse(os.path.exists(daemon.store))
        unusable = self.doctor(daemon, "--store", "/dev/null/store", code=1)
        self.assertEqual(unusable["store"][0], "missing")

    def test_doctor_tells_a_served_mount_from_a_dead_one(self):
        daemon = self.lamina()
        self.assertEqual(self.doctor(daemon)["mount"], ("ok", daemon.mountpoint + " is served"))
        daemon.process.kill()
        daemon.process.wait()
        daemon.killed = True
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        grade, detail = self.doctor(daemon)["mount"]
        self.assertEqual(grade, "limited")
        self.assertRegex(detail, "dead.*lamina umount " + daemon.mountpoint)

    def test_a_daemon_may_have_many_files_open_and_shows_its_memory_to_nobody(self):
        daemon = self.lamina(start=False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        daemon.start()
        self.assertEqual(resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE), (hard, hard))


class UserTest(MountCase):
    """Without root: through fusermount3, for one user."""

    def setUp(self):
        super().setUp()
        self.layout = Layout(self.folder + "/layout")
        small.make(self.layout, "v1", {"file": b"x\n" * 100_000})
        self.home = self.folder + "/home"
        os.makedirs(self.home + "/images")
        for path in (self.home, self.home + "/images"):
            os.chown(path, 65534, 65534)
        self.binary = shutil.copy(lamina_binary(), self.folder + "/lamina")  # it may lie where only root comes
        self.user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env", "-C", self.home,
                     "HOME=" + self.home, "LAMINA_STORE=" + self.home + "/store"]

    def test_a_user_mounts_fetches_and_unmounts(self):
        # In namespaces of its own: /dev/fuse may be root's here, and what is left behind ends with them.
        os.mkdir(self.folder + "/dev")
        script = f"""
            set -e
            mount -t tmpfs devices {self.folder}/dev
            mknod {self.folder}/dev/fuse c 10 229
            chmod 0666 {self.folder}/dev/fuse
            mount --bind {self.folder}/dev/fuse /dev/fuse
            user="{" ".join(self.user)}"
            $user {self.binary} mount images
            $user {self.binary} add oci:{self.layout.path} --as app
            $user {self.binary} fetch localhost/app:v1
            $user cat images/localhost/app/v1/rootfs/file | cmp - <(yes x | head -n 100000)
            ls {self.home}/store/cache/*.data
            $user {self.binary} umount images
        """
        run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-o", "pipefail", "-c", script)

    def test_the_memory_of_a_daemon_is_shown_to_nobody_unless_asked_for(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:  # keeps who asks it waiting
            for environment, owner in ([], 0), (["LAMINA_DEBUG_DUMPABLE=1"], 65534):
                reference = f"127.0.0.1:{silent.getsockname()[1]}/app"
                process = subprocess.Popen([*self.user, *environment, self.binary, "resolve", reference],
                                           stderr=subprocess.DEVNULL)
                connection, _ = silent.accept()
                # The kernel gives /proc/PID/* of a process that may not be dumped to root.
                found = os.stat(f"/proc/{process.pid}/mem").st_uid
                process.kill()
                process.wait()
                connection.close()
                self.assertEqual(found, owner)
