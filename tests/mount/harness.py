"""Runs the real programs for the tests: lamina's daemon, a docker-registry. Everything listens on loopback, lives in a
temporary folder and ends with the test, whatever happens in it."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True

MS_DETACH = 2
START_SECONDS = 60  # how long a program may take to answer; sanitizers are slow
SANITIZER_MARKS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:")
LOG_END = 8000  # characters of a log that a failing test shows


class _Ending:
    """SIGTERM, as a bound on the run sends it, ends the test at hand with its cleanups, and no other begins."""

    begun = False

    @classmethod
    def begin(cls, *_):
        cls.begun = True
        raise SystemExit("the tests were told to end")


if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, _Ending.begin)


def lamina_binary():
    """The binary under test: LAMINA_BINARY, or a build of this checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    candidates = [os.environ.get("LAMINA_BINARY", "")]
    candidates += [os.path.join(here, "..", "..", "build", preset, "cmd", "lamina") for preset in ("dev", "release")]
    for path in candidates:
        if path and os.path.exists(path):
            return os.path.abspath(path)
    raise RuntimeError("no lamina binary: build one, or set LAMINA_BINARY")


def wait_until(condition, what, seconds=START_SECONDS):
    """Polls until the condition holds and gives its value; fails with `what` where it never does."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)


def run(*command, check=True, timeout=300, **options):
    """Runs a program to its end; output as text."""
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, check=False,
                          errors="surrogateescape", **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def start_child(*command, **options):
    """Starts a program that ends with the tests, however these end. To be called on the main thread: the kernel takes the
    end of the thread that starts it for the end of all."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL, **options)


