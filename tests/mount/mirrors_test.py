"""Registries as the host is configured: mirrors, certificates, blocked names; before real registries and nginx."""

import base64
import errno
import json
import os

from images import small
from images.oci import Layout

from mount.harness import MountCase, canonical_host, read, run
from mount.nginx import Nginx, free_port

USER, PASSWORD = "alice", "a-secret-word"
FILE = b"of the image"


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def closed_port():
    """A host of loopback where nobody listens."""
    return f"127.0.0.1:{free_port()}"


class MirrorCase(MountCase):
    def setUp(self):
        super().setUp()
        layout = Layout(self.folder + "/layout")
        small.make(layout, "v1", {"etc/file": FILE, "usr/large": os.urandom(3 << 20)})
        self.layout = layout.path

    def push(self, server, name, *options):
        run("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *options, f"oci:{self.layout}:v1",
            f"docker://{server.host}/{name}:v1")

    def nginx(self, server, name="nginx"):
        started = Nginx(f"{self.folder}/{name}", server)
        self.addCleanup(started.stop)
        return started.start()

    def mirror_of(self, server, name="mirror"):
        return self.nginx(f"location / {{ proxy_pass http://{server.host}; proxy_set_header Host $http_host; }}", name)

    def daemon(self, *options, conf=None, hosts=None, certs=None, auths=None):
        """Not mounted yet. conf: a registries.conf; hosts: {registry: hosts.toml}; certs: {host: {name: path}};
        auths: {host: (user, password)}. All in the home of its user or in folders that options name."""
        daemon = self.lamina(*options, start=False)
        if conf is not None:
            write(daemon.folder + "/.config/containers/registries.conf", conf)
        for registry, text in (hosts or {}).items():
            write(f"{daemon.folder}/hosts.d/{registry}/hosts.toml", text)
        if hosts:
            daemon.options += ["--hosts-dir", daemon.folder + "/hosts.d"]
        for host, files in (certs or {}).items():
            for name, path in files.items():
                folder = f"{daemon.folder}/.config/containers/certs.d/{host}"
                os.makedirs(folder, exist_ok=True)
                os.symlink(path, f"{folder}/{name}")
        write(daemon.folder + "/containers/auth.json", json.dumps({"auths": {
            host: {"auth": base64.b64encode(":".join(pair).encode()).decode()} for host, pair in (auths or {}).items()}}))
        return daemon

    def doctor(self, daemon, reference, code=0):
        """What `lamina doctor REF` says, as JSON."""
        options = [option for option in daemon.options if option != "-f"]
        done = daemon.command("doctor", "--json", *options, reference, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertNotIn(PASSWORD, done.stdout)
        return json.loads(done.stdout)["references"][0]

    def read_all(self, daemon, name):
        self.assertEqual(read(daemon.path(*name, "v1", "rootfs", "etc", "file")), FILE)
        self.assertEqual(len(read(daemon.path(*name, "v1", "rootfs", "usr", "large"))), 3 << 20)


class RegistriesConfTest(MirrorCase):
    def test_a_mirror_serves_for_a_registry_that_is_away(self):
        """[S85]"""
        upstream = self.registry()
        self.push(upstream, "hub/app")
        mirror = self.mirror_of(upstream)
        away = closed_port()
        daemon = self.daemon(conf=f"""
            [[registry]]
            location = "{away}"
            [[registry.mirror]]
            location = "{mirror.host}/hub"
            """)
        daemon.start()
        self.read_all(daemon, (canonical_host(away), "app"))
        self.assertTrue(mirror.requests("/v2/hub/app/blobs/"))
        report = self.doctor(daemon, f"{away}/app:v1")
        self.assertTrue(report["usable"])
        first, origin = report["hosts"]
        self.assertEqual((first["url"], first["repository"], first["ok"]), (f"http://{mirror.host}/v2", "hub/app", True))
        self.assertTrue(first["answer"].startswith("sha256:"))
        self.assertTrue(first["configured_by"].endswith("/registries.conf"))
        self.assertFalse(origin["ok"])
        self.assertIn("connection refused", origin["answer"])

    def test_a_pull_through_cache_as_a_mirror(self):
        """[S85]"""
        origin = self.registry()
        self.push(origin, "app")
        cache = self.registry("cache", pulls_from=origin.host)
        daemon = self.daemon(conf=f"""
            [[registry]]
            location = "{origin.host}"
            mirror = [{{ location = "{cache.host}" }}]
            """)
        daemon.start()
        self.read_all(daemon, (canonical_host(origin.host), "app"))
        daemon.clear_cache()
        origin.stop()
        self.read_all(daemon, (canonical_host(origin.host), "app"))
        asked = {name: value for name, value in daemon.metrics().items() if "registry_blob_bytes_total" in name}
        self.assertGreater(sum(asked.values()), 3 << 20, asked)

    def test_the_origin_serves_where_the_mirror_lacks_the_image_or_is_away(self):
        """[S85]"""
        origin = self.registry()
        self.push(origin, "app")
        empty = self.registry("empty")
        daemon = self.daemon(conf=f"""
            [[registry]]
            location = "{origin.host}"
            mirror = [{{ location = "{closed_port()}" }}, {{ location = "{empty.host}" }}]
            """)
        daemon.start()
        self.read_all(daemon, (canonical_host(origin.host), "app"))

    def test_what_is_blocked_is_not_asked_for(self):
        """[S85]"""
        origin = self.registry()
        self.push(origin, "app")
        front = self.mirror_of(origin)
        daemon = self.daemon(conf=f'[[registry]]\nlocation = "{front.host}"\nblocked = true\n')
        daemon.start()
        done = daemon.command("resolve", f"{front.host}/app:v1", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is blocked by", done.stderr)
        self.assertEqual(front.requests(), [])
        self.assertIn("is blocked by", self.doctor(daemon, f"{front.host}/app:v1", code=1)["error"])

    def test_a_change_of_the_configuration_needs_no_restart(self):
        """[S85]"""
        upstream = self.registry()
        self.push(upstream, "app")
        away = closed_port()
        daemon = self.daemon("--tag-ttl", "0", "--negative-ttl", "0", conf="")
        daemon.start()
        self.assertNotEqual(daemon.command("resolve", f"{away}/app:v1", check=False).returncode, 0)
        write(daemon.folder + "/.config/containers/registries.conf",
              f'[[registry]]\nprefix = "{away}"\nlocation = "{upstream.host}"\n')
        self.read_all(daemon, (canonical_host(away), "app"))


class HostsTomlTest(MirrorCase):
    def test_a_mirror_for_bytes_alone_is_told_the_registry_and_asked_for_no_tag(self):
        """[S85]"""
        origin = self.registry()
        self.push(origin, "app")
        mirror = self.mirror_of(origin)
        daemon = self.daemon(hosts={origin.host: f"""
            [host."http://{mirror.host}"]
              capabilities = ["pull"]
              [host."http://{mirror.host}".header]
                x-key = "of the mirror"
            """})
        daemon.start()
        self.read_all(daemon, (canonical_host(origin.host), "app"))
        seen = mirror.requests()
        named = f"ns={origin.host}".replace(":", "%3a")
        self.assertTrue(all(named in request["uri"].lower() for request in seen), seen)
        self.assertTrue(all(request["key"] == "of the mirror" for request in seen))
        self.assertEqual(mirror.requests("/manifests/v1") + mirror.requests("/manifests/sha256-") + mirror.requests("/referrers/"), [])
        self.assertTrue(mirror.requests("/blobs/"))
        report = self.doctor(daemon, f"{origin.host}/app:v1")
        self.assertEqual([host["for"] for host in report["hosts"]], ["digests only", "tags and digests"])
        self.assertTrue(all(host["ok"] for host in report["hosts"]))
        self.assertEqual(report["hosts"][0]["headers"], ["x-key"])

    def test_a_registry_with_its_own_ca_and_client_certificates(self):
        """[S86]"""
        folder = self.folder + "/ca"
        os.makedirs(folder)
        for name, subject in (("server", "subjectAltName=DNS:localhost"), ("client", "subjectAltName=DNS:client")):
            run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-addext", subject, "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem")
        server = self.registry(htpasswd=(USER, PASSWORD), tls={
            "certificate": folder + "/server.pem", "key": folder + "/server.key", "clientcas": [folder + "/client.pem"]})
        os.makedirs(folder + "/skopeo")
        for name, path in (("ca.crt", "server.pem"), ("client.cert", "client.pem"), ("client.key", "client.key")):
            os.symlink(f"{folder}/{path}", f"{folder}/skopeo/{name}")
        self.push(server, "app", "--dest-creds", f"{USER}:{PASSWORD}", "--dest-cert-dir", folder + "/skopeo")
        full = {"ca.crt": folder + "/server.pem", "client.cert": folder + "/client.pem", "client.key": folder + "/client.key"}
        daemon = self.daemon(certs={server.host: full}, auths={server.host: (USER, PASSWORD)})
        daemon.start()
        self.read_all(daemon, (canonical_host(server.host), "app"))
        [host] = self.doctor(daemon, f"{server.host}/app:v1")["hosts"]
        self.assertTrue(host["ok"], host)
        self.assertIn("client.cert", host["tls"])
        self.assertIn(USER, host["credentials"])
        self.assertIn("auth.json", host["credentials"])
        # Without the client's certificate the registry does not speak to us.
        other = f'server = "https://{server.host}"\nca = "{folder}/server.pem"\n'
        os.remove(f"{daemon.folder}/.config/containers/certs.d/{server.host}/client.cert")
        daemon.options += ["--hosts-dir", daemon.folder + "/hosts.d"]
        write(f"{daemon.folder}/hosts.d/{server.host}/hosts.toml", other)
        [host] = self.doctor(daemon, f"{server.host}/app:v1", code=1)["hosts"]
        self.assertFalse(host["ok"])
        self.assertNotIn("shows the certificate", host["tls"])
        self.assertIn("hosts.toml", host["configured_by"])


class WrongConfigurationTest(MirrorCase):
    def setUp(self):
        super().setUp()
        self.origin = self.registry()
        self.push(self.origin, "app")
        server = f'server = "http://{self.origin.host}"\n'
        self.daemon_ = self.daemon("--tag-ttl", "0", "--negative-ttl", "0", hosts={self.origin.host: server}, conf="")
        self.daemon_.start()
        self.known = os.readlink(self.tag("v1"))

    def tag(self, name):
        return self.daemon_.path(canonical_host(self.origin.host), "app", name)

    def assert_known_stays(self, reason):
        self.assertEqual(os.readlink(self.tag("v1")), self.known)
        with self.assertRaises(OSError) as raised:
            os.readlink(self.tag("v2"))
        self.assertEqual(raised.exception.errno, errno.EIO)
        self.assertIn(reason, self.daemon_.log())
        known = json.loads(self.daemon_.command("resolve", "--json", f"{self.origin.host}/app:v1").stdout)
        self.assertTrue(known["stale"])
        self.assertIn(reason, known["reason"])

    def test_a_certificate_that_is_missing_is_no_missing_name(self):
        """[S110]"""
        write(f"{self.daemon_.folder}/hosts.d/{self.origin.host}/hosts.toml",
              f'server = "http://{self.origin.host}"\nca = "absent.pem"\n')
        self.assert_known_stays("absent.pem")

    def test_a_broken_registries_conf_takes_no_known_tag_away(self):
        """[S110]"""
        write(self.daemon_.folder + "/.config/containers/registries.conf", "[[registry")
        self.assert_known_stays("registries.conf")


class RedirectTest(MirrorCase):
    def test_no_credential_follows_a_redirect_to_another_host(self):
        """[S87]"""
        blobs = self.folder + "/registry/blobs"
        place = self.nginx(f"root {blobs};", "place")
        server = self.registry(htpasswd=(USER, PASSWORD), redirect=f"http://{place.host}")
        self.push(server, "app", "--dest-creds", f"{USER}:{PASSWORD}")
        daemon = self.daemon(auths={server.host: (USER, PASSWORD)})
        daemon.start()
        self.read_all(daemon, (canonical_host(server.host), "app"))
        seen = place.requests("/docker/registry/v2/blobs/")
        self.assertTrue(seen)
        self.assertEqual({request["status"] for request in seen} - {200, 206}, set())
        self.assertEqual({request["authorization"] for request in seen}, {""})


class DoctorTest(MirrorCase):
    """`lamina doctor REF`, which tells what a reader of the mount gets."""

    def report_of(self, daemon, *arguments, home, code=0):
        """By a caller with another home than the daemon's."""
        daemon.environment.update(HOME=home, XDG_RUNTIME_DIR=home)
        done = daemon.command("doctor", "--json", *arguments, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertNotIn(PASSWORD, done.stdout)
        return json.loads(done.stdout)

    def test_the_daemon_that_holds_the_store_tells_by_its_own_configuration(self):
        """[S118]"""
        origin = self.registry(htpasswd=(USER, PASSWORD))
        self.push(origin, "app", "--dest-creds", f"{USER}:{PASSWORD}")
        away = closed_port()
        daemon = self.daemon(conf=f'[[registry]]\nprefix = "{away}"\nlocation = "{origin.host}"\n',
                             auths={origin.host: (USER, PASSWORD)})
        daemon.start()
        other = self.folder + "/other"
        os.makedirs(other)
        answer = self.report_of(daemon, f"{away}/app:v1", home=other)
        self.assertEqual((answer["by"], answer["user"]["home"]), ("the daemon", daemon.folder))
        [host] = answer["references"][0]["hosts"]
        self.assertEqual(host["url"], f"http://{origin.host}/v2")
        self.assertIn(USER, host["credentials"])
        self.assertTrue(host["layer"]["ok"], host)
        answer = self.report_of(daemon, "--insecure-registry", away, f"{away}/app:v1", home=other, code=1)
        self.assertEqual((answer["by"], answer["user"]["home"]), ("this process", other))
        [host] = answer["references"][0]["hosts"]
        self.assertEqual((host["url"], host["credentials"]), (f"http://{away}/v2", "none"))
        daemon.stop()
        answer = self.report_of(daemon, f"{away}/app:v1", home=other, code=1)
        self.assertEqual(answer["by"], "this process")
        text = daemon.command("doctor", f"{away}/app:v1", check=False).stdout
        self.assertIn(f"as this process sees it (uid {os.geteuid()}, home {other})", text)

    def test_aliases_and_local_images_come_before_hosts(self):
        """[S118]"""
        server = self.registry()
        self.push(server, "app")
        daemon = self.daemon()
        name = f"{server.host}/app"
        for running in (True, False):
            if running:
                daemon.start()
                daemon.command("alias", f"{name}:stable", "tested")
                daemon.command("alias", f"{name}:tested", "v1")
            else:
                daemon.stop()
            report = self.report_of(daemon, f"{name}:stable", home=daemon.folder)["references"][0]
            self.assertEqual(report["aliases"], [f"{name}:tested", f"{name}:v1"])
            self.assertEqual(report["hosts"][0]["asked"], "tag 'v1'")
            self.assertNotIn("local", report)
            self.report_of(daemon, f"{name}:v2", home=daemon.folder, code=1)
            self.report_of(daemon, "localhost/base:v1", home=daemon.folder, code=1)
        daemon.command("add", f"oci:{self.layout}", "--as", "localhost/base")
        daemon.command("add", f"oci:{self.layout}", "--as", f"{closed_port()}/base")
        [report] = self.report_of(daemon, "localhost/base:v1", home=daemon.folder)["references"]
        self.assertEqual((report["local"]["origin"], report["hosts"]), (f"oci:{self.layout}", []))
        self.assertIn(report["local"]["digest"], daemon.command("resolve", "localhost/base:v1").stdout)

    def test_looking_without_a_store_makes_none(self):
        """[S118]"""
        daemon = self.daemon()
        self.report_of(daemon, f"{closed_port()}/app:v1", home=daemon.folder, code=1)
        self.assertFalse(os.path.exists(daemon.store))

    def test_who_tells_the_image_but_gives_none_of_its_bytes_is_no_use(self):
        """[S118]"""
        server = self.registry(redirect=f"http://{closed_port()}")
        self.push(server, "app")
        daemon = self.daemon()
        [report] = self.report_of(daemon, f"{server.host}/app:v1", home=daemon.folder, code=1)["references"]
        [host] = report["hosts"]
        self.assertEqual((host["ok"], host["layer"]["ok"]), (True, False))
        self.assertIn("connection refused", host["layer"]["answer"])
