"""Makes layer tars entry by entry with Python's tarfile: small, exact, and without needing root."""

import io
import tarfile

MTIME = "1700000000.123456789"  # text: a float has no room for nanoseconds
OPAQUE = ".wh..wh..opq"


class TarLayer:
    """Collects entries and writes them as one PAX tar. Names may be bytes that are no UTF-8."""

    def __init__(self, path):
        self.path = path
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._tar.close()

    def _info(self, name, kind, mode, mtime=MTIME, uid=0, gid=0, xattrs=None):
        if isinstance(name, bytes):
            name = name.decode("utf-8", "surrogateescape")
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
        info.pax_headers["mtime"] = mtime
        for key, value in (xattrs or {}).items():
            info.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8", "surrogateescape")
        return info

    def file(self, name, data=b"", mode=0o644, **more):
        info = self._info(name, tarfile.REGTYPE, mode, **more)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def directory(self, name, mode=0o755, **more):
        self._tar.addfile(self._info(name, tarfile.DIRTYPE, mode, **more))
        return self

    def symlink(self, name, target, **more):
        info = self._info(name, tarfile.SYMTYPE, 0o777, **more)
        info.linkname = target if isinstance(target, str) else target.decode("utf-8", "surrogateescape")
        self._tar.addfile(info)
        return self

    def hardlink(self, name, target, **more):
        info = self._info(name, tarfile.LNKTYPE, 0o644, **more)
        info.linkname = target if isinstance(target, str) else target.decode("utf-8", "surrogateescape")
        self._tar.addfile(info)
        return self

    def device(self, name, kind, major, minor, mode=0o600, **more):
        info = self._info(name, {"char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE}[kind], mode, **more)
        info.devmajor, info.devminor = major, minor
        self._tar.addfile(info)
        return self

    def fifo(self, name, mode=0o600, **more):
        self._tar.addfile(self._info(name, tarfile.FIFOTYPE, mode, **more))
        return self

    def offset(self):
        """Where the next entry begins; everything before is in the file."""
        self._tar.fileobj.flush()
        return self._tar.offset

    def whiteout(self, name):
        folder, _, base = name.rpartition("/")
        return self.file((folder + "/" if folder else "") + ".wh." + base)

    def opaque(self, folder):
        return self.file(f"{folder}/{OPAQUE}")
