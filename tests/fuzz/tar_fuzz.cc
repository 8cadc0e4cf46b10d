// Any bytes through the whole pass, as a layer of the right digest: parser, tree, chunks, index
// file. What comes out has to open and to hold together: chunks without gaps, a tree that ends,
// data in its place.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "index/chunk_reader.h"
#include "index/layer_builder.h"

namespace {

using namespace lamina;

void Require(bool holds) {
  if (!holds) std::abort();
}

class BytesBlob : public BlobSource {
 public:
  explicit BytesBlob(ByteSpan bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    Require(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    return sink(bytes_.subspan(offset));
  }
  std::string origin() const override { return "fuzzer"; }

 private:
  const ByteSpan bytes_;
};

void CheckTree(const LayerIndex& index) {
  uint64_t seen = 1;
  for (uint32_t number = 0; number < index.facts().entry_count; ++number) {
    const Result<LayerEntry> entry = index.Entry(number);
    Require(entry.has_value());
    Require(entry->child_count == 0 || entry->first_child == seen);
    seen += entry->child_count;
    if (entry->kind == LayerEntry::Kind::kInode) Require(index.Inode(entry->inode).has_value());
  }
  Require(seen == index.facts().entry_count);
}

void CheckChunks(const LayerIndex& index, BlobSource& blob) {
  uint64_t end = 0;
  std::vector<uint8_t> bytes;
  for (uint64_t number = 0; number < index.facts().chunk_count; ++number) {
    const Result<ChunkRecord> chunk = index.Chunk(number);
    Require(chunk.has_value() && chunk->flat_offset == end);
    end += chunk->flat_length;
    if (chunk->zero) continue;
    bytes.resize(chunk->flat_length);
    Require(DecodeChunk(index, number, blob, bytes, Deadline::After(std::chrono::minutes(1)))
                .has_value());
  }
  Require(end == index.facts().flat_size);
}

Status Index(const std::string& tar, const IndexRequest& request) {
  LayerBuilder builder(request);
  TarParser parser(builder, request.tar_limits);
  const std::unique_ptr<StreamDecoder> decoder = StreamDecoder::Create(Compression::kNone);
  const auto mark = std::make_shared<BufferMark>();
  mark->resume = std::make_shared<ResumePoint>();
  mark->resume->snapshot = decoder->Snapshot();
  mark->resume->mark = BlobHash(request.blob_digest.algorithm()).Restart();
  mark->end.known = false;  // the digest of the whole is the next mark
  mark->blob_end = tar.size();
  builder.SetBuffer(mark);
  // In two pieces, so that something is cut.
  const ByteSpan bytes = AsBytes(tar);
  RETURN_IF_ERROR(parser.Feed(bytes.first(bytes.size() / 3)));
  RETURN_IF_ERROR(parser.Feed(bytes.subspan(bytes.size() / 3)));
  RETURN_IF_ERROR(parser.Finish());
  RETURN_IF_ERROR(builder.Finish());
  ASSIGN_OR_RETURN(AtomicFile file, builder.Write({.blob_digest = request.blob_digest,
                                                   .diff_id = request.blob_digest,
                                                   .blob_size = tar.size(),
                                                   .raw_size = tar.size()},
                                                  request.blob_digest));
  return file.Commit();
}

// A checksum in a header stops nearly every mutation: with an odd first byte all of them are set
// right first.
void FixChecksums(std::string* tar) {
  for (size_t at = 0; at + 512 <= tar->size(); at += 512) {
    unsigned sum = 8 * ' ';
    for (size_t i = 0; i < 512; ++i)
      if (i < 148 || i >= 156) sum += static_cast<unsigned char>((*tar)[at + i]);
    if (sum == 8 * ' ') continue;
    char text[8];
    std::snprintf(text, sizeof text, "%06o", sum);
    tar->replace(at + 148, 7, text, 7);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const TemporaryFolder folder =
      std::move(TemporaryFolder::Create("lamina-tar-fuzz")).value();
  if (size == 0) return 0;
  std::string tar(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1) FixChecksums(&tar);
  BytesBlob blob(AsBytes(tar));
  const IndexRequest request{.blob_digest = Digest::Sha256(AsBytes(tar)),
                             .blob_size = tar.size(),
                             .diff_id = {},
                             .name = "layer",
                             .output_path = folder.path() + "/index",
                             .entry_limit = 1000,
                             .progress = {}};
  const Status indexed = Index(tar, request);
  if (!indexed.has_value()) {
    const Code code = indexed.error().code;
    Require(code == Code::kInvalid || code == Code::kLimit);
    return 0;
  }
  const auto index = LayerIndex::Open(request.output_path, request.blob_digest);
  Require(index.has_value());
  CheckTree(**index);
  CheckChunks(**index, blob);
  return 0;
}
