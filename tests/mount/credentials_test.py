"""Credentials that the host has already, before a real registry that wants them."""

import json
import os
import subprocess

from images import small
from images.oci import Layout

from mount.harness import MountCase, lamina_binary, run

USER, PASSWORD = "alice", "a secret: ü"
HELPER = """#!/usr/bin/python3
import json, sys
asked = sys.stdin.read().strip()
with open({log!r}, "a") as log:
    log.write(asked + "\\n")
if asked != {server!r}:
    sys.exit("credentials not found in native keychain")
json.dump({{"ServerURL": asked, "Username": {user!r}, "Secret": {password!r}}}, sys.stdout)
"""


class CredentialsTest(MountCase):
    def setUp(self):
        super().setUp()
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", {"etc/file": b"of the image"})
        self.server = self.registry(htpasswd=(USER, PASSWORD))
        run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}",
            f"oci:{layout.path}:v1", f"docker://{self.server.host}/app:v1")
        self.asked = self.folder + "/asked"
        self.helpers = self.folder + "/helpers"
        os.makedirs(self.helpers)
        self.helper("right", PASSWORD)
        self.helper("wrong", "another")

    def helper(self, name, password):
        path = f"{self.helpers}/docker-credential-{name}"
        with open(path, "w", encoding="utf-8") as script:
            script.write(HELPER.format(log=self.asked, server=self.server.host, user=USER, password=password))
        os.chmod(path, 0o755)

    def cat(self, config):
        """`lamina cat` of the image's file where docker's config is this and helpers lie in a folder that is searched. They
        do in a mount namespace of its own."""
        os.makedirs(self.folder + "/docker", exist_ok=True)
        with open(self.folder + "/docker/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        environment = dict(os.environ, DOCKER_CONFIG=self.folder + "/docker", HOME=self.folder, XDG_RUNTIME_DIR=self.folder,
                           LAMINA_STORE=self.folder + "/store", XDG_CONFIG_HOME=self.folder)
        environment.pop("REGISTRY_AUTH_FILE", None)
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /usr/local/sbin && exec "$@"', self.helpers, lamina_binary(), "cat",
             f"{self.server.host}/app:v1", "/etc/file"], env=environment, capture_output=True, timeout=60, check=False)

    def test_a_helper_of_the_registry_is_asked(self):
        """[S64]"""
        done = self.cat({"credHelpers": {self.server.host: "right"}, "credsStore": "wrong"})
        self.assertEqual(done.stdout, b"of the image", done.stderr)
        with open(self.asked, encoding="utf-8") as asked:
            self.assertEqual(set(asked.read().split()), {self.server.host})

    def test_the_helper_for_all_registries_is_asked(self):
        """[S64]"""
        done = self.cat({"credsStore": "right"})
        self.assertEqual(done.stdout, b"of the image", done.stderr)

    def test_refused_credentials_are_named_and_never_shown(self):
        done = self.cat({"credHelpers": {self.server.host: "wrong"}})
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, b"")
        self.assertIn(b"401", done.stderr)
        self.assertNotIn(b"another", done.stderr)

    def test_a_helper_that_is_not_there_is_named(self):
        done = self.cat({"credHelpers": {self.server.host: "absent"}})
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"docker-credential-absent", done.stderr)
