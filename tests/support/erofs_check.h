#pragma once

// What erofs-utils say about an image: an independent judge of the tree writer. One thread.

#include <string>
#include <vector>

#include "overlay/tree.h"

namespace lamina::testing {

// Empty when fsck.erofs finds no errors, else its output. The tree's devices are stood in for by
// sparse files of the right size in `folder`, unless `devices` names files.
std::string FsckComplaints(const Tree& tree, const std::string& folder,
                           std::vector<std::string> devices = {});

// Standard output and error of a command of words without quotes in them.
std::string OutputOf(const std::vector<std::string>& command);

}  // namespace lamina::testing
