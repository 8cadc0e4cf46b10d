#include "index/tar.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/text.h"
#include "index/tar_entry.h"
#include "index/tar_header.h"
#include "index/tar_pax.h"
#include "index/tar_sparse.h"

namespace lamina {
namespace {

uint64_t PaddingOf(uint64_t size) { return AlignUp(size, kTarBlock) - size; }

std::string AtByte(uint64_t offset) { return "at byte " + std::to_string(offset); }

}  // namespace

// A machine that is in one state between any two bytes. What comes in blocks is gathered in
// `block_`.
struct TarParser::Impl {
  Impl(TarHandler& taker, TarLimits bounds) : handler(taker), limits(bounds) {}

  enum class State {
    kHeader,
    kLongHeader,  // the data of a PAX or GNU long name header
    kOldSparse,   // extension blocks of an old GNU sparse map
    kSparseMap,   // PAX sparse 1.0, in front of the data
    kData,
    kPadding,
    kEnded,
  };

  TarHandler& handler;
  const TarLimits limits;
  State state = State::kHeader;
  uint64_t offset = 0;  // bytes of the stream taken so far
  std::optional<Error> failure;

  std::array<uint8_t, kTarBlock> block{};
  size_t block_fill = 0;
  bool zero_block = false;  // the last header block was all zeros
  std::string last_path;    // for messages about a header that cannot be read
  std::string long_header;  // gathered so far
  uint64_t long_header_left = 0;
  char long_header_type = '\0';

  PendingHeaders pending;
  TarEntry entry;
  uint64_t stored_size = 0;  // bytes of the entry's data in the archive, the sparse map not counted
  std::optional<SparseMapReader> sparse_map;
  size_t region = 0;         // the sparse region that the next data byte belongs to
  uint64_t file_offset = 0;  // of the next data byte
  uint64_t data_left = 0;
  uint64_t padding_left = 0;

  Status Feed(ByteSpan input);
  Status Step(ByteSpan* input);
  Status Finish();

  bool FillBlock(ByteSpan* input);
  Status TakeHeaderBlock();
  Status TakeHeader(const TarHeader& header);
  Status BeginLongHeader(const TarHeader& header);
  Status FeedLongHeader(ByteSpan* input);
  Status EndLongHeader();
  Status BeginEntry(const TarHeader& header);
  Status BeginOldSparse();
  Status TakeOldSparse();
  Status AfterMap(bool more);
  Status FeedSparseMap(ByteSpan* input);
  Status EmitEntry();
  Status FeedData(ByteSpan* input);
  void FeedPadding(ByteSpan* input);
  void EndData(uint64_t padding);

