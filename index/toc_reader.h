#pragma once

// Reads the table of contents that the manifest names for a layer: fetches it (at most two reads of
// the blob, the one of LocateToc() included), checks its digests before a byte of it is believed,
// and hands out entries with their pieces. The order is that of the tar. Memory: the compressed
// table, two or three bytes for each stretch of the blob, one file's pieces. Blocks on the blob;
// any thread. Errors name what is wrong, not the layer.

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "index/toc.h"
#include "index/toc_locate.h"
#include "index/window_budget.h"

namespace lamina {

class TocStream;

// A fetched table whose digests are right.
class Toc {
 public:
  // kCorrupt where a digest does not match.
  static Result<Toc> Fetch(const TocClaim& claim, TocPlace place, BlobSource& blob,
                           const Deadline& deadline, WindowAccount account = {});
  // An external table (TocKind::kEstargzBeside): `beside` is the layer of the other image that
  // holds it, a tar in gzip. `place` is that of the layer itself.
  static Result<Toc> FetchBeside(const TocClaim& claim, const TocPlace& place, BlobSource& beside,
                                 const Deadline& deadline);

  // kInvalid where the table breaks a rule, kUnsupported where it lacks digests (see TocFiles).
  // What the sink got counts only once this has returned without an error.
  Status Read(const TocSink& sink) const;

  TocKind kind() const { return place_.kind; }
  uint64_t blob_bytes() const { return blob_.size(); }  // compressed

 private:
  Toc(const TocClaim& claim, TocPlace place, WindowAccount account)
      : dialect_(claim.dialect()), place_(std::move(place)), account_(std::move(account)) {}
  Status FetchBlob(BlobSource& blob, const Deadline& deadline);
  Status Verify(const TocClaim& claim) const;
  TocStream Json() const;
  Status VerifyJson(const std::optional<Digest>& digest) const;
  Status ReadRecords(const TocRecordSink& sink) const;

  TocDialect dialect_;
  TocPlace place_;
  WindowAccount account_;
  std::vector<uint8_t> blob_;
};

}  // namespace lamina
