#pragma once

// ExtractTar: puts the members of a tar into the current folder (libarchive does it), by modes,
// times, owners (as root), hard links, xattrs and holes. Nothing is written outside that folder,
// and nothing through a symbolic link in it, whatever the members are called. One thread.

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace lamina {

struct ExtractReport {
  uint64_t members = 0;
  // What could not be made or is not as it was, in words; the first few of `problem_count`.
  std::vector<std::string> problems;
  uint64_t problem_count = 0;
};

// Reads from `fd` to the end of the tar. What cannot be made (a device, without the right to) is a
// problem and the rest goes on; an error where the tar itself is broken or the disk takes no more.
Result<ExtractReport> ExtractTar(int fd);

}  // namespace lamina
