#!/usr/bin/env python3
"""How fast a large layer comes from a registry that answers late: the first stream of it (the pass), and a large file read
in order once nothing is local.

    bench/transfer.py BINARY [BINARY...] [--delays 0,10,50] [--rate MB/s] [--rounds 3] [--kind tar]

Several binaries are measured by turns and compared with the first. The registry is a real one on loopback, behind a proxy
that holds each answer back so many milliseconds and gives each connection this rate; with a delay of 0 and no rate it is
asked directly.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))

from images import small  # noqa: E402
from images.oci import Layout  # noqa: E402
from mount.harness import DockerRegistry, Lamina, canonical_host  # noqa: E402
from mount.proxy import Proxy  # noqa: E402


def seconds_of(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def read_all(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def measure(binary, folder, host):
    """Seconds of the pass, and of the reading."""
    os.environ["LAMINA_BINARY"] = binary
    lamina = Lamina(folder).start()
    try:
        rootfs = lamina.path(canonical_host(host), "large", "large", "rootfs")
        indexing = seconds_of(lambda: os.listdir(rootfs))
        lamina.clear_cache()
        os.listdir(rootfs)
        return indexing, seconds_of(lambda: read_all(rootfs + "/file"))
    finally:
        lamina.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="+")
    parser.add_argument("--delays", default="0,10,50", help="milliseconds before each answer")
    parser.add_argument("--rate", type=float, default=0, help="MB/s of a connection; 0: as fast as it goes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", default="tar", help="tar, gzip or zstd-frames")
    parser.add_argument("--mib", type=int, default=256, help="size of the file")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="lamina-transfer-", dir="/var/tmp")
    registry = DockerRegistry(work + "/registry").start()
    proxy = Proxy(registry.host)
    try:
        layout = Layout(work + "/layout")
        small.make(layout, "large", {"file": os.urandom(options.mib << 20)}, kind=options.kind)
        registry.push(layout.path, "large", "large")
        size = (options.mib << 20) / 1e6
        for delay in map(int, options.delays.split(",")):
            direct = delay == 0 and not options.rate
            proxy.heal()
            proxy.fail("/blobs/", delay=delay / 1000, rate=int(options.rate * 1e6))
            rounds = [[measure(binary, f"{work}/lamina", registry.host if direct else proxy.host)
                       for binary in options.binaries] for _ in range(options.rounds)]
            first = None
            for number, binary in enumerate(options.binaries):
                indexing, reading = (statistics.median(turn[number][part] for turn in rounds) for part in (0, 1))
                first = first or (indexing, reading)
                print(f"{options.kind} {delay:3} ms  {binary}: pass {size / indexing:6.0f} MB/s ({first[0] / indexing:.2f} x), "
                      f"read {size / reading:6.0f} MB/s ({first[1] / reading:.2f} x)", flush=True)
    finally:
        proxy.stop()
        registry.stop()
        shutil.rmtree(work, ignore_errors=True)


main()
