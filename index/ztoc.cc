#include "index/ztoc.h"

#include <fmt/format.h>
#include <ztoc_generated.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/digest.h"
#include "base/text.h"
#include "index/gzip_header.h"
#include "index/gzip_window.h"
#include "index/ztoc_entry.h"

namespace lamina {
namespace {

constexpr std::string_view kVersion = "0.9";
constexpr uint64_t kMaxRawBytes = uint64_t{1} << 40;
constexpr size_t kMaxSpans = size_t{1} << 20;
constexpr uint64_t kMaxHeaderBytes = 64u << 10;

// The bytes of a gzip layer's checkpoints: a header, then one record each, all little-endian.
constexpr size_t kCheckpointsHeader = 12;  // their number (4), the span size (8)
constexpr size_t kBitsAt = 16;  // after the offsets in the blob (8) and in the stream (8)
constexpr size_t kWindowAt = 17;
constexpr size_t kWindow = 32u << 10;
constexpr size_t kCheckpoint = kWindowAt + kWindow;
constexpr uint64_t kShortestGzipHeader = 10;

// The same of a layer that is not compressed, where it is no flatbuffer: version (4), span size
// (8), size (8).
constexpr size_t kPlainSpans = 20;

// Tables inside tables; a document has four levels.
constexpr flatbuffers::uoffset_t kMaxDepth = 8;
// Each entry is one, and each of its records.
constexpr flatbuffers::uoffset_t kMaxTables = 40'000'000;

Error Invalid(const std::string& reason) { return {Code::kInvalid, "the zTOC " + reason}; }

const soci::Document& RootOf(const std::string& bytes) { return *soci::GetDocument(bytes.data()); }

Status CheckForm(const std::string& bytes) {
  if (bytes.size() > Ztoc::kMaxBytes)
    return Error{Code::kLimit, fmt::format("the zTOC has {}, the limit is {}",
                                           HumanSize(bytes.size()), HumanSize(Ztoc::kMaxBytes))};
  flatbuffers::Verifier verifier(AsBytes(bytes).data(), bytes.size(), kMaxDepth, kMaxTables);
  if (!soci::VerifyDocumentBuffer(verifier)) return Invalid("is no sound flatbuffer of its schema");
  const soci::Document& root = RootOf(bytes);
  const std::string_view version = root.version() ? root.version()->string_view() : "";
  if (version != kVersion)
    return Error{Code::kUnsupported, fmt::format("the zTOC has version {}; lamina reads {}",
                                                 Quote(version, 40), kVersion)};
  if (root.contents() == nullptr || root.compression() == nullptr ||
      root.compression()->checkpoints() == nullptr || root.compression()->span_digests() == nullptr)
    return Invalid("lacks its entries, checkpoints or digests");
  return {};
}

struct PlainSpans {
  int64_t span_size = 0;
  int64_t size = 0;
};

Result<PlainSpans> ReadPlain(ByteSpan bytes) {
  if (bytes.size() == kPlainSpans)
    return PlainSpans{LoadLe<int64_t>(bytes.data() + 4), LoadLe<int64_t>(bytes.data() + 12)};
  // It is a buffer of its own inside the zTOC's, where it may begin anywhere.
  const std::vector<uint8_t> aligned(bytes.begin(), bytes.end());
  flatbuffers::Verifier verifier(aligned.data(), aligned.size(), kMaxDepth, 1);
  if (!verifier.VerifyBuffer<soci::PlainSpans>()) return Invalid("has spans that cannot be read");
  const auto* spans = flatbuffers::GetRoot<soci::PlainSpans>(aligned.data());
  return PlainSpans{spans->span_size(), spans->size()};
}

}  // namespace

Result<Ztoc> Ztoc::Open(std::string bytes) {
  RETURN_IF_ERROR(CheckForm(bytes));
  Ztoc ztoc(std::move(bytes));
  RETURN_IF_ERROR(ztoc.ReadSizes());
  if (ztoc.compression_ == Compression::kGzip) {
    RETURN_IF_ERROR(ztoc.ReadGzipSpans());
  } else {
    RETURN_IF_ERROR(ztoc.ReadPlainSpans());
  }
  RETURN_IF_ERROR(ztoc.CheckSpans());
  RETURN_IF_ERROR(ztoc.ReadDigests());
  return ztoc;
}

Status Ztoc::ReadSizes() {
  const soci::Document& root = RootOf(bytes_);
  const int64_t compressed = root.compressed_size();
  const int64_t uncompressed = root.uncompressed_size();
  if (compressed <= 0 || uncompressed < 0)
    return Invalid(fmt::format("gives sizes of {} and {} bytes", compressed, uncompressed));
  compressed_size_ = static_cast<uint64_t>(compressed);
  uncompressed_size_ = static_cast<uint64_t>(uncompressed);
  if (uncompressed_size_ > kMaxRawBytes)
    return Error{Code::kLimit, "the zTOC is of a layer of " + HumanSize(uncompressed_size_) +
                                   ", the limit is " + HumanSize(kMaxRawBytes)};
  switch (root.compression()->algorithm()) {
    case soci::Algorithm::Gzip:
      compression_ = Compression::kGzip;
      return {};
    case soci::Algorithm::Uncompressed:
      compression_ = Compression::kNone;
      return {};
  }
  return Error{Code::kUnsupported,
               fmt::format("the zTOC is of a layer packed with algorithm {}; lamina reads those of "
                           "gzip and of plain layers",
                           static_cast<int>(root.compression()->algorithm()))};
}

ByteSpan Ztoc::Checkpoints() const {
  const auto* checkpoints = RootOf(bytes_).compression()->checkpoints();
  return {checkpoints->data(), checkpoints->size()};
}

// Without the first one where that is not written down.
ByteSpan Ztoc::WrittenCheckpoint(size_t number) const {
  const size_t place = number - (header_assumed_ ? 1 : 0);
  return Checkpoints().subspan(kCheckpointsHeader + place * kCheckpoint, kCheckpoint);
}

Status Ztoc::ReadGzipSpans() {
  const ByteSpan bytes = Checkpoints();
  if (bytes.size() < kCheckpointsHeader) return Invalid("has checkpoints of the wrong size");
  const auto count = LoadLe<int32_t>(bytes.data());
  const uint64_t written = (bytes.size() - kCheckpointsHeader) / kCheckpoint;
  const bool fits = (bytes.size() - kCheckpointsHeader) % kCheckpoint == 0;
  if (!fits || count < 1 || written > kMaxSpans ||
      (static_cast<uint64_t>(count) != written && static_cast<uint64_t>(count) != written + 1))
    return Invalid(fmt::format("has {} checkpoints in {} bytes", count, bytes.size()));
  header_assumed_ = static_cast<uint64_t>(count) != written;
  if (header_assumed_) spans_.push_back({0, kShortestGzipHeader, 0, {}});
  while (spans_.size() < static_cast<size_t>(count)) {
    const ByteSpan checkpoint = WrittenCheckpoint(spans_.size());
    const auto in = LoadLe<int64_t>(checkpoint.data());
    const auto out = LoadLe<int64_t>(checkpoint.data() + 8);
    const uint8_t bits = checkpoint[kBitsAt];
    if (in < static_cast<int64_t>(kShortestGzipHeader) || out < 0 || bits > 7)
      return Invalid(fmt::format("has a checkpoint at byte {}, bit {} for byte {} of the stream",
                                 in, bits, out));
    spans_.push_back({static_cast<uint64_t>(out), static_cast<uint64_t>(in), 0, {}});
  }
  // A span's bytes end where the next one's whole bytes begin, and begin with the one in which the
  // block before it ends.
  for (size_t i = 0; i < spans_.size(); ++i)
    spans_[i].blob_end = i + 1 < spans_.size() ? spans_[i + 1].blob_offset : compressed_size_;
  for (size_t i = header_assumed_ ? 1 : 0; i < spans_.size(); ++i)
    if (WrittenCheckpoint(i)[kBitsAt] > 0) --spans_[i].blob_offset;
  return {};
}

Status Ztoc::ReadPlainSpans() {
  ASSIGN_OR_RETURN(const PlainSpans plain, ReadPlain(Checkpoints()));
  if (plain.span_size <= 0 || plain.size <= 0 ||
      static_cast<uint64_t>(plain.size) != compressed_size_ ||
      uncompressed_size_ > compressed_size_)
    return Invalid(fmt::format("has spans of {} bytes of {}, where the layer has {}",
                               plain.span_size, plain.size, compressed_size_));
  const auto size = static_cast<uint64_t>(plain.span_size);
  if ((compressed_size_ - 1) / size >= kMaxSpans)
    return Invalid(fmt::format("cuts the layer into more than {} spans", kMaxSpans));
  for (uint64_t at = 0; at < compressed_size_; at += std::min(size, compressed_size_ - at))
    spans_.push_back(
        {at, at, std::min(compressed_size_, at + std::min(size, compressed_size_ - at)), {}});
  return {};
}

Status Ztoc::CheckSpans() const {
  if (spans_.front().raw_offset != 0 || header_size() > kMaxHeaderBytes)
    return Invalid("does not begin at the start of the layer");
  for (size_t i = 0; i < spans_.size(); ++i) {
    const ZtocSpan& span = spans_[i];
    // Empty blocks at the start give several spans for no bytes.
    if (i > 0 && (span.raw_offset < spans_[i - 1].raw_offset ||
                  span.blob_offset <= spans_[i - 1].blob_offset))
      return Invalid(fmt::format("has checkpoints out of order (number {})", i));
    if (span.blob_offset >= span.blob_end || span.blob_end > compressed_size_ ||
        span.raw_offset > kMaxRawBytes)
      return Invalid(fmt::format("has a span outside the layer (number {})", i));
    if (span.blob_end - span.blob_offset > kMaxSpanBytes)
      return Error{
          Code::kUnsupported,
          fmt::format("the zTOC has a span of {}, more than {}, so that a read by it would "
                      "fetch much of the layer",
                      HumanSize(span.blob_end - span.blob_offset), HumanSize(kMaxSpanBytes))};
  }
  return {};
}

Status Ztoc::ReadDigests() {
  const soci::CompressionInfo& info = *RootOf(bytes_).compression();
  const auto& digests = *info.span_digests();
  if (digests.size() != spans_.size() || info.last_span() < 0 ||
      static_cast<size_t>(info.last_span()) + 1 != spans_.size())
    return Invalid(fmt::format("has {} digests for {} spans, the last of which is {}",
                               digests.size(), spans_.size(), info.last_span()));
  for (size_t i = 0; i < spans_.size(); ++i) {
    const auto* text = digests.Get(static_cast<flatbuffers::uoffset_t>(i));
    const Result<Digest> digest = Digest::Parse(text->string_view());
    if (!digest || digest->algorithm() != Digest::Algorithm::kSha256)
      return Invalid("has a span whose digest is " + Quote(text->string_view(), 100));
    std::ranges::copy(digest->bytes(), spans_[i].sha256.begin());
  }
  return {};
}

std::vector<uint8_t> Ztoc::CheckpointState(size_t number) const {
  if (compression_ == Compression::kNone) return {};
  if (header_assumed_ && number == 0) return EncodeGzipWindow(0, {});
  const ByteSpan checkpoint = WrittenCheckpoint(number);
  // In front of the window stand zeros where there is no stream yet.
  const size_t history = std::min<uint64_t>(spans_[number].raw_offset, kWindow);
  return EncodeGzipWindow((8u - checkpoint[kBitsAt]) % 8u,
                          checkpoint.subspan(kWindowAt).last(history));
}

Status Ztoc::CheckHeader(ByteSpan head) const {
  if (compression_ == Compression::kNone) return {};
  GzipHeaderParser header;
  const auto outcome = header.Feed(&head);
  if (outcome && *outcome == GzipHeaderParser::Outcome::kDone &&
      header.consumed() == header_size() && head.empty())
    return {};
  return Invalid(
      fmt::format("takes the first {} bytes of the layer for its gzip header, and they "
                  "are not",
                  header_size()));
}

Status Ztoc::ReadEntries(const ZtocSink& sink) const {
  const auto* files = RootOf(bytes_).contents()->files();
  if (files == nullptr) return {};
  ZtocEntryReader reader(uncompressed_size_);
  for (const soci::File* file : *files) {
    TarEntry entry;
    if (Status status = reader.Read(*file, &entry); !status)
      return Error{status.error().code,
                   "the zTOC's entry " + Quote(entry.path, 400) + ": " + status.error().message};
    RETURN_IF_ERROR(sink(entry, reader.payload_offset()));
  }
  return {};
}

}  // namespace lamina
