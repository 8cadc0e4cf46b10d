#pragma once

// PlaceInodes: gives every inode of a merged tree its place in the image: superblock, device table,
// inodes one after another (each with its xattrs, chunks and inline tail), then the blocks of long
// directories in the same order. One thread.

#include <cstdint>

#include "base/result.h"
#include "overlay/inode_shape.h"
#include "overlay/merge.h"

namespace lamina {

struct ImageLayout {
  uint64_t devices = 0;  // layers that have a device: all, or those up to TreeOptions::only_layer
  uint64_t inodes_end = 0;  // byte behind the last inode
  uint64_t blocks = 0;      // of the whole image
  bool has_xattrs = false;
};

// Fills in slot, block, file_type and directory_size of each inode. kLimit where the image would
// not fit its format.
Result<ImageLayout> PlaceInodes(const LayerStack& stack, const TreeOptions& options,
                                const BuildWork& work, MergedTree* tree);

}  // namespace lamina
