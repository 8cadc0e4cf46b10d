"""[S20] Random reads of every kind of layer there is, past the kernel's pages and from an empty cache again and again; and
streams of more than 4 GiB."""

import hashlib
import json
import mmap
import os
import random
import struct
import subprocess
import tarfile
import zlib

from images import cache, soci, toc
from images.oci import Layer, Layout

from mount.harness import MountCase, canonical_host, run

READS = 100_000  # of each kind of layer
ROUNDS = 4  # each begins with an empty cache
MOST_BYTES = 16 << 10  # of one read
SPAN = 256 << 10
CHANGED = ("gone", "hidden/below", "etc/empty")  # by the upper layer
OWN = {
    "tar": None,
    "gzip": "gzip -6",
    "pigz": "pigz -p 2",
    "gzip-members": None,
    "gzip-stored": "pigz -0",
    "zstd": "zstd -3",
    "zstd-threads": "zstd -T0 -19 --long=27 -B256K",
    "zstd-frames": None,
    "pzstd": "pzstd -p 2 -5",
}
FOREIGN = {"estargz": "eStargz", "legacy": "eStargz", "stargz-zstd": "zstd:chunked", "chunked-new": "zstd:chunked"}


class Reader:
    """Reads that the kernel keeps no page of. Compares each with the bytes that the tar has there."""

    def __init__(self, root, files, seed):
        self._random = random.Random(seed)
        self._fds = [(os.open(f"{root}/{name}", os.O_RDONLY | os.O_DIRECT), data) for name, data in files.items()]
        # Large files more often, and each file at times.
        self._weights = [len(data) + MOST_BYTES for data in files.values()]
        self._buffer = mmap.mmap(-1, MOST_BYTES)
        self._view = memoryview(self._buffer)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for fd, _ in self._fds:
            os.close(fd)

    def wrong_reads(self, count):
        """The reads (size of the file, offset, bytes) whose answer was not what the tar has."""
        wrong = []
        for fd, data in self._random.choices(self._fds, self._weights, k=count):
            offset = self._random.randrange(len(data) + 1)
            size = self._random.choice((1, 100, 4096, self._random.randrange(1, MOST_BYTES)))
            got = os.preadv(fd, [self._view[:size]], offset)
            if self._view[:got] != data[offset:offset + size]:
                wrong.append((len(data), offset, size))
        return wrong


