#pragma once

// BlobSource: random-access bytes of one immutable blob (a compressed layer as the registry or a
// layout holds it). Bytes are as delivered, not verified: the layer index verifies what it decodes.
// Every method is safe from any thread, blocks at most until the deadline, and never on a FUSE
// thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/urgency.h"

namespace lamina {

// Takes the next bytes of a stream. An error ends the stream and is what Stream() returns. While
// none come it may be called without any, so that whoever wants the stream to end can say so.
using ByteSink = std::function<Status(ByteSpan)>;

class BlobSource {
 public:
  virtual ~BlobSource() = default;

  // Size in bytes, from the descriptor.
  virtual uint64_t size() const = 0;

  // Exactly out.size() bytes from `offset`, or an error; never fewer. `offset + out.size()` <=
  // size().
  virtual Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) = 0;

  // The bytes from `offset` to the end, in order, in pieces of any size. Broken transfers are
  // resumed inside. There is no bound on the whole (a layer may be huge) but one on the time
  // without a byte. Fewer or more bytes than size() are an error.
  virtual Status Stream(uint64_t offset, const ByteSink& sink) = 0;

  // The same blob, as an object of its own, for who waits with this urgency; null where nobody is
  // served before others. Reads of the blob itself are kReader, its streams kStream.
  virtual std::shared_ptr<BlobSource> WithUrgency(Urgency /*urgency*/) { return nullptr; }

  // How long its requests have waited for their turn so far, which is not the time of its server.
  virtual Deadline::Clock::duration queued() const { return {}; }

  // Where the bytes come from, for messages: "https://registry.example/v2/…" or "oci:/path". No
  // secrets.
  virtual std::string origin() const = 0;

  // True where the digest by which the blob was asked for is a name that its source has given it,
  // since nobody knows the digest of its bytes beforehand. Its content is then verified by its diff
  // id, and by the digests of its chunks once it is indexed.
  virtual bool digest_is_name() const { return false; }
};

}  // namespace lamina
