#pragma once

// Whether two indexes of one layer show the same tree: the one that was made of a foreign table of
// contents, and the one that was made of the tar once all of it had come. Reads both files through
// their accessors and holds one entry of each. Pure function; any thread.

#include "base/result.h"
#include "index/layer_index.h"

namespace lamina {

// kInvalid naming the first path that differs, in the order of the entries, and in what. Names,
// kinds, links and inodes are compared whole; flat addresses too, since cached bytes are kept by
// them; chunks, checkpoints and warnings are not. Of times see index_compare.cc.
Status SameTree(const LayerIndex& toc, const LayerIndex& tar);

}  // namespace lamina
