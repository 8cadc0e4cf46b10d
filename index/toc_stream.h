#pragma once

// TocStream: the JSON of a compressed table of contents, piece by piece; of the tar around it where
// there is one (eStargz), or of the tar of another image's layer (external table). Memory is that
// of one decoder and one piece. One thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/tar.h"
#include "index/window_budget.h"

namespace lamina {

class TocStream {
 public:
  // The next compressed bytes, valid until the next call; empty at their end.
  using Input = std::function<Result<ByteSpan>()>;

  // `in_tar`: the JSON is the file stargz.index.json in the root of a tar.
  TocStream(Compression compression, bool in_tar, Input input, WindowAccount account = {});
  ~TocStream();

  // The next bytes of the JSON, valid until the next call; empty at its end. kInvalid where there
  // is no table, kCorrupt where the compressed bytes are damaged, kLimit above kMaxTocJson.
  Result<ByteSpan> Next();

 private:
  class Extractor;

  Result<ByteSpan> Decode();
  Status Count(size_t bytes);

  const Input input_;
  std::unique_ptr<StreamDecoder> decoder_;
  std::unique_ptr<Extractor> tar_;  // null where the JSON is bare
  std::vector<uint8_t> buffer_;
  ByteSpan compressed_;
  bool ended_ = false;
  uint64_t json_bytes_ = 0;
};

}  // namespace lamina
