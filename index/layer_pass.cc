#include "index/layer_pass.h"

#include <algorithm>
#include <exception>

namespace lamina {
namespace {

constexpr size_t kRawBuffers = 16;
// A checkpoint is at the start of a buffer, and a chunk's compressed range ends with the buffer in
// which it ends: smaller buffers mean less to decode for nothing.
constexpr size_t kRawBufferBytes = 128u << 10;
// So much is decoded at once at least: all magic numbers are within it, and the marks of the blob's
// hash look ahead of the decoder.
constexpr size_t kLeastBytes = 2048;
static_assert(kLeastBytes > 2 * kHashAlign);
constexpr std::chrono::milliseconds kReportEvery(250);
constexpr uint64_t kMostBlobBytes = uint64_t{1} << 40;
// So much of a blob that is of no use is read to know whether it is the one of the manifest.
constexpr uint64_t kMostReadInVain = 1u << 30;

std::string SizeAndDigest(uint64_t size, const Digest& digest) {
  return std::to_string(size) + " bytes with digest " + digest.ToString();
}

Digest::Algorithm DiffAlgorithm(const IndexRequest& request) {
  return request.diff_id.has_value() ? request.diff_id->algorithm() : Digest::Algorithm::kSha256;
}

}  // namespace

LayerPass::LayerPass(BlobSource& blob, const IndexRequest& request)
    : blob_(blob),
      request_(request),
      blob_hash_(request.blob_digest.algorithm()),
      raw_hasher_(DiffAlgorithm(request)),
      builder_(request),
      parser_(builder_, request.tar_limits) {}

LayerPass::~LayerPass() { JoinReaders(); }

Result<AtomicFile> LayerPass::Run() {
  if (request_.blob_size > kMostBlobBytes)
    return Error{Code::kLimit, "its blob has " + std::to_string(request_.blob_size) +
                                   " bytes, the limit is " + std::to_string(kMostBlobBytes)};
  Status streamed = blob_.Stream(0, [this](ByteSpan bytes) { return TakeCompressed(bytes); });
  if (streamed.has_value() && !HasFailed()) decoded_ = DecodeRest();
  HashHeld();
  JoinReaders();
  if (given_up_) return Failure();
  RETURN_IF_ERROR(streamed);
  if (request_.progress) request_.progress(blob_bytes_);
  const Digest digest = blob_hash_.Finish();
  RETURN_IF_ERROR(CheckBlob(digest));
  RETURN_IF_ERROR(CheckDecoded(digest));
  return Write(digest);
}

Status LayerPass::TakeCompressed(ByteSpan bytes) {
  if (request_.cancel != nullptr && request_.cancel->load())
    return Error{Code::kCancelled, "indexing was cancelled"};
  const uint64_t begin = blob_bytes_;
  blob_bytes_ += bytes.size();
  if (blob_bytes_ > request_.blob_size)
    return Error{Code::kCorrupt, "the blob has more than its " +
                                     SizeAndDigest(request_.blob_size, request_.blob_digest)};
  if (!HasFailed()) decoded_ = DecodePiece(bytes);
  if (HasFailed()) {  // the digest is to be known all the same
    HashHeld();
    blob_hash_.Take(begin, bytes);
  }
  ReportProgress();
  given_up_ = HasFailed() && request_.blob_size - blob_bytes_ > kMostReadInVain;
  return given_up_ ? Status(Error{Code::kCancelled, "the rest is of no use"}) : Status();
}

bool LayerPass::HasFailed() const {
  return !decoded_.has_value() || parse_failed_.load(std::memory_order_relaxed);
}

// The parser's before the decoder's: it saw what came before the place where decoding failed.
Error LayerPass::Failure() const {
  return parsed_.has_value() ? decoded_.error() : parsed_.error();
}

void LayerPass::ReportProgress() {
  const auto now = std::chrono::steady_clock::now();
  if (!request_.progress || now < next_report_) return;
  next_report_ = now + kReportEvery;
  request_.progress(blob_bytes_);
}

// The last bytes are held back, so that there are always some behind what is decoded. Where parsing
// fails, what is held stays, for the digest.
Status LayerPass::DecodePiece(ByteSpan bytes) {
  const uint64_t end = blob_bytes_;
  if (held_.size() + bytes.size() < kLeastBytes) {
    held_.insert(held_.end(), bytes.begin(), bytes.end());
    held_begin_ = end - held_.size();
    return {};
  }
  if (decoder_ == nullptr) RETURN_IF_ERROR(StartDecoder(bytes));
  if (!held_.empty()) {
    const size_t moved = std::min<size_t>(bytes.size(), kHashAlign);
    held_.insert(held_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(moved));
    // What was moved is decoded where it came from, or stays behind here.
    const size_t ahead = moved == bytes.size() ? kHashAlign : moved;
    RETURN_IF_ERROR(DecodeInto(ByteSpan(held_).first(held_.size() - ahead), ahead));
    if (HasFailed()) return {};
    if (moved == bytes.size()) {
      held_.erase(held_.begin(), held_.end() - static_cast<ptrdiff_t>(ahead));
      held_begin_ = end - held_.size();
      return {};
    }
  }
  const size_t now = bytes.size() - std::min<size_t>(bytes.size(), kHashAlign);
  if (now > 0) RETURN_IF_ERROR(DecodeInto(bytes.first(now), kHashAlign));
  if (HasFailed()) return {};
  held_.assign(bytes.begin() + static_cast<ptrdiff_t>(now), bytes.end());
  held_begin_ = end - held_.size();
  return {};
}

void LayerPass::HashHeld() {
  blob_hash_.Take(held_begin_, held_);
  held_.clear();
}

// `next` follows what is held.
Status LayerPass::StartDecoder(ByteSpan next) {
  std::vector<uint8_t> head = held_;
  head.insert(head.end(), next.begin(),
              next.begin() + static_cast<ptrdiff_t>(std::min(next.size(), kLeastBytes)));
  if (!head.empty()) {
    ASSIGN_OR_RETURN(compression_, SniffCompression(head));
  }
  decoder_ = StreamDecoder::Create(compression_, {.budget = request_.windows,
                                                  .owner = OwnerOf(blob_.origin()),
                                                  .deadline = {},
                                                  .cancel = request_.cancel});
  // An uncompressed blob's digest is its diff id; blob_hash_ computes it whatever its name.
  hashes_raw_ = compression_ != Compression::kNone ||
                request_.blob_digest.algorithm() != DiffAlgorithm(request_);
  StartReaders();
  return {};
}

// A state takes about 13 KiB of the index; a place takes nothing.
std::shared_ptr<ResumePoint> LayerPass::CurrentResumePoint() {
  const uint64_t raw = decoder_->raw_offset();
  const uint64_t blob = decoder_->blob_offset();
  const bool far = raw - resume_raw_ >= request_.spacing.raw_bytes ||
                   blob - resume_blob_ >= request_.spacing.blob_bytes;
  if (resume_ != nullptr && decoder_->needs_state() && !far) return resume_;
  resume_ = std::make_shared<ResumePoint>();
  resume_->snapshot = decoder_->Snapshot();
  resume_->mark = blob_hash_.Restart();
  resume_raw_ = raw;
  resume_blob_ = blob;
  return resume_;
}

void LayerPass::OpenBuffer() {
  buffer_ = &ring_->BeginWrite();
  buffer_->raw_offset = decoder_->raw_offset();
  buffer_->mark = std::make_shared<BufferMark>();
  buffer_->mark->resume = CurrentResumePoint();
  buffer_->mark->hash_begin = blob_hash_.Here().offset;
}

void LayerPass::PublishBuffer() {
  buffer_->mark->blob_end = decoder_->blob_offset();
  buffer_->mark->end = blob_hash_.Here();
  buffer_ = nullptr;
  ring_->EndWrite();
}

// `bytes` have `ahead` more behind them.
Status LayerPass::DecodeInto(ByteSpan bytes, size_t ahead) {
  ByteSpan window(bytes.data(), bytes.size() + ahead);
  while (true) {
    if (buffer_ == nullptr) OpenBuffer();
    ASSIGN_OR_RETURN(const size_t got, decoder_->Decode(&bytes, buffer_->space()));
    const size_t consumed = window.size() - ahead - bytes.size();
    blob_hash_.Advance(window, consumed, decoder_->restart_offset());
    window = window.subspan(consumed);
    buffer_->size += got;
    // Less than a full buffer means that the decoder has nothing more to give for now.
    if (!buffer_->space().empty()) return {};
    PublishBuffer();
    if (parse_failed_.load(std::memory_order_relaxed)) return {};
  }
}

Status LayerPass::DecodeRest() {
  if (decoder_ == nullptr) RETURN_IF_ERROR(StartDecoder({}));
  RETURN_IF_ERROR(DecodeInto(held_, 0));
  RETURN_IF_ERROR(DecodeInto({}, 0));
  RETURN_IF_ERROR(decoder_->Finish());
  if (buffer_ != nullptr) PublishBuffer();
  return {};
}

void LayerPass::StartReaders() {
  ring_ = std::make_unique<RawRing>(kRawBuffers, kRawBufferBytes, hashes_raw_ ? 2 : 1);
  readers_.emplace_back([this] { ParseRaw(0); });
  if (hashes_raw_) readers_.emplace_back([this] { HashRaw(1); });
}

void LayerPass::JoinReaders() {
  if (ring_ != nullptr) ring_->Close();
  for (std::thread& reader : readers_) reader.join();
  readers_.clear();
}

void LayerPass::HashRaw(size_t reader) {
  while (RawBuffer* buffer = ring_->BeginRead(reader)) {
    raw_hasher_.Update(buffer->bytes());
    ring_->EndRead(reader);
  }
}

void LayerPass::ParseRaw(size_t reader) {
  Status status;
  try {
    status = ParseAll(reader);
  } catch (const std::exception& failure) {  // memory, and whatever the sink may throw
    status = Error{Code::kInternal, std::string("indexing failed: ") + failure.what()};
  }
  if (status.has_value()) return;
  parsed_ = std::move(status);
  parse_failed_.store(true);
  // The writer must not wait for a reader that has given up.
  while (ring_->BeginRead(reader) != nullptr) ring_->EndRead(reader);
}

Status LayerPass::ParseAll(size_t reader) {
  while (RawBuffer* buffer = ring_->BeginRead(reader)) {
    RETURN_IF_ERROR(ParseBuffer(*buffer));
    ring_->EndRead(reader);
  }
  return {};
}

Status LayerPass::ParseBuffer(RawBuffer& buffer) {
  builder_.SetBuffer(std::move(buffer.mark));
  return parser_.Feed(buffer.bytes());
}

Status LayerPass::CheckBlob(const Digest& digest) const {
  const bool right_digest = request_.digest_is_name || digest == request_.blob_digest;
  if (blob_bytes_ == request_.blob_size && right_digest) return {};
  return Error{Code::kCorrupt,
               "the blob is not the one of the manifest: " + SizeAndDigest(blob_bytes_, digest) +
                   " came, not " + SizeAndDigest(request_.blob_size, request_.blob_digest)};
}

Status LayerPass::CheckDecoded(const Digest& blob_digest) {
  RETURN_IF_ERROR(parsed_);
  if (!decoded_.has_value()) {
    Error error = Failure();
    // Fetching again would bring the same: the blob has its digest.
    if (error.code == Code::kCorrupt) error.code = Code::kInvalid;
    return error;
  }
  RETURN_IF_ERROR(parser_.Finish());
  const Digest diff_id = hashes_raw_ ? raw_hasher_.Finish() : blob_digest;
  // As above, unless the name of the blob says nothing of its bytes.
  const Code code = request_.digest_is_name ? Code::kCorrupt : Code::kInvalid;
  if (request_.diff_id.has_value() && diff_id != *request_.diff_id)
    return Error{code, "its content is not the one of the image config: its diff id is " +
                           diff_id.ToString() + ", not " + request_.diff_id->ToString()};
  raw_diff_id_ = diff_id;
  return {};
}

Result<AtomicFile> LayerPass::Write(const Digest& content) {
  if (decoder_->trailing_garbage())
    builder_.OnWarning("bytes that are no gzip follow the compressed data, ignored");
  if (blob_bytes_ == 0) builder_.OnWarning("the layer is a blob of 0 bytes");
  RETURN_IF_ERROR(builder_.Finish());
  return builder_.Write(LayerFacts{.blob_digest = request_.blob_digest,
                                   .diff_id = *raw_diff_id_,
                                   .blob_size = blob_bytes_,
                                   .raw_size = decoder_->raw_offset(),
                                   .compression = compression_},
                        content);
}

}  // namespace lamina
