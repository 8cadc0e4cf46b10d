#include "index/packed_tree.h"

#include <fcntl.h>
#include <zstd.h>

#include "base/unique_fd.h"

namespace lamina {
namespace {

constexpr int kLevel = 3;
// A larger window packs hardly better, and takes its memory in every merge.
constexpr int kWindowLog = 18;
constexpr size_t kStep = 64u << 10;

// Where memory has to do: more than two million entries.
constexpr uint64_t kMostHeap = 256u << 20;

Error Damaged() { return Error{Code::kCorrupt, "layer index: its packed tree is damaged"}; }

using Take = std::function<Status(ByteSpan, uint64_t offset)>;

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// Hands out all that the frame holds, in order, and no more than `size` bytes.
Status Unpack(ByteSpan packed, uint64_t size, const Take& take) {
  const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  if (!context) return Error{Code::kInternal, "there is no memory for a zstd decoder"};
  std::vector<uint8_t> buffer(kStep);
  ZSTD_inBuffer from{packed.data(), packed.size(), 0};
  uint64_t done = 0;
  size_t hint = size == 0 && packed.empty() ? 0 : 1;
  while (hint != 0) {
    ZSTD_outBuffer to{buffer.data(), buffer.size(), 0};
    const size_t before = from.pos;
    hint = ZSTD_decompressStream(context.get(), &to, &from);
    if (ZSTD_isError(hint) || to.pos > size - done) return Damaged();
    if (hint != 0 && to.pos == 0 && from.pos == before) return Damaged();
    RETURN_IF_ERROR(take(ByteSpan(buffer).first(to.pos), done));
    done += to.pos;
  }
  return done == size && from.pos == packed.size() ? Status() : Status(Damaged());
}

Result<MappedFile> UnpackToFile(ByteSpan packed, uint64_t size, const std::string& folder) {
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenFile(folder, O_RDWR | O_TMPFILE));
  RETURN_IF_ERROR(Unpack(packed, size, [&](ByteSpan bytes, uint64_t offset) {
    return PwriteExactly(fd.get(), bytes, offset, folder);
  }));
  return MappedFile::Map(fd.get(), folder);
}

}  // namespace

PackedWriter::PackedWriter(std::function<Status(ByteSpan)> out)
    : out_(std::move(out)), context_(ZSTD_createCCtx()), buffer_(ZSTD_CStreamOutSize()) {
  if (!context_) return;
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
}

PackedWriter::~PackedWriter() = default;

void PackedWriter::Free::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }

Status PackedWriter::Append(ByteSpan bytes) {
  taken_ += bytes.size();
  return Run(bytes, false);
}

Status PackedWriter::Finish() { return Run({}, true); }

Status PackedWriter::Run(ByteSpan bytes, bool end) {
  if (!context_) return Error{Code::kInternal, "there is no memory for a zstd encoder"};
  ZSTD_inBuffer from{bytes.data(), bytes.size(), 0};
  while (true) {
    ZSTD_outBuffer to{buffer_.data(), buffer_.size(), 0};
    const size_t left =
        ZSTD_compressStream2(context_.get(), &to, &from, end ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left)) return Error{Code::kInternal, ZSTD_getErrorName(left)};
    RETURN_IF_ERROR(out_(ByteSpan(buffer_).first(to.pos)));
    if (end ? left == 0 : from.pos == from.size) return {};
  }
}

Result<std::shared_ptr<UnpackedTree>> UnpackedTree::Make(ByteSpan packed, uint64_t size,
                                                         const std::string& folder) {
  auto tree = std::make_shared<UnpackedTree>();
  if (!folder.empty()) {
    auto file = UnpackToFile(packed, size, folder);
    if (file) {
      tree->file_.emplace(*std::move(file));
      return tree;
    }
    if (file.error().code == Code::kCorrupt) return std::move(file).error();
  }
  if (size > kMostHeap)
    return Error{Code::kLimit, "layer index: its tree has " + std::to_string(size) +
                                   " bytes, which no file can take and memory must not"};
  // It grows with what is there, not with what the header claims.
  RETURN_IF_ERROR(Unpack(packed, size, [&](ByteSpan bytes, uint64_t) {
    tree->heap_.insert(tree->heap_.end(), bytes.begin(), bytes.end());
    return Status();
  }));
  return tree;
}

}  // namespace lamina
