#!/usr/bin/env python3
"""What the first start from an image costs over a slow link, and what it would cost at least if names showed before the
passes over the layers have ended: the time until the last byte that the start reads has come.

    LAMINA_BINARY=build/release/cmd/lamina bench/first_start.py [--mbit 100] [--rounds 3]

The image is the Debian one of the tests, in a registry on loopback behind a proxy that gives each layer at this rate.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))

from images import cache  # noqa: E402
from images.oci import Layout  # noqa: E402
from mount.harness import DockerRegistry, Lamina, canonical_host  # noqa: E402
from mount.proxy import Proxy  # noqa: E402

COMMAND = ["/bin/sh", "-c", ":"]


def layers_of(layout, tag):
    with open(layout.path + "/index.json", encoding="utf-8") as stream:
        named = {m["annotations"]["org.opencontainers.image.ref.name"]: m["digest"] for m in json.load(stream)["manifests"]}
    return layout.document(named[tag])["layers"]


def start(lamina, proxy):
    """Seconds of the start of a shell."""
    rootfs = lamina.path(canonical_host(proxy.host), "debian", "gzip", "rootfs")
    begin = time.monotonic()
    subprocess.run(["chroot", rootfs, *COMMAND], check=True)
    return time.monotonic() - begin


def last_byte(proxy, layer):
    """Where in the layer the last of the ranges ends that were asked for."""
    ends = [int(re.search(r"-(\d+)", get.byte_range).group(1)) + 1 for get in proxy.gets(layer["digest"]) if get.byte_range]
    return max(ends, default=0)


def measure(folder, layers, upstream, rate):
    proxy = Proxy(upstream)
    lamina = Lamina(folder).start()
    try:
        proxy.fail("/blobs/", rate=rate)
        cold = start(lamina, proxy)
        proxy.heal()
        lamina.clear_cache()  # the indexes stay: what is asked for now is what the start reads
        proxy.forget()
        start(lamina, proxy)
        return cold, max(last_byte(proxy, layer) for layer in layers) / rate
    finally:
        lamina.stop()
        proxy.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mbit", type=float, default=100, help="of the link, for each layer (100)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rate = int(options.mbit * 1e6 / 8)
    layout = Layout(cache.get("debian") + "/layout")
    layers = layers_of(layout, "gzip")
    work = tempfile.mkdtemp(prefix="lamina-first-start-")
    registry = DockerRegistry(work + "/registry").start()
    rounds = []
    try:
        registry.push(layout.path, "gzip", "debian")
        for number in range(options.rounds):
            rounds.append(measure(f"{work}/{number}", layers, registry.host, rate))
    finally:
        registry.stop()
        shutil.rmtree(work, ignore_errors=True)
    cold, least = (statistics.median(column) for column in zip(*rounds))
    largest = max(layer["size"] for layer in layers)
    print(f"{len(layers)} layers, the largest {largest / 1e6:.1f} MB, {options.mbit:g} Mbit/s for each")
    print(f"  the largest layer comes in                    {largest / rate:6.2f} s")
    print(f"  the first start of a shell                    {cold:6.2f} s")
    print(f"  the last byte that it reads has come after    {least:6.2f} s")
    print(f"  lost by waiting for the end of the passes     {cold - least:6.2f} s")


main()
