#pragma once

// FolderFiles: a folder as SourceFiles. Every file is opened as a regular one and no symbolic link
// in its place is followed. Any thread.

#include <memory>
#include <string>

#include "fetch/source_files.h"

namespace lamina {

class FolderFiles : public SourceFiles {
 public:
  // `path` is absolute. Nothing is checked.
  FolderFiles(std::string path, std::string origin)
      : path_(std::move(path)), origin_(std::move(origin)) {}

  Result<FileIdentity> Identify(const std::string& name) override;
  Result<std::string> Read(const std::string& name, uint64_t limit) override;
  Result<std::shared_ptr<BlobSource>> Open(const std::string& name,
                                           std::optional<uint64_t> size) override;
  Result<uint64_t> SizeOf(const std::string& name) override;
  bool Has(const std::string& name) override;
  bool MayBeTorn() const override { return true; }
  const std::string& origin() const override { return origin_; }
  std::string NameOf(const std::string& name) const override { return path_ + "/" + name; }

 private:
  const std::string path_;
  const std::string origin_;
};

}  // namespace lamina
