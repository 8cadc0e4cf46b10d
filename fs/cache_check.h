#pragma once

// CheckKept: reads what the store keeps from the disk and compares it with its checksums: chunks
// and their maps, layer indexes, trees, documents. What is bad is dropped, and made or fetched
// again when it is touched; whoever reads meanwhile goes on. Any thread; blocks on local disk for
// as long as all of it takes to be read.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "fs/catalog.h"
#include "fs/known_content.h"
#include "fs/layer_store.h"
#include "fs/layout.h"
#include "index/store.h"

namespace lamina {

struct CheckedStore {
  uint64_t chunks = 0;
  uint64_t bytes = 0;  // of the chunks
  uint64_t indexes = 0;
  uint64_t trees = 0;
  uint64_t documents = 0;
  struct Bad {
    std::string what;    // "chunk", "map", "index", "tree", "document"
    std::string name;    // the layer's digest, the file's name, the document's digest
    std::string reason;  // "chunk 7", "its checksum does not fit"
  };
  std::vector<Bad> bad;
};

struct CheckParts {
  StorePaths paths;
  Store& store;
  LayerStore& layers;
  Catalog& catalog;
};

// Of all, or of an image's content where `only` is not null. `progress` is told how many layers of
// how many are done, and asked whether to go on: kCancelled where not.
Result<CheckedStore> CheckKept(const CheckParts& parts, const KnownContent* only,
                               const std::function<bool(uint64_t done, uint64_t of)>& progress);

}  // namespace lamina
