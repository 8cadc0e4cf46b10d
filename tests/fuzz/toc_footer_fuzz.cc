// Any bytes as the end of a layer whose manifest names a table of contents: what is located lies
// inside the blob and within the limits, and reading it ends in a result or an error in words. The
// first byte chooses what the manifest says; the digests that it names are those of the bytes, so
// that what comes behind them is reached.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "index/toc_footer.h"
#include "index/toc_reader.h"

namespace {

using lamina::TocClaim;

void Require(bool holds) {
  if (!holds) std::abort();
}

class BytesBlob : public lamina::BlobSource {
 public:
  explicit BytesBlob(lamina::ByteSpan bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  lamina::Status ReadAt(uint64_t offset, lamina::MutableByteSpan out,
                        const lamina::Deadline&) override {
    Require(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    ++reads;
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  lamina::Status Stream(uint64_t, const lamina::ByteSink&) override { std::abort(); }
  std::string origin() const override { return "fuzzer"; }
  int reads = 0;

 private:
  const lamina::ByteSpan bytes_;
};

TocClaim ClaimFor(uint8_t choice, lamina::ByteSpan bytes) {
  TocClaim claim;
  if (choice % 2 == 0) claim.json_digest = lamina::Digest::Sha256({});
  if (choice % 4 != 0 && choice % 2 == 0) return claim;
  claim.blob_digest = lamina::Digest::Sha256({});
  if (choice % 8 < 4 || bytes.size() < 8) return claim;
  claim.position = {lamina::LoadLe<uint32_t>(bytes.data()),
                    lamina::LoadLe<uint16_t>(bytes.data() + 4), 0};
  return claim;
}

// Where the manifest names the digests of what is there, everything behind them is reached.
void ReadAsNamed(TocClaim claim, const lamina::TocPlace& place, BytesBlob& blob,
                 lamina::ByteSpan bytes) {
  claim.json_digest.reset();
  claim.blob_digest = lamina::Digest::Sha256(bytes.subspan(place.offset, place.length));
  const auto toc =
      lamina::Toc::Fetch(claim, place, blob, lamina::Deadline::After(std::chrono::hours(1)));
  Require(blob.reads <= 2);
  if (!toc) return Require(!toc.error().message.empty());
  const lamina::Status read = toc->Read(
      [&](const lamina::TarEntry&, std::span<const lamina::TocPiece>) { return lamina::Status(); });
  Require(read || !read.error().message.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const lamina::ByteSpan bytes(data + 1, size - 1);
  BytesBlob blob(bytes);
  const TocClaim claim = ClaimFor(data[0], bytes);
  const auto footer = lamina::ParseTocFooter(bytes);
  if (footer) Require(footer->size <= bytes.size());
  const auto place = lamina::LocateToc(claim, blob, lamina::Deadline::After(std::chrono::hours(1)));
  if (!place) {
    Require(!place.error().message.empty());
    return 0;
  }
  Require(place->data_end <= bytes.size());
  if (place->kind == lamina::TocKind::kEstargzBeside) return 0;
  Require(place->length > 0 && place->offset <= bytes.size() &&
          place->length <= bytes.size() - place->offset && place->data_end <= place->offset);
  ReadAsNamed(claim, *place, blob, bytes);
  return 0;
}
