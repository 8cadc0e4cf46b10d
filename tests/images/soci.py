"""Writes zTOCs and SOCI indexes as the SOCI snapshotter does, from the published form of them: entries by Python's
tarfile, checkpoints by zlib (through ctypes, which stops at every block), the flatbuffer by flatc. It knows nothing of lamina.

python3 -m images.soci BLOB SPAN_SIZE [v1|v2|plain|plain-flatbuffer] writes the zTOC of a layer to standard output."""

import contextlib
import ctypes
import datetime
import decimal
import gzip
import http.client
import io
import math
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse

from .oci import IMAGE_INDEX, IMAGE_MANIFEST, Layout, sha256_of

INDEX_V1 = "application/vnd.amazon.soci.index.v1+json"
INDEX_V2 = "application/vnd.amazon.soci.index.v2+json"
ZTOC = "application/octet-stream"
LAYER_DIGEST = "com.amazon.soci.image-layer-digest"
LAYER_TYPE = "com.amazon.soci.image-layer-mediaType"
INDEX_DIGEST = "com.amazon.soci.index-digest"
WINDOW = 32768
BLOCK = 512
_HERE = os.path.dirname(os.path.abspath(__file__))


class _ZStream(ctypes.Structure):
    _fields_ = [("next_in", ctypes.c_void_p), ("avail_in", ctypes.c_uint), ("total_in", ctypes.c_ulong),
                ("next_out", ctypes.c_void_p), ("avail_out", ctypes.c_uint), ("total_out", ctypes.c_ulong),
                ("msg", ctypes.c_char_p), ("state", ctypes.c_void_p), ("zalloc", ctypes.c_void_p),
                ("zfree", ctypes.c_void_p), ("opaque", ctypes.c_void_p), ("data_type", ctypes.c_int),
                ("adler", ctypes.c_ulong), ("reserved", ctypes.c_ulong)]


_Z_BLOCK, _Z_STREAM_END = 5, 1


def checkpoints(blob, span_size):
    """(in, out, bits, window) of the first block and of the next one after each `span_size` bytes of output."""
    zlib = ctypes.CDLL("libz.so.1")
    stream = _ZStream()
    zlib.zlibVersion.restype = ctypes.c_char_p
    if zlib.inflateInit2_(ctypes.byref(stream), 47, zlib.zlibVersion(), ctypes.sizeof(stream)) != 0:
        raise RuntimeError("inflateInit2 failed")
    source = ctypes.create_string_buffer(blob, len(blob))
    piece = ctypes.create_string_buffer(1 << 16)
    stream.next_in, stream.avail_in = ctypes.addressof(source), len(blob)
    out, found, window, last = 0, [], b"", 0
    while True:
        stream.next_out, stream.avail_out = ctypes.addressof(piece), len(piece)
        code = zlib.inflate(ctypes.byref(stream), _Z_BLOCK)
        if code not in (0, _Z_STREAM_END):
            raise RuntimeError(f"inflate failed: {code}")
        written = len(piece) - stream.avail_out
        out += written
        window = (window + piece.raw[:written])[-WINDOW:]
        if code == _Z_STREAM_END:
            break
        at_block = stream.data_type & 128 and not stream.data_type & 64
        if at_block and (out == 0 or out - last > span_size):
            found.append((len(blob) - stream.avail_in, out, stream.data_type & 7, window.rjust(WINDOW, b"\0")))
            last = out
    zlib.inflateEnd(ctypes.byref(stream))
    return found


def _digests(blob, borders):
    """Of each span, given as (first byte, whether the byte before it belongs to it, too)."""
    ends = [at for at, _ in borders[1:]] + [len(blob)]
    return [sha256_of(blob[at - before:end]) for (at, before), end in zip(borders, ends)]


def gzip_info(blob, span_size, version=2):
    """CompressionInfo of a gzip layer. Version 1 of the checkpoints leaves the first one out."""
    points = checkpoints(blob, span_size)
    packed = struct.pack("<iq", len(points), span_size)
    for at, out, bits, window in points[2 - version:]:
        packed += struct.pack("<qqB", at, out, bits) + window
    return {
        "compression_algorithm": "Gzip",
        "max_span_id": len(points) - 1,
        "span_digests": _digests(blob, [(at, int(bits > 0)) for at, _, bits, _ in points]),
        "checkpoints": list(packed),
    }


