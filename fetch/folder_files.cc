#include "fetch/folder_files.h"

#include "base/file.h"
#include "fetch/file_blob.h"

namespace lamina {

Result<FileIdentity> FolderFiles::Identify(const std::string& name) {
  return IdentifyFile(NameOf(name));
}

Result<std::string> FolderFiles::Read(const std::string& name, uint64_t limit) {
  return ReadRegularFile(NameOf(name), limit);
}

Result<std::shared_ptr<BlobSource>> FolderFiles::Open(const std::string& name,
                                                      std::optional<uint64_t> size) {
  if (!size) {
    ASSIGN_OR_RETURN(size, SizeOf(name));
  }
  return FileBlob::Open(NameOf(name), *size, origin_);
}

Result<uint64_t> FolderFiles::SizeOf(const std::string& name) {
  ASSIGN_OR_RETURN(const FileIdentity identity, Identify(name));
  return identity.size;
}

bool FolderFiles::Has(const std::string& name) { return FileExists(NameOf(name)); }

}  // namespace lamina
