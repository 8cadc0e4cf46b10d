#pragma once

// The names of a merged directory as EROFS wants them: sorted bytewise with "." and ".." among
// them, cut into blocks that stand alone. Pure functions over a MergedTree; any thread.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "overlay/erofs_format.h"
#include "overlay/merge.h"

namespace lamina {

struct DirectoryName {
  std::string_view text;
  uint32_t inode = 0;  // in MergedTree::inodes
};

Status ForEachName(const LayerStack& stack, const MergedTree& tree, uint32_t directory,
                   const std::function<Status(const DirectoryName&)>& take);

// Bytes of all blocks, the last one counted only as far as it is used.
Result<uint64_t> DirectorySize(const LayerStack& stack, const MergedTree& tree, uint32_t directory);

// Gives block after block, each padded with zeros but the last. Inodes have their places already.
Status ForEachBlock(const LayerStack& stack, const MergedTree& tree, uint32_t directory,
                    const std::function<Status(ByteSpan)>& take);

}  // namespace lamina