def plain_info(blob, span_size, flatbuffer=False):
    packed = struct.pack("<iqq", 2, span_size, len(blob))
    if flatbuffer:
        packed = _flatbuffer("zinfo.fbs", {"version": 2, "span_size": span_size, "size": len(blob)})
    borders = [(at, 0) for at in range(0, len(blob), span_size)]
    return {
        "compression_algorithm": "Uncompressed",
        "max_span_id": len(borders) - 1,
        "span_digests": _digests(blob, borders),
        "checkpoints": list(packed),
    }


_TYPES = {tarfile.REGTYPE: "reg", tarfile.AREGTYPE: "reg", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink",
          tarfile.LNKTYPE: "hardlink", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}


def _time(info, number):
    """RFC 3339; every third entry in the zone of a builder that is not at UTC."""
    exact = decimal.Decimal(info.pax_headers.get("mtime", int(info.mtime)))
    seconds = math.floor(exact)
    nanoseconds = int((exact - seconds) * 10**9)
    zone = datetime.timezone(datetime.timedelta(hours=number % 3, minutes=30 * (number % 3 == 2)))
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    text = (epoch + datetime.timedelta(seconds=seconds)).astimezone(zone).isoformat()
    day, offset = text[:19], text[19:]
    fraction = f"{nanoseconds:09}".rstrip("0")
    return day + ("." + fraction if fraction else "") + ("Z" if offset == "+00:00" else offset)


def entries(raw):
    """FileMetadata of a tar's entries, and where Go's reader stops: after the two blocks of zeros."""
    found, end = [], 0
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        for number, info in enumerate(tar):
            found.append({
                "name": info.name + ("/" if info.isdir() else ""),
                "type": _TYPES[info.type],
                "uncompressed_offset": info.offset_data,
                "uncompressed_size": info.size,
                "linkname": info.linkname,
                "mode": info.mode,
                "uid": info.uid,
                "gid": info.gid,
                "uname": info.uname,
                "gname": info.gname,
                "mod_time": _time(info, number),
                "devmajor": info.devmajor,
                "devminor": info.devminor,
                "xattrs": [{"key": key, "value": value} for key, value in sorted(info.pax_headers.items())],
            })
            end = info.offset_data + (info.size if info.isreg() else 0)
    return found, min(len(raw), (end + BLOCK - 1) // BLOCK * BLOCK + 2 * BLOCK)


def _text(value):
    """A string as flatc reads it: bytes beyond printable ASCII by their numbers."""
    escaped = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02X}"
                      for byte in value.encode("utf-8", "surrogateescape"))
    return f'"{escaped}"'


def _json(value):
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f'"{key}":{_json(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return str(value)


def _flatbuffer(schema, document):
    with tempfile.TemporaryDirectory() as work:
        with open(work + "/document.json", "w", encoding="ascii") as stream:
            stream.write(_json(document))
        subprocess.run(["flatc", "--binary", "--allow-non-utf8", "-o", work, os.path.join(_HERE, schema),
                        work + "/document.json"], check=True)
        with open(work + "/document.bin", "rb") as stream:
            return stream.read()


def document(blob, span_size, kind="v2"):
    """A zTOC before it is packed, for tests that want to spoil it."""
    raw = blob if kind.startswith("plain") else gzip.decompress(blob)
    files, end = entries(raw)
    if kind.startswith("plain"):
        info = plain_info(blob, span_size, kind == "plain-flatbuffer")
    else:
        info = gzip_info(blob, span_size, int(kind[1:]))
    return {
        "version": "0.9",
        "build_tool_identifier": "lamina's tests",
        "compressed_archive_size": len(blob),
        "uncompressed_archive_size": end,
        "toc": {"metadata": files},
        "compression_info": info,
    }


def pack(ztoc):
    return _flatbuffer("ztoc.fbs", ztoc)


def make(blob, span_size, kind="v2"):
    return pack(document(blob, span_size, kind))


