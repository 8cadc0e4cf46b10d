#pragma once

// MergeLayers: the merged tree of a stack of layers as two flat arrays, before it has bytes. Inodes
// stand in the order in which they are laid out: a directory's children are neighbours, the root is
// first. Names stay in the mapped indexes. About fifty bytes an entry. A MergedTree belongs to one
// thread; the stack outlives it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "overlay/layer_stack.h"
#include "overlay/tree_builder.h"

namespace lamina {

inline constexpr uint32_t kNone = 0xFFFFFFFF;
inline constexpr uint32_t kMaxDepth = 1024;

// One name in a directory; the text is that of the layer's entry.
struct MergedName {
  uint32_t entry = 0;
  uint32_t inode = 0;  // in MergedTree::inodes
  uint16_t layer = 0;
};

struct MergedInode {
  uint32_t source =
      kNone;  // inode of `layer` with the attributes; kNone: those of an implicit directory
  uint16_t layer = 0;
  bool directory = false;
  bool whiteout = false;  // shown as a character device 0/0; has no source
  bool opaque = false;    // a directory that gets trusted.overlay.opaque
  uint32_t nlink =
      0;  // names in the merged tree; of a directory 2 and one for each directory in it
  // Directories only.
  uint32_t parent = kNone;
  uint32_t first_name = 0;
  uint32_t name_count = 0;
  uint32_t directory_size = 0;  // bytes of entries and names in EROFS blocks
  // Set by PlaceInodes().
  uint8_t file_type = 0;  // an erofs::FileType
  uint32_t slot = 0;      // offset / 32: the nid
  uint32_t block = 0;     // the first of its own blocks, if it has any
};

struct MergedTree {
  std::vector<MergedName> names;
  std::vector<MergedInode> inodes;  // [0] is the root

  // The path of a directory, and of a file by any one of its names; "/" for the root. Slow: for
  // messages.
  std::string PathOf(const LayerStack& stack, uint32_t inode) const;
};

Result<MergedTree> MergeLayers(const LayerStack& stack, const TreeOptions& options,
                               BuildWork& work);

}  // namespace lamina
