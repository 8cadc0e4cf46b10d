#pragma once

// WriteImage: the bytes of a placed tree, front to back in one go: superblock, device table,
// inodes, blocks of long directories, trailer. One thread; blocks on local disk.

#include <cstdint>

#include "base/digest.h"
#include "base/result.h"
#include "overlay/image_layout.h"

namespace lamina {

// Bytes written, the trailer's included. `name` is for messages.
Result<uint64_t> WriteImage(const LayerStack& stack, const TreeOptions& options,
                            const BuildWork& work, const MergedTree& tree,
                            const ImageLayout& layout, const Digest& key, int fd,
                            const std::string& name);

}  // namespace lamina
