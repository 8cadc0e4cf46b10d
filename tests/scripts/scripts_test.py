"""What scripts/ does and asks for, with stand-ins for the programs that it calls: each notes how it was called."""

import os
import shutil
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")


class ScriptCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lamina-scripts-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        shutil.copytree(SCRIPTS, self.folder + "/scripts")
        os.mkdir(self.folder + "/bin")
        self.stand_in("id", "echo 0")

    def stand_in(self, name, body):
        path = f"{self.folder}/bin/{name}"
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(f'#!/bin/bash\necho "{name} $*" >>"{self.folder}/calls"\n{body}\n')
        os.chmod(path, 0o755)

    def calls(self):
        path = self.folder + "/calls"
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as stream:
            return stream.read().splitlines()

    def script(self, name, *arguments, **environment):
        return subprocess.run(
            [f"{self.folder}/scripts/{name}", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, cwd=self.folder,
            env=dict(os.environ, PATH=self.folder + "/bin:" + os.environ["PATH"], **environment))


class InstallTest(ScriptCase):
    def installed(self, lists):
        packages = subprocess.run([SCRIPTS + "/dependencies", "run"], stdout=subprocess.PIPE, text=True, check=True)
        lines = "".join(f"installed {package}\\n" for package in packages.stdout.split())
        self.stand_in("dpkg-query", f"printf '{lines}'")
        self.stand_in("apt-get", f'[ "$1" != indextargets ] || printf "{lists}"')
        done = self.script("install", "run")
        self.assertEqual(done.returncode, 0, done.stdout)
        return [call for call in self.calls() if call.startswith("apt-get") and "indextargets" not in call]

    def test_nothing_is_done_where_packages_and_lists_are_there(self):
        self.assertEqual(self.installed("/var/lib/apt/lists/x_Packages\\n"), [])

    def test_the_lists_are_fetched_where_there_are_none(self):
        self.assertEqual(self.installed(""), ["apt-get -q update"])


class TestTest(ScriptCase):
    def run_tests(self, *options, of):
        """Runs scripts/test with a ctest that has tests in the presets `of` alone."""
        self.stand_in("cmake", "")
        self.stand_in("ctest", f"""
            case " {' '.join(of)} " in *" ${{2#build/}} "*) ;; *) echo "Total Tests: 0"; exit 0 ;; esac
            case " $* " in
              *" -N "*) echo "  Test #1: one" ;;
              *) echo "1/1 Test #1: one .... Passed 0.01 sec"; echo "100% tests passed, 0 tests failed out of 1" ;;
            esac""")
        return self.script("test", *options, LAMINA_SKIP_INSTALL="1", LAMINA_TEST_PRESETS="dev tsan")

    def test_a_preset_without_a_chosen_test_is_passed_over_and_not_built(self):
        done = self.run_tests("-R", "mount.tree", of=["dev"])
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertTrue(done.stdout.endswith("1 passed, 0 failed\n"), done.stdout)
        builds = [call for call in self.calls() if call.startswith("cmake --build")]
        self.assertEqual(len(builds), 1)
        self.assertIn("dev", builds[0])

    def test_the_next_preset_is_compiled_while_one_is_tested(self):
        done = self.run_tests(of=["dev", "tsan"])
        self.assertEqual(done.returncode, 0, done.stdout)
        calls = [call.split(" -- ")[0] for call in self.calls() if call.startswith("cmake --build")]
        self.assertEqual(calls, ["cmake --build --preset dev"] + 2 * ["cmake --build --preset tsan"])
        self.assertTrue(done.stdout.endswith("2 passed, 0 failed\n"), done.stdout)

    def test_options_that_choose_no_test_anywhere_fail(self):
        done = self.run_tests("-R", "nosuchtest", of=[])
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED  no preset has a test that -R nosuchtest chooses", done.stdout)

    def test_all_presets_run_where_all_have_tests(self):
        done = self.run_tests(of=["dev", "tsan"])
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertTrue(done.stdout.endswith("2 passed, 0 failed\n"), done.stdout)


class RunTest(ScriptCase):
    def test_relative_paths_are_of_the_folder_that_it_is_called_from(self):
        for name in ("cmake", "mount", "umount"):
            self.stand_in(name, "")
        os.makedirs(self.folder + "/build/release/cmd")
        lamina = self.folder + "/build/release/cmd/lamina"
        self.stand_in("lamina", 'echo "store $LAMINA_STORE" >>"' + self.folder + '/calls"; [ "$1" != add ] || exit 1')
        shutil.move(self.folder + "/bin/lamina", lamina)
        self.stand_in("python3", "")
        with open(self.folder + "/scripts/sample", "w", encoding="utf-8") as stream:
            stream.write("#!/bin/sh\n")
        here = self.folder + "/here"
        os.mkdir(here)
        subprocess.run([self.folder + "/scripts/run"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False, cwd=here,
                       env=dict(os.environ, PATH=self.folder + "/bin:" + os.environ["PATH"], LAMINA_SKIP_INSTALL="1",
                                LAMINA_STORE="store", LAMINA_MOUNTPOINT="images"))
        calls = self.calls()
        self.assertIn(f"lamina mount {here}/images", calls)
        self.assertIn(f"lamina add oci:{here}/store-sample --as sample", calls)
        self.assertIn(f"store {here}/store", calls)


if __name__ == "__main__":
    unittest.main()
