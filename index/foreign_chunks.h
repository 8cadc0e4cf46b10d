#pragma once

// ForeignChunks: cuts the flat address space of a layer whose bytes nobody has seen into chunks, by
// what a foreign index says of its files. One thread.

#include <cstdint>
#include <functional>
#include <optional>

#include "base/result.h"
#include "index/layer_index.h"
#include "index/layer_index_writer.h"

namespace lamina {

class ForeignChunks {
 public:
  // Completes a data chunk of which the flat and the raw range are set.
  using Complete = std::function<Status(ChunkRecord*)>;
  ForeignChunks(LayerIndexWriter& writer, Complete complete)
      : writer_(writer), complete_(std::move(complete)) {}

  // A file of `size` bytes begins at `flat_offset`, a multiple of 4096. Its content follows in
  // order.
  Status BeginFile(uint64_t flat_offset, uint64_t size);
  // A stretch that had better stay in one chunk. `raw_offset` where it is known.
  Status Data(uint64_t flat_offset, uint64_t length, uint64_t raw_offset);
  Status Zeros(uint64_t flat_offset, uint64_t length);
  Status Finish(uint64_t flat_size);

  // So much fits into the open chunk.
  uint64_t Room(uint64_t flat_offset) const;

 private:
  uint64_t EndOf(uint64_t flat_offset) const;
  Status CloseAt(uint64_t end);
  Status EmitZeros(uint64_t end);

  LayerIndexWriter& writer_;
  const Complete complete_;
  uint64_t begin_ = 0;     // of the open chunk
  uint64_t file_end_ = 0;  // flat, of the present file
  bool has_data_ = false;  // the open chunk
  uint64_t data_end_ = 0;  // flat, of the last data
  uint64_t raw_begin_ = 0;
  uint64_t raw_end_ = 0;
};

}  // namespace lamina