  Error InEntry(const Error& error) const { return error.Within("entry " + Quote(entry.path)); }
  Error InHeader(const Error& error) const {
    const std::string where = "header " + AtByte(offset - kTarBlock);
    return error.Within(last_path.empty() ? where : where + " after entry " + Quote(last_path));
  }
};

Status TarParser::Impl::Feed(ByteSpan input) {
  if (failure.has_value()) return *failure;
  const uint64_t total = offset + input.size();
  Status status;
  if (total > limits.raw_bytes)
    status = Error{Code::kLimit, "it unpacks to more than the limit of " +
                                     std::to_string(limits.raw_bytes) + " bytes"};
  while (status.has_value() && !input.empty() && state != State::kEnded) {
    status = Step(&input);
    offset = total - input.size();
  }
  offset = total;
  if (!status.has_value()) failure = status.error();
  return status;
}

Status TarParser::Impl::Step(ByteSpan* input) {
  const size_t had = input->size();
  switch (state) {
    case State::kHeader:
    case State::kOldSparse:
      if (!FillBlock(input)) return {};
      offset += had - input->size();
      return state == State::kHeader ? TakeHeaderBlock() : TakeOldSparse();
    case State::kLongHeader:
      return FeedLongHeader(input);
    case State::kSparseMap:
      return FeedSparseMap(input);
    case State::kData:
      return FeedData(input);
    case State::kPadding:
      FeedPadding(input);
      return {};
    case State::kEnded:
      return {};
  }
  return {};
}

bool TarParser::Impl::FillBlock(ByteSpan* input) {
  const size_t take = std::min(input->size(), kTarBlock - block_fill);
  std::copy_n(input->begin(), take, block.begin() + static_cast<ptrdiff_t>(block_fill));
  *input = input->subspan(take);
  block_fill += take;
  if (block_fill < kTarBlock) return false;
  block_fill = 0;
  return true;
}

Status TarParser::Impl::TakeHeaderBlock() {
  if (IsAllZero(block)) {
    if (zero_block) state = State::kEnded;
    zero_block = true;
    return {};
  }
  if (zero_block)
    return InHeader({Code::kInvalid, "data follows one block of zeros; an archive ends with two"});
  Result<TarHeader> header = ParseTarHeader(block);
  if (!header.has_value()) return InHeader(header.error());
  if (!pending.first_offset.has_value()) pending.first_offset = offset - kTarBlock;
  return TakeHeader(*header);
}

Status TarParser::Impl::TakeHeader(const TarHeader& header) {
  if (header.size < 0)
    return InHeader(
        {Code::kInvalid, Quote(header.name) + " has the size " + std::to_string(header.size)});
  switch (header.type) {
    case 'x':
    case 'g':
    case 'L':
    case 'K':
      return BeginLongHeader(header);
    default:
      return BeginEntry(header);
  }
}

Status TarParser::Impl::BeginLongHeader(const TarHeader& header) {
  const auto size = static_cast<uint64_t>(header.size);
  if (size > limits.long_header)
    return InHeader({Code::kLimit, "its PAX or GNU long name header has " + std::to_string(size) +
                                       " bytes, the limit is " +
                                       std::to_string(limits.long_header)});
  long_header_type = header.type;
  long_header.clear();
  long_header_left = size;
  padding_left = PaddingOf(size);
  state = State::kLongHeader;
  return size == 0 ? EndLongHeader() : Status();
}

Status TarParser::Impl::FeedLongHeader(ByteSpan* input) {
  const size_t take = static_cast<size_t>(std::min<uint64_t>(input->size(), long_header_left));
  long_header += AsText(input->first(take));
  *input = input->subspan(take);
  long_header_left -= take;
  return long_header_left == 0 ? EndLongHeader() : Status();
}

Status TarParser::Impl::EndLongHeader() {
  state = padding_left > 0 ? State::kPadding : State::kHeader;
  const std::string_view name = TarString(AsBytes(long_header));
  switch (long_header_type) {
    case 'L':
      pending.gnu_name = name;
      return {};
    case 'K':
      pending.gnu_link = name;
      return {};
    default:
      break;
  }
  Result<PaxHeader> pax = ParsePax(long_header);
  const std::string where = last_path.empty() ? "first entry" : "entry after " + Quote(last_path);
  if (!pax.has_value()) return pax.error().Within(where);
  // A global header applies nothing, and what stood before it is forgotten, as in Go's archive/tar.
  if (long_header_type == 'g')
    pending = PendingHeaders();
  else
    pending.pax = std::move(*pax);
  return {};
}

Status TarParser::Impl::BeginEntry(const TarHeader& header) {
  std::vector<std::string> warnings;
  Result<EntryPlan> plan = PlanEntry(header, pending, limits, &warnings, &entry);
  last_path = entry.path;
  if (!plan.has_value()) return InEntry(plan.error());
  for (std::string& warning : warnings) handler.OnWarning(Quote(entry.path) + ": " + warning);
  stored_size = plan->stored_size;
  sparse_map.reset();
  switch (plan->sparse) {
    case SparseForm::kNone:
      return EmitEntry();
    case SparseForm::kOldGnu:
      return BeginOldSparse();
    case SparseForm::kPaxRecords: {
      Result<std::vector<SparseRegion>> regions = ParsePaxSparseMap(pending.pax);
      if (!regions.has_value()) return InEntry(regions.error());
      entry.regions = std::move(*regions);
      return AfterMap(/*more=*/false);
    }
    case SparseForm::kPaxInData:
      sparse_map.emplace(limits.sparse_regions);
      state = State::kSparseMap;
      if (stored_size == 0) return InEntry({Code::kInvalid, "its sparse map is missing"});
      return {};
  }
  return {};
}

Status TarParser::Impl::BeginOldSparse() {
  Result<bool> more = ParseOldGnuSparse(block, &entry.size, &entry.regions);
  if (!more.has_value()) return InEntry(more.error());
  return AfterMap(*more);
}

Status TarParser::Impl::TakeOldSparse() {
  Result<bool> more = ParseOldGnuExtension(block, &entry.regions);
  if (!more.has_value()) return InEntry(more.error());
  return AfterMap(*more);
}

Status TarParser::Impl::AfterMap(bool more) {
  if (entry.regions.size() > limits.sparse_regions)
    return InEntry(TooManyRegions(entry.regions.size(), limits.sparse_regions));
  if (more) {
    state = State::kOldSparse;
    return {};
  }
  const Status valid = CheckSparseRegions(entry.size, stored_size, &entry.regions);
  if (!valid.has_value()) return InEntry(valid.error());
  return EmitEntry();
}

Status TarParser::Impl::FeedSparseMap(ByteSpan* input) {
  const uint64_t left = stored_size - sparse_map->consumed();
  ByteSpan piece = input->first(static_cast<size_t>(std::min<uint64_t>(input->size(), left)));
  const size_t had = piece.size();
  const Status fed = sparse_map->Feed(&piece);
  *input = input->subspan(had - piece.size());
  if (!fed.has_value()) return InEntry(fed.error());
  if (!sparse_map->done()) {
    if (sparse_map->consumed() == stored_size)
      return InEntry({Code::kInvalid, "its sparse map is longer than its data"});
    return {};
  }
  stored_size -= sparse_map->consumed();
  entry.regions = std::move(sparse_map->regions());
  return AfterMap(/*more=*/false);
}

Status TarParser::Impl::EmitEntry() {
  RETURN_IF_ERROR(handler.OnEntry(entry));
  pending = PendingHeaders();
  region = 0;
  file_offset = entry.regions.empty() ? 0 : entry.regions[0].offset;
  data_left = stored_size;
  padding_left = PaddingOf(stored_size);
  state = State::kData;
  if (data_left == 0) EndData(padding_left);
  return {};
}

void TarParser::Impl::EndData(uint64_t padding) {
  padding_left = padding;
  state = padding > 0 ? State::kPadding : State::kHeader;
}

Status TarParser::Impl::FeedData(ByteSpan* input) {
  uint64_t take = std::min<uint64_t>(input->size(), data_left);
  if (entry.sparse) {
    const SparseRegion& current = entry.regions[region];
    take = std::min(take, current.offset + current.length - file_offset);
  }
  const ByteSpan piece = input->first(static_cast<size_t>(take));
  RETURN_IF_ERROR(handler.OnData(piece, file_offset, offset));
  *input = input->subspan(piece.size());
  file_offset += take;
  data_left -= take;
  if (entry.sparse && data_left > 0) {
    const SparseRegion& current = entry.regions[region];
    if (file_offset == current.offset + current.length)
      file_offset = entry.regions[++region].offset;
  }
  if (data_left == 0) EndData(padding_left);
  return {};
}

void TarParser::Impl::FeedPadding(ByteSpan* input) {
  const size_t take = static_cast<size_t>(std::min<uint64_t>(input->size(), padding_left));
  *input = input->subspan(take);
  padding_left -= take;
  if (padding_left == 0) state = State::kHeader;
}

Status TarParser::Impl::Finish() {
  if (failure.has_value()) return *failure;
  switch (state) {
    case State::kEnded:
    case State::kPadding:  // the last block of the archive may be cut short behind its data
      break;
    case State::kHeader:
      if (block_fill == 0) break;
      return Error{Code::kInvalid,
                   "the archive is truncated: it ends " + AtByte(offset) + " inside a header"};
    case State::kLongHeader:
      return Error{Code::kInvalid, "the archive is truncated: it ends " + AtByte(offset) +
                                       " inside a PAX or GNU long name header"};
    case State::kOldSparse:
    case State::kSparseMap:
    case State::kData:
      return InEntry({Code::kInvalid, "the archive is truncated: it ends " + AtByte(offset) +
                                          " inside this entry"});
  }
  if (pending.first_offset.has_value())
    handler.OnWarning("the archive ends with an extended header that no entry follows");
  return {};
}

TarParser::TarParser(TarHandler& handler, TarLimits limits)
    : impl_(std::make_unique<Impl>(handler, limits)) {}
TarParser::~TarParser() = default;
Status TarParser::Feed(ByteSpan bytes) { return impl_->Feed(bytes); }
Status TarParser::Finish() { return impl_->Finish(); }
bool TarParser::ended() const { return impl_->state == Impl::State::kEnded; }

}  // namespace lamina