class Lamina:
    """A daemon with a store and a mount point of its own. `stop` and `start` keep the store."""

    def __init__(self, folder, *options, environment=None):
        self.folder = folder
        self.store = os.path.join(folder, "store")
        self.mountpoint = os.path.join(folder, "images")
        self.options = list(options)
        self.wrapper = ()  # a program that becomes the daemon, and its arguments
        self.log_path = os.path.join(folder, "daemon.log")
        self.environment = dict(os.environ, LAMINA_STORE=self.store, XDG_RUNTIME_DIR=folder, HOME=folder,
                                **(environment or {}))
        self.process = None
        self.killed = False
        os.makedirs(self.mountpoint, exist_ok=True)

    def launch(self):
        """Begins to mount."""
        with open(self.log_path, "ab") as log:
            self.process = start_child(
                *self.wrapper, lamina_binary(), "mount", "-f", "--store", self.store, *self.options, self.mountpoint,
                stdout=log, stderr=log, env=self.environment, cwd=self.folder)
        self.killed = False

    def start(self):
        """Mounts; returns once the tree answers."""
        self.launch()
        wait_until(self._answers, "the tree of lamina to answer")
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"lamina ended with {self.process.returncode} at start\n{self.log()}")
        try:
            return os.path.exists(self.mountpoint + "/.lamina/version")
        except OSError:
            return False

    def stop(self):
        """Unmounts; the daemon must end by itself with exit code 0."""
        if self.process is None:
            return
        if not self.killed:
            self._unmount()
            try:
                code = self.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"lamina did not end after its mount was gone\n{self.log()}") from None
            self.process = None
            if code != 0:
                raise AssertionError(f"lamina ended with {code}\n{self.log()}")
        self.process = None

    def _unmount(self):
        """Lazily where something sits in the mount still."""
        if run("umount", self.mountpoint, check=False).returncode != 0:
            run("umount", "-l", self.mountpoint, check=False)

    def kill(self, unmount=True):
        """kill -9, and the dead mount is taken away, or left for the next one to find."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.killed = True
        if unmount:
            run("umount", "-l", self.mountpoint, check=False)
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def clear_cache(self):
        """Empties the cache of layer bytes; the daemon is stopped meanwhile. Indexes and trees stay."""
        self.stop()
        shutil.rmtree(self.store + "/cache", ignore_errors=True)
        return self.start()

    def command(self, *arguments, check=True, timeout=300):
        """`lamina ARGUMENTS…` on this store."""
        return run(lamina_binary(), *arguments, check=check, timeout=timeout, env=self.environment, cwd=self.folder)

    def path(self, *parts):
        return os.path.join(self.mountpoint, *parts)

    def metrics(self):
        """Counters by name, with their labels: {'lamina_fuse_messages_total{op="lookup"}': 3}."""
        with open(self.mountpoint + "/.lamina/metrics", encoding="utf-8") as stream:
            lines = [line.rsplit(" ", 1) for line in stream if line.strip() and not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def messages(self):
        """FUSE messages by operation."""
        pattern = re.compile(r'lamina_fuse_messages_total\{op="(\w+)"\}')
        return {m[1]: value for name, value in self.metrics().items() if (m := pattern.fullmatch(name))}

    def log_text(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def log(self):
        text = self.log_text()
        return "--- log of lamina (its end) ---\n" + text[-LOG_END:] if text else ""

    def sanitizer_report(self):
        """What a sanitizer first said in the log, which holds every start of the daemon, or nothing."""
        text = self.log_text()
        found = [at for at in map(text.find, SANITIZER_MARKS) if at >= 0]
        if not found:
            return None
        begin = max(0, min(found) - LOG_END // 4)
        return "--- log of lamina (a sanitizer's report) ---\n" + text[begin:begin + LOG_END]


class DockerRegistry:
    """A docker-registry on a free port of loopback; keeps its blobs in `folder`. htpasswd: (user, password) that it wants.
    auth, tls: what its configuration says of these, the certificate one for localhost. redirect: where it sends those
    who want blobs. pulls_from: the registry that it is a pull-through cache of."""

    def __init__(self, folder, port=0, htpasswd=None, auth=None, tls=None, redirect=None, pulls_from=None):
        self.folder = folder
        self.port = port
        self.process = None
        self.log_path = folder + "/registry.log"
        os.makedirs(folder + "/blobs", exist_ok=True)
        self.auth = {"auth": auth} if auth else {}
        self.tls = {"tls": tls} if tls else {}
        self.proxy = {"proxy": {"remoteurl": f"http://{pulls_from}"}} if pulls_from else {}
        self.middleware = {}
        if redirect:
            self.middleware = {"middleware": {"storage": [{"name": "redirect", "options": {"baseurl": redirect}}]}}
        if htpasswd:
            with open(folder + "/htpasswd", "w", encoding="utf-8") as file:
                file.write(run("htpasswd", "-Bbn", *htpasswd).stdout)
            self.auth = {"auth": {"htpasswd": {"realm": "test", "path": folder + "/htpasswd"}}}

    @property
    def host(self):
        return f"localhost:{self.port}" if self.tls else f"127.0.0.1:{self.port}"

    def start(self):
        config = self.folder + "/config.yml"
        with open(config, "w", encoding="utf-8") as stream:
            json.dump({
                "version": 0.1,
                "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": self.folder + "/blobs"}, "delete": {"enabled": True}},
                "http": {"addr": f"127.0.0.1:{self.port}", "secret": "of no importance", **self.tls},
                **self.auth,
                **self.middleware,
                **self.proxy,
            }, stream)
        with open(self.log_path, "wb") as log:
            self.process = start_child("docker-registry", "serve", config, stdout=log, stderr=log, cwd=self.folder)
        self.port = wait_until(self._listening_port, "docker-registry to listen")
        return self

    def _listening_port(self):
        if self.process.poll() is not None:
            raise AssertionError(f"docker-registry ended with {self.process.returncode}\n{self._log()}")
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self._log())
        return int(found[1]) if found else None

    def _log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def push(self, layout, tag, name, new_tag=None):
        """Copies an image with skopeo, all platforms, digests kept; its digest there."""
        run("skopeo", "--insecure-policy", "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false",
            f"oci:{layout}:{tag}", f"docker://{self.host}/{name}:{new_tag or tag}")
        raw = run("skopeo", "--insecure-policy", "inspect", "--raw", "--tls-verify=false",
                  f"docker://{self.host}/{name}:{new_tag or tag}").stdout
        import hashlib  # pylint: disable=import-outside-toplevel
        return "sha256:" + hashlib.sha256(raw.encode("utf-8", "surrogateescape")).hexdigest()


class MountCase(unittest.TestCase):
    """A test with a temporary folder (on a real disk: not every file system keeps xattrs and holes) and daemons that
    end with it. A sanitizer's report in a daemon's log fails the test; a failing test shows the logs."""

    def run(self, result=None):
        done = super().run(result)
        if _Ending.begun and result is not None:
            result.stop()
        return done

    def setUp(self):
        if os.geteuid() != 0:
            raise AssertionError("tests over real mounts need root: run them as root")
        # Some tools take paths for names of images, where an underscore has its places.
        self.folder = f"/var/tmp/lamina-test-{secrets.token_hex(6)}"
        os.mkdir(self.folder)
        os.chmod(self.folder, 0o755)  # other users look into the mounts
        self.addCleanup(shutil.rmtree, self.folder, True)
        self._daemons = []
        self.addCleanup(self._end_daemons)

    def _end_daemons(self):
        problems = []
        for daemon in self._daemons:
            try:
                daemon.stop()
            except AssertionError as problem:
                problems.append(str(problem))
                daemon.kill()
            if report := daemon.sanitizer_report():
                problems.append(report)
            elif self._failed():
                sys.stderr.write(f"\n{self.id()}: {daemon.log()}\n")
        if problems:
            raise AssertionError("\n".join(problems))

    def _failed(self):
        result = self._outcome.result if self._outcome else None
        return result is not None and any(test is self for test, _ in result.failures + result.errors)

    def lamina(self, *options, name="lamina", start=True):
        """A daemon that ends with the test."""
        folder = os.path.join(self.folder, name)
        os.makedirs(folder, exist_ok=True)
        daemon = Lamina(folder, *options)
        self._daemons.append(daemon)
        return daemon.start() if start else daemon

    def registry(self, name="registry", **options):
        folder = os.path.join(self.folder, name)
        registry = DockerRegistry(folder, **options)
        self.addCleanup(registry.stop)
        return registry.start()

    def run_threads(self, count, work):
        """Runs work(i) in `count` threads at the same time; their results in order; a failure in any fails the test."""
        results, failures = [None] * count, []
        barrier = threading.Barrier(count)

        def body(number):
            try:
                barrier.wait()
                results[number] = work(number)
            except BaseException as problem:  # pylint: disable=broad-except
                failures.append(problem)

        threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return results


def canonical_host(host):
    """The directory of a registry: localhost:5000 -> localhost_5000_."""
    return host.replace(":", "_") + "_" if ":" in host else host


def path_name(digest):
    return digest.replace(":", "-")


def read(path):
    with open(path, "rb") as stream:
        return stream.read()
