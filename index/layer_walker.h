#pragma once

// LayerTree::Walker: one walk along a path from the root of a layer's tree, following the layer's
// own symbolic links inside the root. Belongs to layer_tree.cc.

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "index/layer_tree.h"

namespace lamina {

class LayerTree::Walker {
 public:
  // `create`: directories that are missing are made.
  Walker(LayerTree& tree, bool create) : tree_(tree), create_(create) {}

  Result<Place> Walk(std::span<const std::string_view> components);

 private:
  void Push(std::span<const std::string_view> components);
  Status Step(std::string_view name);
  Status Enter(uint32_t directory);
  Status Follow(uint32_t link);
  Error TooManyLinks() const;
  Status Miss(std::string_view name);

  LayerTree& tree_;
  const bool create_;
  Place place_;
  uint32_t followed_ = 0;
  uint32_t steps_ = 0;
  std::vector<std::string_view> pending_;  // the next one is the last
  std::deque<std::string> targets_;        // what pending_ points into
};

}  // namespace lamina
