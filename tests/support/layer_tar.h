#pragma once

// LayerSpec: a layer as a list of tar entries, from which both a tar stream and the naive model of
// an image are made. WriteTar() writes PAX where ustar cannot hold a value. Values; one thread.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace lamina::testing {

struct EntrySpec {
  enum class Type : char {
    kFile = '0',
    kHardlink = '1',
    kSymlink = '2',
    kCharDevice = '3',
    kBlockDevice = '4',
    kDirectory = '5',
    kFifo = '6',
  };
  Type type = Type::kFile;
  std::string path;    // whiteouts and opaque markers by their names
  std::string link{};  // of hard and symbolic links
  uint32_t mode = 0644;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_s = 1'600'000'000;
  uint32_t mtime_ns = 0;
  std::string content{};
  // Set: a sparse file of this size, whose data are these stretches (offset, bytes).
  uint64_t sparse_size = 0;
  std::vector<std::pair<uint64_t, std::string>> sparse_data{};
  uint32_t major = 0;
  uint32_t minor = 0;
  std::map<std::string, std::string> xattrs{};
};

using LayerSpec = std::vector<EntrySpec>;

std::string WriteTar(const LayerSpec& layer);

}  // namespace lamina::testing
