#pragma once

// KnownContent: what belongs to an image, as far as its documents are in the store: the documents
// themselves, its layers, and the tree files that are made of these. Local disk only; any thread.

#include <optional>
#include <set>
#include <string>

#include "base/digest.h"
#include "base/result.h"
#include "fetch/manifest.h"
#include "index/store.h"
#include "overlay/tree_builder.h"

namespace lamina {

struct KnownContent {
  std::set<Digest> documents;
  std::set<Digest> missing;      // of these, those that the store does not have
  std::set<std::string> layers;  // by Digest::PathName()
  std::set<std::string> trees;   // the same of their keys

  void Merge(KnownContent other);
};

// Adds an image: a manifest, or an index with all that it names. An error where the store does not
// answer.
Status AddKnownContent(Store& store, const Digest& digest, KnownContent* content);

// The tree of an image, or of one of its layers.
struct TreeOfImage {
  Digest key;
  TreeOptions options;
};
TreeOfImage TreeOf(const ImageManifest& manifest, const ImageConfig& config,
                   std::optional<size_t> only_layer);

}  // namespace lamina
