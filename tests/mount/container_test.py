"""A process from a mounted rootfs: runc with a kernel overlay above it and without one, chroot, bubblewrap."""

import json
import os
import subprocess
import uuid

from images import cache

from mount.harness import MountCase, run

GREETING = "hello from inside"


class ContainerTest(MountCase):
    def setUp(self):
        super().setUp()
        daemon = self.lamina()
        daemon.command("add", f"oci:{cache.get('debian')}/layout:gzip", "--as", "debian")
        self.rootfs = os.path.realpath(daemon.path("localhost/debian/gzip/rootfs"))

    def bundle(self, root, script, readonly):
        """A runc bundle that runs a shell script on this root."""
        folder = self.folder + "/bundle"
        os.makedirs(folder)
        run("runc", "spec", cwd=folder)
        with open(folder + "/config.json", encoding="utf-8") as stream:
            spec = json.load(stream)
        spec["process"].update(terminal=False, args=["/bin/sh", "-ec", script])
        spec["root"] = {"path": root, "readonly": readonly}
        with open(folder + "/config.json", "w", encoding="utf-8") as stream:
            json.dump(spec, stream)
        return folder

    def run_container(self, root, script, readonly):
        name = "lamina-test-" + uuid.uuid4().hex
        self.addCleanup(run, "runc", "delete", "--force", name, check=False)
        return run("runc", "run", name, cwd=self.bundle(root, script, readonly)).stdout

    def overlay(self):
        for name in ("upper", "work", "merged"):
            os.makedirs(f"{self.folder}/{name}")
        merged = self.folder + "/merged"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={self.rootfs},upperdir={self.folder}/upper,workdir={self.folder}/work", merged],
                       check=True)
        # Before the daemon ends: cleanups run in reverse.
        self.addCleanup(subprocess.run, ["umount", merged], check=True)
        return merged

    def test_runc_starts_a_writable_container_with_a_kernel_overlay_above(self):
        script = f"echo {GREETING}; id -u; echo changed > /etc/motd; cat /etc/motd; rm /bin/dd; test ! -e /bin/dd"
        self.assertEqual(self.run_container(self.overlay(), script, False), f"{GREETING}\n0\nchanged\n")
        with open(self.folder + "/upper/etc/motd", encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "changed\n")
        self.assertTrue(os.path.exists(self.rootfs + "/bin/dd"))

    def test_runc_starts_a_read_only_container_without_an_overlay(self):
        script = f"echo {GREETING}; . /etc/os-release; echo $ID; touch /new 2>/dev/null || echo refused"
        self.assertEqual(self.run_container(self.rootfs, script, True), f"{GREETING}\ndebian\nrefused\n")

    def test_chroot_runs_a_program(self):
        done = run("chroot", self.rootfs, "/bin/sh", "-c", f"echo {GREETING}; . /etc/os-release; echo $ID")
        self.assertEqual(done.stdout, f"{GREETING}\ndebian\n")

    def test_bubblewrap_runs_a_program(self):
        done = run("bwrap", "--ro-bind", self.rootfs, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
                   "--unshare-pid", "/bin/sh", "-c", f"echo {GREETING} > /tmp/x; cat /tmp/x; dpkg --print-architecture")
        self.assertEqual(done.stdout.splitlines()[0], GREETING)
        self.assertEqual(len(done.stdout.splitlines()), 2)

    def test_an_overlay_above_it_copies_up_hard_links_and_attributes(self):
        merged = self.overlay()
        before = os.stat(self.rootfs + "/opt/installed/bin/setuid-cat")
        with open(merged + "/opt/installed/bin/setuid-cat", "ab") as stream:
            stream.write(b"!")
        after = os.stat(self.folder + "/upper/opt/installed/bin/setuid-cat")
        self.assertEqual(after.st_size, before.st_size + 1)
        self.assertEqual((after.st_uid, after.st_gid), (before.st_uid, before.st_gid))
