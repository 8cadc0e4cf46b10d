#pragma once

// The part of a layer index that only a merge reads, packed in the file
// (docs/formats-layer-index.md): a fifth of its size. Unpacked it is a nameless file beside the
// index, mapped, so that it costs no heap and the kernel may take its pages back; memory is taken
// where no such file can be made. PackedWriter belongs to one thread; an UnpackedTree is immutable.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"

struct ZSTD_CCtx_s;

namespace lamina {

// Packs what is appended and hands it on.
class PackedWriter {
 public:
  explicit PackedWriter(std::function<Status(ByteSpan)> out);
  ~PackedWriter();
  Status Append(ByteSpan bytes);
  Status Finish();
  uint64_t taken() const { return taken_; }

 private:
  Status Run(ByteSpan bytes, bool end);
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  const std::function<Status(ByteSpan)> out_;
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
  std::vector<uint8_t> buffer_;
  uint64_t taken_ = 0;
};

class UnpackedTree {
 public:
  // kCorrupt unless `packed` is one frame of exactly `size` bytes. `folder` may be empty.
  static Result<std::shared_ptr<UnpackedTree>> Make(ByteSpan packed, uint64_t size,
                                                    const std::string& folder);
  ByteSpan bytes() const { return file_ ? file_->bytes() : ByteSpan(heap_); }
  bool damaged() const { return file_ && file_->damaged(); }

 private:
  std::optional<MappedFile> file_;
  std::vector<uint8_t> heap_;
};

}  // namespace lamina
