#!/usr/bin/env python3
"""Holds the includes of the project against the picture in docs/design.md.

Dependencies point one way: base <- fetch, index; index <- overlay; those <- fs <- cmd. fetch and index are siblings. Only
fs/fuse_* sees libfuse, and headers of the project keep heavy headers out. tests and bench may include anything.

Usage: layering_test.py ROOT
"""

import pathlib
import re
import sys
import tempfile
import unittest

# Folder -> the folders below it that it may include, besides itself.
MAY_INCLUDE = {
    "base": set(),
    "fetch": {"base"},
    "index": {"base"},
    "overlay": {"base", "index"},
    "fs": {"base", "fetch", "index", "overlay"},
    "cmd": {"base", "fetch", "index", "overlay", "fs"},
}
SOURCES = {".h", ".hpp", ".cc", ".cpp"}
HEADERS = {".h", ".hpp"}

# <nlohmann/json_fwd.hpp> is what a header may have instead.
HEAVY = re.compile(r"^(nlohmann/(?!json_fwd\.hpp$)|spdlog/|curl/|sqlite3\.h$|sqlite3ext\.h$|CLI/|CLI11)")
LIBFUSE = re.compile(r"^(fuse3?/|fuse(_\w+)?\.h$|cuse_lowlevel\.h$)")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
LIBRARY_CALL = re.compile(r"lamina_library\(\s*(\w+)(.*?)\)", re.DOTALL)
DEPS = re.compile(r"\bDEPS\s+((?:[a-z_]+\s*)+)")


def check_project_include(folder, target, quoted):
    """The complaint about an include of another file of the project, or None."""
    top, slash, _ = target.partition("/")
    if not slash or top not in MAY_INCLUDE:
        if quoted:
            return f'"{target}" is not a path from the root into one of the folders below'
        return None
    if top == folder or top in MAY_INCLUDE[folder]:
        return None
    return f"{folder} must not include {target}"


def check_include(path, target, quoted):
    """path: relative to the root."""
    complaint = None
    if LIBFUSE.match(target):
        if not (path.parts[0] == "fs" and path.name.startswith("fuse_")):
            complaint = f"only fs/fuse_* may include libfuse's <{target}>"
    elif HEAVY.match(target):
        if path.suffix in HEADERS:
            complaint = f"the heavy header <{target}> belongs into a .cc file"
    else:
        complaint = check_project_include(path.parts[0], target, quoted)
    return complaint


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_source(root, file):
    path = file.relative_to(root)
    text = file.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        quoted = match.group(1) is not None
        target = match.group(1) if quoted else match.group(2)
        complaint = check_include(path, target, quoted)
        if complaint:
            yield f"{path}:{line_of(text, match.start())}: {complaint}"


def check_cmake(root, folder):
    """The folders that a library is linked to obey the same picture."""
    file = root / folder / "CMakeLists.txt"
    if not file.is_file():
        return
    for library, body in LIBRARY_CALL.findall(file.read_text(encoding="utf-8")):
        deps = DEPS.search(body)
        for dep in deps.group(1).split() if deps else []:
            if dep in MAY_INCLUDE and dep not in MAY_INCLUDE[folder] | {folder}:
                yield f"{folder}/CMakeLists.txt: {library} must not be linked to {dep}"


def violations(root):
    found = []
    for folder in MAY_INCLUDE:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in SOURCES and file.is_file():
                found.extend(check_source(root, file))
        found.extend(check_cmake(root, folder))
    return found


class LayeringTest(unittest.TestCase):
    root = None

    def test_project_obeys_the_picture(self):
        self.assertEqual(violations(self.root), [])

    def test_there_is_something_to_check(self):
        for folder in ("base", "fetch", "index", "overlay"):
            includes = sum(
                len(INCLUDE.findall(file.read_text(encoding="utf-8")))
                for file in (self.root / folder).rglob("*.cc"))
            self.assertGreater(includes, 0, folder)