class RandomReadsTest(MountCase):
    def setUp(self):
        super().setUp()
        self.image = cache.get("toc")
        self.raw = self.image + "/raw/0.tar"
        with tarfile.open(self.raw) as tar:
            self.files = {member.name: memoryview(tar.extractfile(member).read())
                          for member in tar if member.isreg() and member.name not in CHANGED}

    def check(self, daemon, name, tag):
        """The image NAME:TAG, whose bottom layer has the files."""
        with self.subTest(f"{name}:{tag}"):
            for number in range(ROUNDS):
                daemon.clear_cache()
                with Reader(f"{daemon.path(name, tag)}/rootfs", self.files, f"{name} {tag} {number}") as reader:
                    self.assertEqual(reader.wrong_reads(READS // ROUNDS), [])

    def index_of(self, daemon, name, tag):
        """What the bottom layer is read by."""
        with open(f"{daemon.path(name, tag)}/status.json", "rb") as stream:
            return json.load(stream)["layers"][0]["index"]

    def pack(self, kind, command):
        """A layer of the tar as `kind` says."""
        if command is None:
            return Layer(self.raw, kind)
        blob = f"{self.folder}/{kind}.blob"
        with open(self.raw, "rb") as source, open(blob, "wb") as out:
            subprocess.run(command.split() + ["-c"], stdin=source, stdout=out, check=True)
        return Layer(self.raw, "zstd" if "zstd" in command else "gzip", blob)

    def test_layers_without_an_index(self):
        layout = Layout(self.folder + "/layout")
        for kind, command in OWN.items():
            layout.tag(layout.put_image([self.pack(kind, command)]), kind)
        daemon = self.lamina()
        daemon.command("add", f"oci:{layout.path}", "--as", "layout")
        for kind in OWN:
            self.check(daemon, "localhost/layout", kind)
            self.assertEqual(self.index_of(daemon, "localhost/layout", kind), "own")

    def test_layers_with_a_table_of_contents(self):
        """Only those of a registry are read by what they carry."""
        server, daemon = self.registry(), self.lamina()
        for name, kind in FOREIGN.items():
            server.push(f"{self.image}/layouts/{name}", toc.TAG, name)
            self.check(daemon, f"{canonical_host(server.host)}/{name}", toc.TAG)
            self.assertEqual(self.index_of(daemon, f"{canonical_host(server.host)}/{name}", toc.TAG), kind)

    def test_layers_with_a_soci_index(self):
        server, daemon = self.registry(), self.lamina()
        layout = Layout(self.folder + "/layout")
        first = layout.put_image([Layer(self.raw, "gzip")])
        layout.tag(first, "v1")
        _, named = soci.add_v2(layout, layout.put_image([Layer(self.raw, "gzip-members")]), SPAN, "v2")
        referring = soci.add_v1(layout, first, SPAN)
        for descriptor in (named, referring):
            soci.push(server.host, "app", layout, descriptor, None)
        soci.push(server.host, "app", layout, soci.put_referrers(layout, [referring]), soci.fallback_tag(first))
        for tag in ("v1", "v2"):
            server.push(layout.path, tag, "app")
            self.check(daemon, f"{canonical_host(server.host)}/app", tag)
            self.assertEqual(self.index_of(daemon, f"{canonical_host(server.host)}/app", tag), "SOCI")


def _tar_header(name, size):
    """GNU's form of a size that has no room in octal digits."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


class LongStreamTest(MountCase):
    """A file of zeros of more than 4 GiB, and one of noise behind it."""

    BLOCK = 64 << 20
    BLOCKS = 65
    NOISE = random.Random(5).randbytes(3 << 20)

    def setUp(self):
        super().setUp()
        self.head = _tar_header("zeros", self.BLOCK * self.BLOCKS)
        self.tail = _tar_header("noise", len(self.NOISE)) + self.NOISE + bytes(1024)

    def pieces(self):
        yield self.head
        zeros = bytes(self.BLOCK)
        for _ in range(self.BLOCKS):
            yield zeros
        yield self.tail

    def gzip_blob(self, path):
        """One member. The blocks are equal and flushed, so that they need be packed once only."""
        def packed(data, last=False):
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            return packer.compress(data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
        checksum = size = 0
        for piece in self.pieces():
            checksum, size = zlib.crc32(piece, checksum), size + len(piece)
        with open(path, "wb") as out:
            out.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed(self.head) + packed(bytes(self.BLOCK)) * self.BLOCKS)
            out.write(packed(self.tail, last=True) + struct.pack("<II", checksum, size & 0xffffffff))

    def zstd_blob(self, path):
        with open(path, "wb") as out:
            packer = subprocess.Popen(["zstd", "-1", "-q", "-c"], stdin=subprocess.PIPE, stdout=out)
            for piece in self.pieces():
                packer.stdin.write(piece)
            packer.stdin.close()
            self.assertEqual(packer.wait(300), 0)

    def put(self, layout, tag, write):
        """An image of one layer; the tar itself is never on disk."""
        blob = f"{self.folder}/{tag}.blob"
        write(blob)
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        image = layout.put_image([Layer(blob, tag, blob)])
        manifest = layout.document(image["digest"])
        config = layout.document(manifest["config"]["digest"])
        config["rootfs"]["diff_ids"] = ["sha256:" + digest.hexdigest()]
        manifest["config"] = layout.put_json(config, manifest["config"]["mediaType"])
        layout.tag(layout.put_json(manifest, image["mediaType"]), tag)

    def test_what_lies_behind_4_gib_is_read(self):
        layout = Layout(self.folder + "/layout")
        self.put(layout, "gzip", self.gzip_blob)
        self.put(layout, "zstd", self.zstd_blob)
        daemon = self.lamina()
        daemon.command("add", f"oci:{layout.path}", "--as", "layout")
        for tag in ("gzip", "zstd"):
            with self.subTest(tag):
                daemon.clear_cache()
                files = {"noise": memoryview(self.NOISE)}
                root = daemon.path("localhost", "layout", tag, "rootfs")
                with Reader(root, files, tag) as reader:
                    self.assertEqual(reader.wrong_reads(1000), [])
                self.assertEqual(os.stat(root + "/zeros").st_size, self.BLOCK * self.BLOCKS)
                with open(root + "/zeros", "rb") as zeros:
                    for offset in (0, (1 << 32) - 5, self.BLOCK * self.BLOCKS - 10):
                        self.assertEqual(os.pread(zeros.fileno(), 10, offset), bytes(10))
                blocks = int(run("du", "--block-size=1", "-s", daemon.store + "/cache").stdout.split()[0])
                self.assertLess(blocks, 2 * len(self.NOISE) + (4 << 20))
