#pragma once

// InodeShape: how one inode of a merged tree lies in the image: its layout, size, extended
// attributes and chunks. Computed once for placing it and once more for writing it, so that nothing
// of it is kept in memory. Pure functions over a MergedTree; any thread.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "overlay/erofs_format.h"
#include "overlay/merge.h"

namespace lamina {

struct InodeShape {
  LayerInode source;       // attributes; for whiteouts and implicit directories made up
  uint16_t file_mode = 0;  // with the type bits
  uint64_t size = 0;       // as stat shows it
  erofs::Layout layout = erofs::Layout::kPlain;
  uint64_t xattr_bytes = 0;   // behind the inode
  uint64_t inline_bytes = 0;  // behind the xattrs, within one block
  uint64_t plain_blocks = 0;  // blocks of its own elsewhere in the image
  uint32_t chunk_bits = 0;
  uint64_t chunk_count = 0;
};

// Errors name the layer and the file.
Result<InodeShape> ShapeOf(const LayerStack& stack, const TreeOptions& options,
                           const MergedTree& tree, uint32_t inode);

// The bytes that stand between the inode and its chunks or inline tail.
Result<std::vector<uint8_t>> EncodeXattrs(const LayerStack& stack, const MergedInode& inode,
                                          const LayerInode& source);

// The chunk array of a regular file, entry by entry.
Status ForEachChunk(const LayerStack& stack, const MergedInode& inode, const InodeShape& shape,
                    const std::function<Status(const erofs::ChunkIndex&)>& take);

}  // namespace lamina
