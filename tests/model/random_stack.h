#pragma once

// RandomStack: random stacks of layers, small enough to collide often: directories, files, links of
// both kinds within and across layers, whiteouts, opaque markers, replaced types, implicit
// directories, sparse files. One thread.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/support/layer_tar.h"

namespace lamina::testing {

// Mostly valid: now and then a hard link leads nowhere.
std::vector<LayerSpec> RandomStack(uint64_t seed);

// For messages: one line an entry.
std::string Describe(const std::vector<LayerSpec>& stack);

}  // namespace lamina::testing
