"""Keeps what the recipes of this folder make, under a key of the recipe, so that a second run is fast."""

import contextlib
import fcntl
import hashlib
import os
import shutil

from . import big, debian, toc

RECIPES = {"debian": debian.make, "big": big.make, "toc": toc.make}
_HERE = os.path.dirname(os.path.abspath(__file__))


def folder():
    default = os.path.join(_HERE, "..", "..", "build", "test-images")
    return os.path.abspath(os.environ.get("LAMINA_TEST_CACHE", default))


def _key(name):
    """A digest of what the result depends on: the recipes, and for Debian where packages come from."""
    digest = hashlib.sha256()
    sources = sorted(os.path.join(_HERE, file) for file in os.listdir(_HERE) if file.endswith(".py"))
    for path in sources + (debian.apt_sources() if name == "debian" else []):
        with open(path, "rb") as stream:
            digest.update(stream.read() + b"\0")
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path):
    with open(path, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def get(name):
    """The folder that the recipe filled; fills it first where it has not been. Several processes may ask."""
    os.makedirs(folder(), exist_ok=True)
    ready = os.path.join(folder(), f"{name}-{_key(name)}")
    with _locked(os.path.join(folder(), f".{name}.lock")):
        if not os.path.isdir(ready):
            for old in os.listdir(folder()):
                if old.startswith(name + "-"):
                    shutil.rmtree(os.path.join(folder(), old))
            making = os.path.join(folder(), f".{name}.making")
            shutil.rmtree(making, ignore_errors=True)
            os.makedirs(making)
            RECIPES[name](making)
            os.rename(making, ready)
    return ready
