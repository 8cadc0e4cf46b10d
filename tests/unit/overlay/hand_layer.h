#pragma once

// HandLayer: a layer index written record by record, so that a test can say exactly what the merge
// gets, promises broken by the index included. One thread.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "index/layer_index.h"
#include "index/layer_index_format.h"

namespace lamina::testing {

struct HandEntry {
  std::string name{};
  EntryType type = EntryType::kRegular;
  LayerEntry::Kind kind = LayerEntry::Kind::kInode;
  bool opaque = false;
  bool replaces = false;  // beside opaque
  bool implicit = false;
  uint32_t mode = 0644;
  uint32_t uid = 0;
  int64_t mtime_s = 1;
  uint64_t size = 0;
  uint64_t flat_offset = 0;
  bool sparse = false;
  std::vector<FileExtent> extents{};
  std::string target{};  // of symbolic and external links
  std::map<std::string, std::string> xattrs{};
  int shared = 0;  // entries with the same number, not 0, are hard links of the first one
  std::vector<HandEntry> children{};  // sorted, unless the test is about that
};

// A directory with these children.
HandEntry Folder(std::string name, std::vector<HandEntry> children);
HandEntry ImplicitFolder(std::string name, std::vector<HandEntry> children);
HandEntry Whiteout(std::string name);
HandEntry LinkTo(std::string name, std::string path);

// The index of a layer with this root, written to `path` and opened; fails the test where that is
// not possible.
std::shared_ptr<const LayerIndex> MakeLayer(const HandEntry& root, const std::string& path,
                                            uint64_t flat_size = uint64_t{1} << 30);

}  // namespace lamina::testing
