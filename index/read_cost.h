#pragma once

// What a read of a few bytes costs where nothing of the layer is local: the compressed bytes that
// have to be fetched for the chunk that holds them. Pure function; any thread.

#include <cstdint>

#include "index/layer_index.h"

namespace lamina {

struct ReadCost {
  uint64_t mean = 0;  // bytes, over the layer's data chunks
  uint64_t most = 0;
};

// Looks at 1,024 chunks at most, evenly spread.
ReadCost ColdReadCost(const LayerIndex& index);

}  // namespace lamina
