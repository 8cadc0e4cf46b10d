"""[S93] [S94] No network, no DNS, no valid credentials: what is known and cached is served, all else fails at once, and the
folder of a name says why."""

import errno
import os

from mount.harness import canonical_host, read, run
from mount.mirrors_test import FILE, PASSWORD, USER, MirrorCase

NAME = ("registry.test", "team", "app")  # a host that no DNS knows


class OfflineTest(MirrorCase):
    def setUp(self):
        super().setUp()
        self.server = self.registry(htpasswd=(USER, PASSWORD))
        self.push(self.server, "team/app", "--dest-creds", f"{USER}:{PASSWORD}")
        conf = f'[[registry]]\nprefix = "registry.test"\nlocation = "{self.server.host}"\ninsecure = true\n'
        self.online = self.daemon("--tag-ttl", "0", conf=conf, auths={self.server.host: (USER, PASSWORD)})

    def fill_and_go_offline(self):
        """The daemon, once more, with no registries.conf, no login, and no interface but a loopback that is down."""
        daemon = self.online.start()
        self.read_all(daemon, NAME)
        daemon.stop()
        os.unlink(daemon.folder + "/.config/containers/registries.conf")
        os.unlink(daemon.folder + "/containers/auth.json")
        daemon.wrapper = ("unshare", "--net")
        return daemon.start()

    def error_of(self, daemon, *folder):
        return os.getxattr(daemon.path(*folder), "user.lamina.error").decode()

    def test_what_is_cached_is_resolved_walked_and_read(self):
        """[S94]"""
        daemon = self.fill_and_go_offline()
        self.assertIn("registry.test", os.listdir(daemon.mountpoint))
        for _ in range(2):
            self.assertEqual(sorted(os.listdir(daemon.path(*NAME, "v1", "rootfs"))), ["etc", "usr"])
            self.read_all(daemon, NAME)
            daemon.restart()
        self.assertEqual(daemon.metrics()["lamina_layers_indexed_total"], 0)
        self.assertEqual(daemon.metrics()["lamina_chunk_fetches_total"], 0)
        done = daemon.command("resolve", "registry.test/team/app:v1")
        self.assertIn("sha256:", done.stdout)

    def test_what_is_not_known_fails_and_the_folder_says_why(self):
        """[S93]"""
        daemon = self.fill_and_go_offline()
        with self.assertRaises(OSError) as caught:
            os.readlink(daemon.path(*NAME, "v2"))
        self.assertEqual(caught.exception.errno, errno.ETIMEDOUT)
        self.assertIn("registry.test/team/app/v2: ", self.error_of(daemon, *NAME))
        self.assertIn("resolve host", self.error_of(daemon, *NAME).lower())
        self.assertEqual(self.error_of(daemon), self.error_of(daemon, *NAME))
        self.assertEqual(self.error_of(daemon, "registry.test"), self.error_of(daemon, *NAME))


class CauseTest(MirrorCase):
    """What a user is told of a name: the errno, and the cause in words."""

    def fails(self, daemon, host, code, *words):
        with self.assertRaises(OSError) as caught:
            read(daemon.path(canonical_host(host), "team", "app", "v1", "rootfs", "etc", "file"))
        self.assertEqual(caught.exception.errno, code)
        told = os.getxattr(daemon.mountpoint, "user.lamina.error").decode().lower()
        for word in words:
            self.assertIn(word.lower(), told)

    def test_credentials_that_are_missing_or_wrong(self):
        """[S93]"""
        server = self.registry(htpasswd=(USER, PASSWORD))
        self.push(server, "team/app", "--dest-creds", f"{USER}:{PASSWORD}")
        daemon = self.daemon(auths={server.host: (USER, "a-wrong-word")}).start()
        self.fails(daemon, server.host, errno.EACCES, "401")

    def test_a_rate_limit(self):
        """[S93]"""
        limited = self.nginx("location / { return 429; }")
        self.fails(self.daemon().start(), limited.host, errno.ETIMEDOUT, "429")

    def test_a_certificate_that_nobody_signed(self):
        """[S93]"""
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=server", "-addext", "subjectAltName=DNS:localhost", "-keyout", self.folder + "/key.pem",
            "-out", self.folder + "/certificate.pem")
        server = self.registry(tls={"certificate": self.folder + "/certificate.pem", "key": self.folder + "/key.pem"})
        self.fails(self.daemon().start(), server.host, errno.EIO, "TLS", "its CA has to be named")

    def test_an_answer_heals_the_folder(self):
        """[S93]"""
        server = self.registry()
        self.push(server, "team/app")
        gate = self.nginx(f"location / {{ proxy_pass http://{server.host}; proxy_set_header Host $http_host; }}")
        daemon = self.daemon("--tag-ttl", "0").start()
        gate.stop()
        self.fails(daemon, gate.host, errno.ETIMEDOUT)
        gate.start()
        self.assertEqual(read(daemon.path(canonical_host(gate.host), "team", "app", "v1", "rootfs", "etc", "file")), FILE)
