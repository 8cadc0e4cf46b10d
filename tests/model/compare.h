#pragma once

// Compares a Tree with the naive model of the same image: every name, attribute, byte, extended
// attribute, link and directory entry. One thread.

#include <string>

#include "tests/model/indexed_layers.h"
#include "tests/model/naive_image.h"

namespace lamina::testing {

// Empty when they are equal, else the differences, one a line.
std::string Differences(const NaiveImage& image, const Tree& tree, const IndexedLayers& layers);

}  // namespace lamina::testing
