"""The examples of docs/examples do what they say."""

import os
import re
import shutil
import unittest

from mount.harness import MountCase, lamina_binary, read, run

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "examples")


class ExamplesTest(MountCase):
    def test_the_file_of_options_is_taken_by_every_command(self):
        daemon = self.lamina("--config", EXAMPLES + "/lamina.toml")
        self.assertIn("0.", read(daemon.path(".lamina/version")).decode())
        listed = daemon.command("ls", "--config", EXAMPLES + "/lamina.toml", "--store", daemon.store)
        self.assertEqual(listed.stdout, "")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not there")
    def test_systemd_takes_the_unit(self):
        unit = read(EXAMPLES + "/lamina.service").decode()
        self.assertEqual(len(re.findall(r"^ExecStart=lamina ", unit, re.MULTILINE)), 1)
        # The program of these tests is in no folder that systemd looks in.
        path = self.folder + "/lamina.service"
        with open(path, "w", encoding="utf-8") as file:
            file.write(unit.replace("ExecStart=lamina ", f"ExecStart={os.path.abspath(lamina_binary())} "))
        done = run("systemd-analyze", "verify", "--man=no", path)
        self.assertNotIn("lamina.service:", done.stderr)

    def test_the_command_of_the_unit_mounts(self):
        unit = read(EXAMPLES + "/lamina.service").decode()
        (command,) = re.findall(r"^ExecStart=lamina (.*)$", unit, re.MULTILINE)
        arguments = command.replace("/etc/lamina.toml", EXAMPLES + "/lamina.toml").split()
        daemon = self.lamina(start=False)
        self.addCleanup(run, "umount", "-l", daemon.mountpoint, check=False)
        self.assertEqual(arguments.pop(), "/mnt/images")
        daemon.command(*arguments, "--store", daemon.store, daemon.mountpoint)
        self.assertTrue(os.path.exists(daemon.path(".lamina/version")))
        daemon.command("umount", daemon.mountpoint)
