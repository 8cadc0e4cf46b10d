#pragma once

// Which names a local source gives to its images: where they appear in the tree. Values and pure
// functions; any thread.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "fetch/local_source.h"
#include "fetch/reference.h"
#include "index/store.h"

namespace lamina {

// A name that a local source gives to an image.
struct LocalName {
  std::string repository;  // "localhost/sample"
  std::string tag;         // empty: by digest only; "@2": image 2 of its source
  Digest digest;
  std::shared_ptr<LocalSource> source;
  // The repository of a registry that the name in the source names, whatever name it has here.
  std::optional<RepositoryName> registry_name = {};

  friend bool operator==(const LocalName& a, const LocalName& b) {
    return a.repository == b.repository && a.tag == b.tag && a.digest == b.digest;
  }
};

// All names of one source. Immutable once made.
struct NameTable {
  using Names = std::vector<LocalName>;

  std::shared_ptr<const LocalImages> images;  // what they were made of; null: of the store's rows
  Names names;                                // sorted by repository and tag
  // Names that stand for nothing: of two images, or of one that cannot be read.
  std::map<std::pair<std::string, std::string>, Error> broken;
  std::map<Digest, Digest> by_image_id;  // the digest of a config -> that of the manifest
  std::vector<Error> problems;           // of images and names, for who adds the source

  std::pair<Names::const_iterator, Names::const_iterator> Of(const std::string& repository) const;
  // null where the source does not give it.
  const LocalName* Find(const std::string& repository, const std::string& tag) const;
  void Sort();
};

// The names of the images that the source was added for. A name that the grammar refuses leaves its
// image reachable by digest and number.
NameTable NamesOf(const SourceRow& row, const std::shared_ptr<LocalSource>& source,
                  std::shared_ptr<const LocalImages> images);

// "@0", "@17": an image by its place in its source.
bool IsImageNumber(std::string_view name);

}  // namespace lamina