def _read(path):
    with open(path, "rb") as stream:
        return stream.read()


def put_ztocs(layout, manifest, span_size, skip=(), kinds=None, spoil=None):
    """Stores a zTOC for each layer but those with a number in `skip`; their descriptors as a SOCI index has them.

    kinds: {number of the layer: "v1", …}; spoil(number, zTOC document) may change one before it is packed."""
    found = []
    for number, layer in enumerate(manifest["layers"]):
        if number in skip:
            continue
        default = "v2" if layer["mediaType"].endswith("gzip") else "plain"
        ztoc = document(_read(layout.blob_path(layer["digest"])), span_size, (kinds or {}).get(number, default))
        if spoil:
            spoil(number, ztoc)
        descriptor = layout.put(pack(ztoc), ZTOC)
        descriptor["annotations"] = {LAYER_DIGEST: layer["digest"], LAYER_TYPE: layer["mediaType"],
                                     "com.amazon.soci.span-size": str(span_size)}
        found.append(descriptor)
    return found


def put_index_manifest(layout, kind, ztocs, subject=None):
    """Stores a SOCI index; its descriptor."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "config": layout.put(b"{}", kind),
        "layers": ztocs,
        "annotations": {"com.amazon.soci.build-tool-identifier": "lamina's tests"},
    }
    if subject:
        manifest["subject"] = subject
    return dict(layout.put_json(manifest, IMAGE_MANIFEST), artifactType=kind)


def add_v1(layout, image, span_size, **more):
    """Stores a SOCI index of version 1, which names the image as its subject; its descriptor."""
    layout = layout if isinstance(layout, Layout) else Layout(layout)
    subject = {key: image[key] for key in ("mediaType", "digest", "size")}
    ztocs = put_ztocs(layout, layout.document(image["digest"]), span_size, **more)
    return put_index_manifest(layout, INDEX_V1, ztocs, subject)


def fallback_tag(image):
    """The tag that stands in for the list of what refers to the image."""
    return image["digest"].replace(":", "-")


def put_referrers(layout, referrers):
    """Stores the document that such a tag names; its descriptor."""
    return layout.put_json({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": referrers}, IMAGE_INDEX)


def add_v2(layout, image, span_size, tag, **more):
    """Stores the image anew, with the annotation that names its SOCI index of version 2, and tags it; the descriptors of
    both."""
    layout = layout if isinstance(layout, Layout) else Layout(layout)
    manifest = layout.document(image["digest"])
    index = put_index_manifest(layout, INDEX_V2, put_ztocs(layout, manifest, span_size, **more))
    manifest.setdefault("annotations", {})[INDEX_DIGEST] = index["digest"]
    descriptor = layout.put_json(manifest, IMAGE_MANIFEST)
    layout.tag(descriptor, tag)
    return descriptor, index


def _ask(host, method, target, body=b"", media_type="application/octet-stream"):
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, target, body, {"Content-Type": media_type})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {target}: {answer.status} {text[:500]}")
        return answer.headers.get("Location")
    finally:
        connection.close()


def _push_blob(host, name, layout, digest):
    where = urllib.parse.urlsplit(_ask(host, "POST", f"/v2/{name}/blobs/uploads/"))
    query = (where.query + "&" if where.query else "") + "digest=" + urllib.parse.quote(digest)
    _ask(host, "PUT", f"{where.path}?{query}", _read(layout.blob_path(digest)))


def push(host, name, layout, descriptor, tag=None):
    """Sends an artifact, or an index of them, as it is: skopeo writes indexes of artifacts anew."""
    document = layout.document(descriptor["digest"])
    for entry in document.get("manifests", []):
        push(host, name, layout, entry)
    for entry in [document["config"], *document["layers"]] if "config" in document else []:
        _push_blob(host, name, layout, entry["digest"])
    _ask(host, "PUT", f"/v2/{name}/manifests/{tag or descriptor['digest']}", _read(layout.blob_path(descriptor["digest"])),
         descriptor["mediaType"])


def main():
    blob, span_size, kind = (sys.argv[1:] + ["v2"])[:3]
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(make(_read(blob), int(span_size), kind))


if __name__ == "__main__":
    main()
