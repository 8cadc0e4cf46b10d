#!/usr/bin/env python3
"""What compressing the cache saves and costs: the disk that a layer takes, the pass over it, and reading it, from the page
cache, from the disk, and a few bytes here and there.

    LAMINA_BINARY=build/release/cmd/lamina bench/cache_compression.py [--folder /usr] [--mib 512] [--rounds 3]

The layer holds the first files of the folder, in their order, in a local layout, as gzip. The kinds of compression are measured by
turns. Needs root, and a machine whose page cache may be dropped.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))

from images.oci import Layer, Layout  # noqa: E402
from mount.harness import Lamina  # noqa: E402

KINDS = ("none", "lz4", "zstd")
READS = 1000  # of 4 KiB
PLACES = ("pass", "warm", "cold", "few")


def files_below(folder, limit):
    """Paths below `folder`, as long as all of them have no more than `limit` bytes."""
    taken, total = [], 0
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(at, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            total += os.path.getsize(path)
            if total > limit:
                return taken
            taken.append(os.path.relpath(path, folder))
    return taken


def make_image(work, folder, files):
    with open(work + "/names", "w", encoding="utf-8") as out:
        out.writelines(name + "\n" for name in files)
    subprocess.run(["tar", "-C", folder, "-cf", work + "/layer.tar", "-T", work + "/names"], check=True)
    layout = Layout(work + "/layout")
    layout.tag(layout.put_image([Layer(work + "/layer.tar", "gzip")]), "usr")
    return layout.path


def seconds_of(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


class Measured:
    def __init__(self, lamina, files):
        self.lamina = lamina
        self.rootfs = lamina.path("localhost", "app", "usr", "rootfs")
        self.paths = [f"{self.rootfs}/{name}" for name in files]

    def forget(self):
        """The kernel's pages of the mount alone."""
        for path in self.paths:
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def read_all(self):
        for path in self.paths:
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 17):
                    pass

    def read_few(self):
        numbers = random.Random(1)
        for path in numbers.choices(self.paths, k=READS):
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(fd, 4096, numbers.randrange(max(1, os.fstat(fd).st_size)) & ~4095)
            os.close(fd)

    def measure(self):
        found = {"pass": seconds_of(lambda: os.listdir(self.rootfs))}
        self.read_all()  # what is on disk has been verified from here on
        self.forget()
        found["warm"] = seconds_of(self.read_all)
        self.forget()
        found["few"] = seconds_of(self.read_few)
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as out:
            out.write("1")
        found["cold"] = seconds_of(self.read_all)
        cache = self.lamina.store + "/cache"
        found["disk"] = sum(item.stat().st_blocks * 512 for item in os.scandir(cache))
        return found


def measure(work, layout, kind, files):
    lamina = Lamina(f"{work}/lamina", "--cache-compression", kind, "--cache-size", "none").start()
    try:
        lamina.command("add", "oci:" + layout, "--as", "app")
        return Measured(lamina, files).measure()
    finally:
        lamina.stop()
        shutil.rmtree(f"{work}/lamina", ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="/usr")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="lamina-compression-", dir="/var/tmp")
    try:
        files = files_below(options.folder, options.mib << 20)
        layout = make_image(work, options.folder, files)
        print(f"{len(files)} files, {os.path.getsize(work + '/layer.tar') >> 20} MiB", flush=True)
        rounds = [{kind: measure(work, layout, kind, files) for kind in KINDS} for _ in range(options.rounds)]
        for kind in KINDS:
            disk = rounds[0][kind]["disk"]
            line = f"{kind:5} disk {disk / (1 << 20):6.0f} MiB ({disk / rounds[0]['none']['disk']:.2f})"
            for place in PLACES:
                took = statistics.median(turn[kind][place] for turn in rounds)
                ratio = statistics.median(turn[kind][place] / turn["none"][place] for turn in rounds)
                line += f"  {place} {took:6.2f} s ({ratio:.2f})"
            print(line, flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
