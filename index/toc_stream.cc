#include "index/toc_stream.h"

#include "base/text.h"
#include "index/layer_path.h"
#include "index/toc_locate.h"

namespace lamina {
namespace {

constexpr size_t kPiece = 64u << 10;
constexpr std::string_view kTocName = "stargz.index.json";
// What may stand around the JSON in its tar.
constexpr uint64_t kMaxTocTar = kMaxTocJson + (16u << 20);

}  // namespace

// Takes the one file out of the tar.
class TocStream::Extractor : public TarHandler {
 public:
  Extractor() : parser_(*this, TarLimits{.raw_bytes = kMaxTocTar}) {}

  Result<ByteSpan> Feed(ByteSpan bytes) {
    out_.clear();
    RETURN_IF_ERROR(parser_.Feed(bytes));
    return ByteSpan(out_);
  }
  Status Finish() {
    RETURN_IF_ERROR(parser_.Finish());
    return found_ ? Status() : Status(Error{Code::kInvalid, "there is no stargz.index.json in it"});
  }

  Status OnEntry(const TarEntry& entry) override {
    const std::vector<std::string_view> components = CleanPath(entry.path);
    inside_ =
        entry.type == EntryType::kRegular && components.size() == 1 && components[0] == kTocName;
    if (!inside_) return {};
    if (found_) return Error{Code::kInvalid, "stargz.index.json is in it twice"};
    if (entry.sparse) return Error{Code::kInvalid, "stargz.index.json is a sparse file"};
    found_ = true;
    return {};
  }
  Status OnData(ByteSpan bytes, uint64_t, uint64_t) override {
    if (inside_) out_.insert(out_.end(), bytes.begin(), bytes.end());
    return {};
  }
  void OnWarning(std::string) override {}

 private:
  TarParser parser_;
  bool found_ = false;
  bool inside_ = false;
  std::vector<uint8_t> out_;
};

TocStream::TocStream(Compression compression, bool in_tar, Input input, WindowAccount account)
    : input_(std::move(input)),
      decoder_(StreamDecoder::Create(compression, std::move(account))),
      tar_(in_tar ? std::make_unique<Extractor>() : nullptr),
      buffer_(kPiece) {}

TocStream::~TocStream() = default;

Status TocStream::Count(size_t bytes) {
  json_bytes_ += bytes;
  if (json_bytes_ <= kMaxTocJson) return {};
  return Error{Code::kLimit, "its JSON is above the limit of " + HumanSize(kMaxTocJson)};
}

Result<ByteSpan> TocStream::Next() {
  while (!ended_) {
    ASSIGN_OR_RETURN(ByteSpan piece, Decode());
    ended_ = piece.empty();
    if (tar_ != nullptr) {
      if (ended_) RETURN_IF_ERROR(tar_->Finish());
      ASSIGN_OR_RETURN(piece, tar_->Feed(piece));
    }
    RETURN_IF_ERROR(Count(piece.size()));
    if (!piece.empty()) return piece;
  }
  return ByteSpan();
}

Result<ByteSpan> TocStream::Decode() {
  for (;;) {
    ASSIGN_OR_RETURN(const size_t size, decoder_->Decode(&compressed_, buffer_));
    if (size > 0) return ByteSpan(buffer_).first(size);
    ASSIGN_OR_RETURN(compressed_, input_());
    if (!compressed_.empty()) continue;
    RETURN_IF_ERROR(decoder_->Finish());
    return ByteSpan();
  }
}

}  // namespace lamina
