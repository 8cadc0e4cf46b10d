#pragma once

// LinkResolver: where hard links to lower layers lead. It remembers what it has found, and the
// folders of the last path, as neighbours in an index mostly link into the same folder. One thread;
// stack and work outlive it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "overlay/build_work.h"
#include "overlay/layer_stack.h"

namespace lamina {

class LinkResolver {
 public:
  LinkResolver(const LayerStack& stack, BuildWork& work)
      : stack_(stack), work_(work), targets_(stack.size()) {}

  // Every hard link of this layer to the layers below leads to a file, whether an upper layer hides
  // it or not: a layer that cannot be unpacked is refused. The error names layer, link, target and
  // reason. Where layers are checked from the bottom up, none is walked twice.
  Status Check(uint32_t layer);
  // The file to which an external link leads, through further such links. The error has the reason
  // only.
  Result<InodeRef> Follow(const ResolvedName& link);

 private:
  // Of a checked layer, in the order of its entries.
  struct Target {
    uint32_t entry = 0;
    InodeRef inode;
  };
  // A folder on the last path; the first one is the root.
  struct Level {
    std::string_view name{};
    std::vector<LayerDirectory> parts{};
  };

  std::optional<InodeRef> Known(uint32_t layer, uint32_t entry) const;
  Result<ResolvedName> Walk(uint32_t top, std::string_view path);
  Status StartAt(uint32_t top);
  Result<bool> Enter(size_t depth, std::string_view name);
  std::string PathOf(uint32_t layer, uint32_t entry) const;

  const LayerStack& stack_;
  BuildWork& work_;
  std::vector<std::vector<Target>> targets_;  // by layer
  uint32_t top_ = 0;                          // of levels_
  std::vector<Level> levels_;
};

}  // namespace lamina
