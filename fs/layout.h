#pragma once

// StorePaths: where everything lies below the store folder. A value; any thread.

#include <string>

#include "base/digest.h"

namespace lamina {

struct StorePaths {
  std::string root;

  std::string Database() const { return root + "/lamina.db"; }
  std::string Lock() const { return root + "/lock"; }
  std::string ControlSocket() const { return root + "/control.sock"; }
  std::string LogFile() const { return root + "/lamina.log"; }
  std::string IndexFolder() const { return root + "/index"; }
  std::string TreeFolder() const { return root + "/tree"; }
  std::string CacheFolder() const { return root + "/cache"; }
  std::string Index(const Digest& layer) const {
    return IndexFolder() + "/" + layer.PathName() + ".idx";
  }
  // Why the layer is not served, where it is not what an index that was believed has said.
  std::string Refusal(const Digest& layer) const {
    return IndexFolder() + "/" + layer.PathName() + ".refused";
  }
  std::string Tree(const Digest& key) const {
    return TreeFolder() + "/" + key.PathName() + ".erofs";
  }
};

}  // namespace lamina
