#pragma once

// FileIdentity: what stat(2) says of a file that is not being changed, so that nothing is read
// again for nothing. Values and pure questions to the local disk; any thread.

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"

namespace lamina {

struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  uint64_t size = 0;        // bytes
  int64_t modified_ns = 0;  // since 1970
  int64_t changed_ns = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// Of the file with this name. A symbolic link is followed only where that is asked for.
Result<FileIdentity> IdentifyFile(const std::string& path, bool follow = false);
// Of an open file.
Result<FileIdentity> IdentifyOpenFile(int fd, const std::string& path);

// A file written again within a moment of its last change may look the same to stat(2), whose times
// move in steps of the kernel's clock tick: until then its identity says too little.
bool IsSettled(const FileIdentity& identity);

}  // namespace lamina
