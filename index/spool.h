#pragma once

// Spool: bytes that are only appended while a layer is indexed and copied into the index file at
// its end. A small one stays in memory; what is beyond the buffer goes to a nameless temporary
// file, so that no layer, however large or hostile, makes the daemon large. One thread.

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace lamina {

// Frees some of a full disk; false where there is nothing to free. May be absent.
using MakeRoom = std::function<bool()>;

// Attempts again for as long as the disk is full and room is made on it.
template <typename Attempt>
auto WithRoom(const MakeRoom& make_room, Attempt attempt) {
  while (true) {
    auto done = attempt();
    if (done.has_value() || done.error().code != Code::kNoSpace) return done;
    if (!make_room || !make_room()) return done;
  }
}

class Spool {
 public:
  // `folder` is where the temporary file is made, if there has to be one.
  explicit Spool(std::string folder, MakeRoom make_room = {})
      : folder_(std::move(folder)), make_room_(std::move(make_room)) {}

  uint64_t size() const { return flushed_ + buffer_.size(); }
  Status Append(ByteSpan bytes);
  template <typename Record>
  Status AppendRecord(const Record& record) {
    static_assert(std::has_unique_object_representations_v<Record>, "padding would be written");
    return Append({reinterpret_cast<const uint8_t*>(&record), sizeof record});
  }
  // Bytes that were appended before.
  Status Read(uint64_t offset, MutableByteSpan out) const;
  // Hands all bytes, in order, to `take`, a Status(ByteSpan).
  template <typename Take>
  Status ForEach(Take take) const {
    std::vector<uint8_t> piece;
    for (uint64_t at = 0; at < flushed_; at += piece.size()) {
      piece.resize(PieceAt(at));
      RETURN_IF_ERROR(Read(at, piece));
      RETURN_IF_ERROR(take(ByteSpan(piece)));
    }
    return take(ByteSpan(buffer_));
  }

 private:
  size_t PieceAt(uint64_t at) const;
  Status Flush();
  Status WriteBuffer();

  std::string folder_;
  MakeRoom make_room_;
  std::vector<uint8_t> buffer_;  // the bytes from flushed_ on
  uint64_t flushed_ = 0;         // bytes in the file
  UniqueFd file_;
};

}  // namespace lamina
