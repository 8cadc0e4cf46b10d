// Any bytes as an archive: what is listed lies inside it and within the limits. With an odd first
// byte the checksums of all headers are set right first, since a wrong one stops nearly every
// mutation.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "index/tar_directory.h"

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

class BytesBlob : public lamina::BlobSource {
 public:
  explicit BytesBlob(const std::string& bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  lamina::Status ReadAt(uint64_t offset, lamina::MutableByteSpan out,
                        const lamina::Deadline&) override {
    Require(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    bytes_.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
    return {};
  }
  lamina::Status Stream(uint64_t, const lamina::ByteSink&) override { std::abort(); }
  std::string origin() const override { return "fuzzer"; }

 private:
  const std::string& bytes_;
};

void FixChecksums(std::string* tar) {
  for (size_t at = 0; at + 512 <= tar->size(); at += 512) {
    unsigned sum = 8 * ' ';
    for (size_t i = 0; i < 512; ++i)
      if (i < 148 || i >= 156) sum += static_cast<unsigned char>((*tar)[at + i]);
    if (sum == 8 * ' ') continue;
    char text[8];
    std::snprintf(text, sizeof text, "%06o", sum);
    tar->replace(at + 148, 7, text, 7);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string tar(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1) FixChecksums(&tar);
  BytesBlob blob(tar);
  const lamina::TarDirectoryLimits limits{.members = 100, .name_bytes = 10'000};
  const auto members = lamina::ReadTarDirectory(blob, limits);
  if (!members) {
    Require(members.error().code == lamina::Code::kInvalid ||
            members.error().code == lamina::Code::kLimit);
    return 0;
  }
  Require(members->size() <= limits.members);
  uint64_t names = 0;
  for (const lamina::ArchiveMember& member : *members) {
    Require(member.offset <= tar.size() && member.size <= tar.size() - member.offset);
    names += member.path.size() + member.target.size();
  }
  Require(names <= limits.name_bytes);
  return 0;
}
