#pragma once

// WalkTree: everything below a place in a tree, each directory before what is in it, names in the
// order of their bytes. Pure; any thread. Memory grows with the depth and with the directories on
// the way, not with the tree.

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "overlay/tree.h"

namespace lamina {

struct WalkedEntry {
  std::string_view path;  // from where the walk began, "usr/bin/env"; empty for that place itself
  TreeAttr attr;
  size_t depth = 0;   // 0 where the walk began
  bool last = false;  // of its directory
};

// An error of the visitor ends the walk and is what comes back. `max_depth` 0 visits the place
// itself only. kCorrupt where the tree's directories lead to themselves.
Status WalkTree(const Tree& tree, Nid start, size_t max_depth,
                const std::function<Status(const WalkedEntry&)>& visit);

}  // namespace lamina
