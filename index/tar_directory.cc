#include "index/tar_directory.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/text.h"
#include "index/tar_entry.h"
#include "index/tar_header.h"
#include "index/tar_pax.h"
#include "index/tar_sparse.h"

namespace lamina {
namespace {

// Small members lie in one window; behind a large one a new window begins.
constexpr uint64_t kWindow = 4096;
constexpr std::chrono::minutes kReadBound(1);

Error Broken(uint64_t offset, const std::string& reason) {
  return Error{Code::kInvalid, "the header at byte " + std::to_string(offset) + ": " + reason};
}

class Walk {
 public:
  Walk(BlobSource& archive, const TarDirectoryLimits& limits)
      : archive_(archive), limits_(limits), window_(kWindow) {}

  Result<std::vector<ArchiveMember>> Run() {
    for (bool zero_block = false;;) {
      // The end blocks may be missing, and the last block may be cut behind its data.
      if (archive_.size() < kTarBlock || at_ > archive_.size() - kTarBlock) break;
      ASSIGN_OR_RETURN(const ByteSpan block, BlockAt(at_));
      if (IsAllZero(block)) {
        if (zero_block) break;
        zero_block = true;
        at_ += kTarBlock;
        continue;
      }
      if (zero_block)
        return Broken(at_, "data follows one block of zeros; an archive ends with two");
      RETURN_IF_ERROR(TakeHeader(block));
    }
    if (at_ < archive_.size() && archive_.size() - at_ < kTarBlock)
      return Broken(at_, "the archive is cut off inside it");
    return std::move(members_);
  }

 private:
  // A block that the archive has.
  Result<ByteSpan> BlockAt(uint64_t offset) {
    if (offset < window_begin_ || offset + kTarBlock > window_begin_ + window_bytes_) {
      window_begin_ = offset;
      window_bytes_ = std::min<uint64_t>(kWindow, archive_.size() - offset);
      RETURN_IF_ERROR(archive_.ReadAt(offset, MutableByteSpan(window_).first(window_bytes_),
                                      Deadline::After(kReadBound)));
    }
    return ByteSpan(window_).subspan(offset - window_begin_, kTarBlock);
  }

  Status TakeHeader(ByteSpan block) {
    const uint64_t offset = at_;
    if (++headers_ > limits_.members)
      return Error{Code::kLimit,
                   "it has more members than the limit of " + std::to_string(limits_.members)};
    auto header = ParseTarHeader(block);
    if (!header) return Broken(offset, header.error().message);
    if (header->size < 0) return Broken(offset, "its size is negative");
    at_ += kTarBlock;
    switch (header->type) {
      case 'x':
      case 'g':
      case 'L':
      case 'K':
        return TakeLongHeader(*header, offset);
      default:
        return TakeMember(*header, block, offset);
    }
  }

  Status TakeLongHeader(const TarHeader& header, uint64_t offset) {
    const auto size = static_cast<uint64_t>(header.size);
    if (size > limits_.headers.long_header)
      return Error{Code::kLimit, "the PAX or GNU long name header at byte " +
                                     std::to_string(offset) + " has " + std::to_string(size) +
                                     " bytes, the limit is " +
                                     std::to_string(limits_.headers.long_header)};
    if (size > archive_.size() - at_) return CutOff(offset);
    std::string text(size, '\0');
    RETURN_IF_ERROR(archive_.ReadAt(at_, {reinterpret_cast<uint8_t*>(text.data()), text.size()},
                                    Deadline::After(kReadBound)));
    at_ = AlignUp(at_ + size, kTarBlock);
    const std::string_view name = TarString(AsBytes(text));
    if (header.type == 'L') {
      pending_.gnu_name = name;
    } else if (header.type == 'K') {
      pending_.gnu_link = name;
    } else {
      auto pax = ParsePax(text);
      if (!pax) return Broken(offset, pax.error().message);
      // As in TarParser: a global header applies nothing and forgets what stood before it.
      if (header.type == 'g')
        pending_ = PendingHeaders();
      else
        pending_.pax = *std::move(pax);
    }
    return {};
  }

  Status TakeMember(const TarHeader& header, ByteSpan block, uint64_t offset) {
    std::vector<std::string> warnings;
    TarEntry entry;
    auto plan = PlanEntry(header, pending_, limits_.headers, &warnings, &entry);
    pending_ = PendingHeaders();
    if (!plan) return plan.error().Within("member " + Quote(entry.path));
    if (plan->sparse == SparseForm::kOldGnu) {
      RETURN_IF_ERROR(SkipSparseMap(block, &entry));
    }
    const uint64_t data = at_;
    if (data > archive_.size() || plan->stored_size > archive_.size() - data)
      return CutOff(offset).Within("member " + Quote(entry.path));
    at_ = AlignUp(data + plan->stored_size, kTarBlock);
    return Keep(std::move(entry), data, plan->stored_size);
  }

  // The blocks of an old GNU sparse map that do not fit into the header stand behind it.
  Status SkipSparseMap(ByteSpan header, TarEntry* entry) {
    std::array<uint8_t, kTarBlock> block{};
    std::copy(header.begin(), header.end(), block.begin());
    auto more = ParseOldGnuSparse(block, &entry->size, &entry->regions);
    while (more && *more) {
      if (entry->regions.size() > limits_.headers.sparse_regions)
        return TooManyRegions(entry->regions.size(), limits_.headers.sparse_regions);
      if (archive_.size() - at_ < kTarBlock) return CutOff(at_);
      ASSIGN_OR_RETURN(const ByteSpan extension, BlockAt(at_));
      std::copy(extension.begin(), extension.end(), block.begin());
      at_ += kTarBlock;
      more = ParseOldGnuExtension(block, &entry->regions);
    }
    if (!more) return more.error().Within("member " + Quote(entry->path));
    return {};
  }

  Status Keep(TarEntry entry, uint64_t data, uint64_t size) {
    ArchiveMember member{.kind = ArchiveMember::Kind::kFile,
                         .sparse = entry.sparse,
                         .path = std::move(entry.path),
                         .target = std::move(entry.link_target),
                         .offset = data,
                         .size = size};
    if (entry.type == EntryType::kSymlink)
      member.kind = ArchiveMember::Kind::kSymlink;
    else if (entry.type == EntryType::kHardlink)
      member.kind = ArchiveMember::Kind::kHardlink;
    else if (entry.type != EntryType::kRegular)
      return {};
    name_bytes_ += member.path.size() + member.target.size();
    if (name_bytes_ > limits_.name_bytes)
      return Error{Code::kLimit, "the names of its members have more bytes than the limit of " +
                                     std::to_string(limits_.name_bytes)};
    members_.push_back(std::move(member));
    return {};
  }

  static Error CutOff(uint64_t offset) {
    return Broken(offset, "the archive ends before the data that it announces");
  }

  BlobSource& archive_;
  const TarDirectoryLimits& limits_;
  std::vector<uint8_t> window_;
  uint64_t window_begin_ = 0;
  uint64_t window_bytes_ = 0;
  uint64_t at_ = 0;
  uint64_t headers_ = 0;
  uint64_t name_bytes_ = 0;
  PendingHeaders pending_;
  std::vector<ArchiveMember> members_;
};

}  // namespace

Result<std::vector<ArchiveMember>> ReadTarDirectory(BlobSource& archive,
                                                    const TarDirectoryLimits& limits) {
  return Walk(archive, limits).Run();
}

}  // namespace lamina
