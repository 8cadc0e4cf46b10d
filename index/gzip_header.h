#pragma once

// GzipHeaderParser: reads the header of one gzip member (RFC 1952), fed in pieces that may end at
// any byte, and keeps nothing of it but the checksum. Why an own one: the header reader inside
// ISA-L's isal_inflate() forgets the flags when its input ends in the middle of an optional field.
// One thread.

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

class GzipHeaderParser {
 public:
  enum class Outcome {
    kMore,     // the input is used up, the header is not complete
    kDone,     // the header is complete; deflate data follow
    kNotGzip,  // the bytes so far are no gzip member with deflate data
  };

  // Takes bytes from the front of `*input`. kCorrupt where the header breaks the specification.
  Result<Outcome> Feed(ByteSpan* input);

  // Bytes taken since the start of the header.
  uint64_t consumed() const { return consumed_; }
  // The bytes so far can only be a gzip header.
  bool recognised() const { return consumed_ >= 3; }

 private:
  enum class Field : uint8_t { kFixed, kExtraLength, kExtra, kName, kComment, kChecksum, kDone };

  void NextField();
  void Enter(Field field, uint32_t bytes);
  Status CompleteField();
  Status CompleteFixed();
  void Take(ByteSpan* input, size_t count);
  void TakeText(ByteSpan* input);

  Field field_ = Field::kFixed;
  uint32_t wanted_ = 10;   // bytes still missing in a field of known length
  uint32_t held_ = 0;      // bytes in hold_
  uint8_t hold_[10] = {};  // the start of the field that is being read
  uint8_t flags_ = 0;
  uint32_t crc_ = 0;  // of all bytes before the checksum field
  uint64_t consumed_ = 0;
};

}  // namespace lamina
