#pragma once

// FindInTree: a path inside a tree, as a process finds it whose root the tree is. Symbolic links
// and ".." never lead out. Pure; any thread.

#include <string_view>

#include "base/result.h"
#include "overlay/tree.h"

namespace lamina {

// "/etc/os-release", with or without the leading slash; "" and "/" are the root. Where
// `follow_last` is not set, a symbolic link at the end of the path is itself what is found.
// kNotFound where a name is not there, kInvalid where one on the way is no directory, kLimit behind
// 40 links.
Result<Nid> FindInTree(const Tree& tree, std::string_view path, bool follow_last);

}  // namespace lamina
