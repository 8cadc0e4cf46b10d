#pragma once

// StorePaths: where everything lies below the store folder, or in the folder that stands in for it
// while its disk takes no files. A value; any thread.

#include <memory>
#include <optional>
#include <string>

#include "base/digest.h"
#include "fs/spare_folder.h"

namespace lamina {

struct StorePaths {
  std::string root;
  std::shared_ptr<SpareFolder> spare = nullptr;  // null: the disk will do

  std::string Database() const { return root + "/lamina.db"; }
  std::string Lock() const { return root + "/lock"; }
  std::string ControlSocket() const { return root + "/" + kControlSocket; }
  std::string LogFile() const { return root + "/lamina.log"; }
  std::string IndexFolder() const { return root + "/index"; }
  std::string TreeFolder() const { return root + "/tree"; }
  std::string CacheFolder() const { return root + "/cache"; }

  // Where a file is, or would be looked for on disk; the others, where a new one is to be made.
  std::string Index(const Digest& layer) const { return Find(IndexName(layer)); }
  std::string NewIndex(const Digest& layer) const { return ForNew(IndexName(layer)); }
  // Why the layer is not served, where it is not what an index that was believed has said.
  std::string Refusal(const Digest& layer) const { return Find(RefusalName(layer)); }
  std::string NewRefusal(const Digest& layer) const { return ForNew(RefusalName(layer)); }
  std::string Tree(const Digest& key) const { return Find(TreeName(key)); }
  std::string NewTree(const Digest& key) const { return ForNew(TreeName(key)); }
  std::string NewControlSocket() const { return ForNew(kControlSocket); }

  // Why the disk took no files when it was last asked; nothing where it did.
  std::optional<SpareFolder::Refusal> DiskRefusal() const {
    return spare ? spare->refusal() : std::nullopt;
  }
  // See SpareFolder::DiskIsToBlame().
  bool DiskIsToBlame(const std::string& path, const Error& error) const {
    return spare != nullptr && spare->DiskIsToBlame(path, error);
  }

  static constexpr const char* kControlSocket = "control.sock";

 private:
  static std::string IndexName(const Digest& layer) { return "index/" + layer.PathName() + ".idx"; }
  static std::string RefusalName(const Digest& layer) {
    return "index/" + layer.PathName() + ".refused";
  }
  static std::string TreeName(const Digest& key) { return "tree/" + key.PathName() + ".erofs"; }
  std::string Find(const std::string& name) const {
    return spare ? spare->Find(name) : root + "/" + name;
  }
  std::string ForNew(const std::string& name) const {
    return spare ? spare->ForNew(name) : root + "/" + name;
  }
};

}  // namespace lamina
