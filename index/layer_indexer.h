#pragma once

// IndexLayer: the one pass over a layer that verifies it and makes its LayerIndex. Reading,
// decoding, hashing and parsing overlap on threads of its own; memory is bounded by 32
// MiB of buffers and the tree (see LayerTreeLimits). Blocks until done; call it from a pool thread.
// Several layers may be indexed at the same time.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/blob_source.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/result.h"
#include "index/layer_index.h"
#include "index/memory_budget.h"
#include "index/window_budget.h"

namespace lamina {

// Takes the decoded bytes of the flat address space as they pass by (the cache). `flat_offset` is a
// multiple of 4096 and grows; gaps are zeros. Bytes are a whole number of 4096-byte blocks. Nothing
// is verified yet: the writer commits only after IndexLayer has succeeded. It has no errors: a full
// disk keeps nothing more. Calls come one at a time.
class FlatSink {
 public:
  virtual ~FlatSink() = default;
  virtual void Write(uint64_t flat_offset, ByteSpan bytes) = 0;
  // The index finds the disk full: frees some of what was written. False where it has nothing left.
  virtual bool GiveBack() { return false; }
};

// How far apart two decoder states in an index are at least, where the codec needs one: what a read
// may have to fetch, and to decode, for nothing. docs/design.md has what it costs.
struct CheckpointSpacing {
  uint64_t blob_bytes = 3u << 19;
  uint64_t raw_bytes = 8u << 20;  // the one that comes first counts
};

struct IndexRequest {
  Digest blob_digest;
  uint64_t blob_size = 0;
  // `blob_digest` is the name of the layer and not the digest of its bytes, which nobody knows
  // beforehand: what verifies it is the diff id, where there is one.
  bool digest_is_name = false;
  std::optional<Digest> diff_id = {};  // of the image config; checked where given
  // Leaves out the files that writers of eStargz add for their own use (IsStargzOwnFile()).
  bool hides_stargz_files = false;
  std::string name;          // of the layer in messages: "layer 2 (sha256:1f2e…)"
  std::string output_path;   // of the index file, written atomically
  FlatSink* sink = nullptr;  // may be absent
  CheckpointSpacing spacing = {};
  TarLimits tar_limits = {};
  uint64_t entry_limit = 10'000'000;
  // What all passes of the process may take together for their trees; outlives the pass. May be
  // absent.
  MemoryBudget* memory = nullptr;
  // Told from one thread, a few times a second: compressed bytes done. May be absent.
  std::function<void(uint64_t)> progress = {};
  // Called when all is verified, to give the index its name by committing the file: what belongs to
  // it is committed before, so that whoever finds the index finds that too. Where it is absent, the
  // file is committed.
  std::function<Status(const std::shared_ptr<const LayerIndex>&, AtomicFile&)> publish = {};
  // Bounds the memory of zstd windows; the pass waits for its own, without a deadline. May be
  // absent.
  WindowBudget* windows = nullptr;
  // Set from outside to give up with kCancelled. May be absent.
  const std::atomic<bool>* cancel = nullptr;
};

// Verifies size, digest and diff id (kCorrupt), parses everything (kInvalid, kLimit name layer,
// entry and reason), writes the index and opens it. Nothing is left behind on failure.
Result<std::shared_ptr<const LayerIndex>> IndexLayer(BlobSource& blob, const IndexRequest& request);

}  // namespace lamina