class SelfCheckTest(unittest.TestCase):
    """The checker itself, on made-up trees of one file."""

    def check(self, name, text):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            file = root / name
            file.parent.mkdir(parents=True)
            file.write_text(text, encoding="utf-8")
            return violations(root)

    def assert_flagged(self, name, text, words):
        found = self.check(name, text)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def assert_clean(self, name, text):
        self.assertEqual(self.check(name, text), [])

    def test_upward_includes_are_flagged(self):
        above = {"base": "fetch", "fetch": "fs", "index": "overlay", "overlay": "fs", "fs": "cmd"}
        for folder, upper in above.items():
            self.assert_flagged(f"{folder}/a.cc", f'#include "{upper}/b.h"\n', f"{upper}/b.h")

    def test_sideways_includes_are_flagged(self):
        for folder, sibling in (("fetch", "index"), ("index", "fetch"), ("overlay", "fetch")):
            self.assert_flagged(f"{folder}/a.h", f'#include "{sibling}/b.h"\n', f"{sibling}/b.h")

    def test_every_spelling_is_seen_and_its_line_named(self):
        for spelling in ("#include <fs/b.h>", '  #  include\t"fs/b.h"', '#include"fs/b.h"  // why'):
            self.assert_flagged("index/sub/a.h", f"// one\n\n{spelling}\n", "index/sub/a.h:3: ")

    def test_includes_out_of_the_picture_are_flagged(self):
        self.assert_flagged("base/a.cc", '#include "tests/fakes/b.h"\n', "tests/fakes/b.h")
        self.assert_flagged("base/a.cc", '#include "b.h"\n', '"b.h"')
        self.assert_flagged("fetch/a.cc", '#include "../index/b.h"\n', "../index/b.h")

    def test_libfuse_is_flagged_outside_its_files(self):
        for header in ("fuse3/fuse_lowlevel.h", "fuse_lowlevel.h", "fuse.h", "fuse/fuse.h"):
            for name in ("fs/tree.cc", "cmd/fuse_main.cc", "base/a.h"):
                self.assert_flagged(name, f"#include <{header}>\n", header)
            self.assert_clean("fs/fuse_adapter.cc", f"#include <{header}>\n")
        self.assert_clean("fs/tree.cc", '#include "fs/fuse_adapter.h"\n#include <linux/fuse.h>\n')

    def test_heavy_headers_are_flagged_in_headers_only(self):
        for header in ("nlohmann/json.hpp", "spdlog/spdlog.h", "curl/curl.h", "sqlite3.h",
                       "CLI/CLI.hpp", "CLI11.hpp"):
            self.assert_flagged("cmd/a.h", f"#include <{header}>\n", header)
            self.assert_clean("cmd/a.cc", f"#include <{header}>\n")
        self.assert_clean("fetch/a.h", "#include <nlohmann/json_fwd.hpp>\n")

    def test_downward_includes_are_clean(self):
        for folder, below in MAY_INCLUDE.items():
            lines = [f'#include "{lower}/b.h"\n' for lower in sorted(below | {folder})]
            self.assert_clean(f"{folder}/a.h", "#include <vector>\n" + "".join(lines))

    def test_tests_may_include_anything(self):
        self.assert_clean("tests/a.h", '#include "fs/b.h"\n#include <fuse.h>\n#include <sqlite3.h>\n')

    def test_links_against_the_picture_are_flagged(self):
        text = "lamina_library(index\n  SOURCES\n    a.cc\n  DEPS base fetch\n  LIBS PkgConfig::X)\n"
        self.assert_flagged("index/CMakeLists.txt", text, "must not be linked to fetch")
        self.assert_clean("index/CMakeLists.txt", text.replace(" fetch", ""))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: layering_test.py ROOT")
    LayeringTest.root = pathlib.Path(sys.argv.pop()).resolve()
    unittest.main()
