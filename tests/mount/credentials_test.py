"""Credentials that the host has already, before a real registry that wants them."""

import base64
import json
import os
import pwd
import subprocess
import urllib.error
import urllib.request

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, lamina_binary, read, run, wait_until
from mount.nginx import Nginx, free_port
from mount.token_server import TokenServer

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


class OrderTest(MountCase):
    """Where files of credentials are looked for, told by `lamina doctor` in a mount namespace whose /run and home are the
    test's own."""

    def setUp(self):
        super().setUp()
        self.host = f"127.0.0.1:{free_port()}"
        for name in ("run", "root"):
            os.makedirs(f"{self.folder}/{name}")

    def login(self, path, user):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"auths": {self.host: {"auth": base64.b64encode(f"{user}:word".encode()).decode()}}}, file)

    def credentials(self, **environment):
        """The line of `lamina doctor` about them, in an environment of these variables alone."""
        home = pwd.getpwuid(os.geteuid()).pw_dir
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", f'mount --bind "$0/run" /run && mount --bind "$0/root" {home} && exec "$@"', self.folder,
             lamina_binary(), "doctor", "--json", "--store", self.folder + "/store", f"{self.host}/app:v1"],
            env={"PATH": os.environ["PATH"], **environment}, capture_output=True, timeout=60, check=False)
        [report] = json.loads(done.stdout)["references"]
        return report["hosts"][0]["credentials"]

    def test_the_first_file_of_the_order_that_has_any_counts(self):
        """[S115]"""
        self.assertEqual(self.credentials(), "none")
        home = pwd.getpwuid(os.geteuid()).pw_dir
        variables = {"REGISTRY_AUTH_FILE": f"{self.folder}/own.json", "XDG_RUNTIME_DIR": f"{self.folder}/session",
                     "XDG_CONFIG_HOME": f"{self.folder}/config", "DOCKER_CONFIG": f"{self.folder}/docker"}
        below_run = f"/containers/{os.geteuid()}/auth.json"
        files = [  # as the process sees them, and where they lie
            (variables["REGISTRY_AUTH_FILE"],) * 2, (variables["XDG_RUNTIME_DIR"] + "/containers/auth.json",) * 2,
            ("/run" + below_run, self.folder + "/run" + below_run), (variables["XDG_CONFIG_HOME"] + "/containers/auth.json",) * 2,
            (variables["DOCKER_CONFIG"] + "/config.json",) * 2,
            (home + "/.docker/config.json", self.folder + "/root/.docker/config.json")]
        for number, (_, path) in enumerate(files):
            self.login(path, f"user{number}")
        for number, (seen, path) in enumerate(files):
            self.assertEqual(self.credentials(**variables), f"user 'user{number}', from {seen}")
            os.remove(path)
        self.assertEqual(self.credentials(**variables), "none")

    def test_a_service_without_home_finds_the_files_of_its_user(self):
        """[S115]"""
        home = pwd.getpwuid(os.geteuid()).pw_dir
        self.login(self.folder + "/root/.docker/config.json", "docker")
        self.assertEqual(self.credentials(), f"user 'docker', from {home}/.docker/config.json")
        self.login(self.folder + "/root/.config/containers/auth.json", "podman")
        self.assertEqual(self.credentials(), f"user 'podman', from {home}/.config/containers/auth.json")


READERS = 64
FILE_BYTES = 1 << 20


class TokenTest(MountCase):
    """A real registry whose token server stands at its own host and port, as nginx has it."""

    def setUp(self):
        super().setUp()
        self.tokens = TokenServer(self.folder + "/tokens", USER, PASSWORD)
        self.addCleanup(self.tokens.stop)
        # The registry has to know the realm before it starts, nginx the registry's port.
        front = Nginx(self.folder + "/nginx", "")
        self.server = self.registry(auth=self.tokens.config(f"http://{front.host}/token"))
        self.front = Nginx(self.folder + "/nginx", f"""
            client_max_body_size 0;
            location /token {{ proxy_pass http://{self.tokens.host}; }}
            location / {{ proxy_pass http://{self.server.host}; proxy_set_header Host $http_host; }}""", port=front.port)
        self.addCleanup(self.front.stop)
        self.front.start()
        self.files = {f"data/{number:02}": os.urandom(FILE_BYTES) for number in range(READERS)}
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", self.files)
        run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}",
            f"oci:{layout.path}:v1", f"docker://{self.front.host}/app:v1")
        self.daemon = self.lamina(start=False)
        os.makedirs(self.daemon.folder + "/containers")
        with open(self.daemon.folder + "/containers/auth.json", "w", encoding="utf-8") as file:
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            json.dump({"auths": {self.front.host: {"auth": pair}}}, file)
        self.daemon.start()
        self.daemon.command("fetch", "--index-only", f"{self.front.host}/app:v1")

    def is_refused(self, token):
        asked = urllib.request.Request(f"http://{self.server.host}/v2/app/tags/list",
                                       headers={"Authorization": "Bearer " + token})
        try:
            with urllib.request.urlopen(asked, timeout=60):
                return False
        except urllib.error.HTTPError as error:
            return error.code == 401

    def test_one_token_serves_all_and_one_more_when_it_ends_while_many_read(self):
        """[S75]"""
        self.assertEqual(len(self.tokens.given), 2, "one for skopeo, one for lamina")
        self.tokens.life = 4
        self.daemon.clear_cache()  # in a new process
        rootfs = self.daemon.path(canonical_host(self.front.host), "app", "v1", "rootfs")
        self.assertEqual(read(f"{rootfs}/data/00"), self.files["data/00"])
        self.assertEqual(len(self.tokens.given), 3)
        self.tokens.life = 3600
        wait_until(lambda: self.is_refused(self.tokens.given[-1]), "the registry to refuse a token that has ended")
        names = sorted(self.files)
        got = self.run_threads(READERS, lambda number: read(f"{rootfs}/{names[number]}"))
        self.assertEqual(got, [self.files[name] for name in names])
        self.assertEqual(len(self.tokens.given), 4)
