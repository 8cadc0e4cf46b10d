#include "index/gzip_state.h"

#include <fmt/format.h>
#include <isa-l.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "index/gzip_tables.h"

namespace lamina {
namespace {

constexpr uint32_t kMagic = 0x315a474c;  // "LGZ1"
constexpr int kZstdLevel = 1;            // 5 % larger than level 3, at half its time
constexpr uint32_t kHistory = ISAL_DEF_HIST_SIZE;
constexpr uint32_t kTrailer = 8;

struct Envelope {
  uint32_t magic;
  uint32_t isal_version;
  uint32_t isal_state_size;
  uint32_t checksum;  // CRC-32C of what follows the envelope
};

// The fields in use of inflate_state. What is left out is zero between two calls.
struct StoredFields {
  uint64_t read_in;
  uint32_t read_in_length;
  uint32_t block_state;
  uint32_t bfinal;
  uint32_t crc;
  uint32_t total_out;
  uint32_t stored_block_left;  // bytes of a stored block
  uint32_t header_size;   // bytes in tmp_in_buffer: the start of a block header or of the trailer
  uint32_t window_size;   // bytes of tmp_out_buffer that follow
  uint32_t window_taken;  // of these, how many were given out
  uint32_t large_size;    // entries of the long literal/length table that follow
  uint32_t small_size;    // the same of the distance table
  uint32_t unchecked;     // 1: the member's checksum is not known, since its decoder began in it
};
static_assert(sizeof(StoredFields) == 56);

// No content is larger: the fields and every array of the state in full.
constexpr size_t kContentLimit = sizeof(StoredFields) + sizeof(inflate_state);

Error Damaged(const char* what) {
  return Error{Code::kCorrupt, fmt::format("a gzip checkpoint is damaged: {}", what)};
}

void Append(std::vector<uint8_t>& to, const void* from, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

bool Take(ByteSpan& from, void* to, size_t size) {
  if (from.size() < size) return false;
  std::memcpy(to, from.data(), size);
  from = from.subspan(size);
  return true;
}

// Where the part of tmp_out_buffer begins that later calls can refer to. Once the last block has
// ended nothing refers to history, and only the output that is not yet taken counts.
uint32_t WindowStart(const inflate_state& state) {
  const auto valid = static_cast<uint32_t>(state.tmp_out_valid);
  const auto taken = static_cast<uint32_t>(state.tmp_out_processed);
  const bool ended =
      state.block_state == ISAL_BLOCK_INPUT_DONE || state.block_state == ISAL_CHECKSUM_CHECK;
  return ended ? taken : std::min(taken, valid > kHistory ? valid - kHistory : 0);
}

// Moving the window to the front of the buffer is what ISA-L itself does when it runs out of room.
StoredFields FieldsOf(const inflate_state& state) {
  const uint32_t start = WindowStart(state);
  StoredFields fields{};
  // ISA-L leaves the first bits of the next byte above the valid ones; resuming, it reads that byte
  // again.
  const int32_t bits = state.read_in_length;  // outside 0 to 64 only after a fault
  const uint64_t above = bits >= 0 && bits < 64 ? ~uint64_t{0} << bits : 0;
  fields.read_in = state.read_in & ~above;
  fields.read_in_length = static_cast<uint32_t>(state.read_in_length);
  fields.block_state = state.block_state;
  fields.bfinal = state.bfinal;
  fields.unchecked = state.crc_flag == ISAL_DEFLATE ? 1 : 0;
  fields.crc = state.crc;
  fields.total_out = state.total_out;
  fields.header_size = static_cast<uint32_t>(state.tmp_in_size);
  fields.window_size = static_cast<uint32_t>(state.tmp_out_valid) - start;
  fields.window_taken = static_cast<uint32_t>(state.tmp_out_processed) - start;
  if (state.block_state == ISAL_BLOCK_TYPE0)
    fields.stored_block_left = static_cast<uint32_t>(state.type0_block_len);
  if (state.block_state == ISAL_BLOCK_CODED) {
    fields.large_size = static_cast<uint32_t>(LongEntriesInUse(state.lit_huff_code));
    fields.small_size = static_cast<uint32_t>(LongEntriesInUse(state.dist_huff_code));
  }
  return fields;
}

// Only a block header or a trailer that was cut by the end of the input leaves bytes in
// tmp_in_buffer.
bool HeaderFits(const StoredFields& f) {
  switch (f.block_state) {
    case ISAL_BLOCK_HDR:
      return f.header_size <= ISAL_DEF_MAX_HDR_SIZE;
    case ISAL_CHECKSUM_CHECK:
      return f.header_size < kTrailer && f.read_in_length < 8;
    default:
      return f.header_size == 0;
  }
}

bool StateFits(const StoredFields& f) {
  switch (f.block_state) {
    case ISAL_BLOCK_NEW_HDR:
    case ISAL_BLOCK_HDR:
    case ISAL_BLOCK_CODED:
      return true;
    case ISAL_BLOCK_TYPE0:
      return f.stored_block_left <= 0xffff && f.read_in_length % 8 == 0;
    case ISAL_BLOCK_INPUT_DONE:
      return f.window_taken == 0;
    case ISAL_CHECKSUM_CHECK:
      return f.window_size == 0 && f.window_taken == 0;
    default:
      return false;
  }
}

Status CheckFields(const StoredFields& f) {
  if (!StateFits(f)) return Damaged("its block state");
  if (f.bfinal > 1 || f.unchecked > 1) return Damaged("its flags");
  if (f.read_in_length > 64 || (f.read_in_length < 64 && f.read_in >> f.read_in_length != 0))
    return Damaged("its bit buffer");
  if (!HeaderFits(f)) return Damaged("its header buffer");
  if (f.window_size > sizeof(inflate_state::tmp_out_buffer) ||
      f.window_taken > std::min(f.window_size, kHistory))
    return Damaged("its window");
  if (f.large_size > sizeof(inflate_huff_code_large::long_code_lookup) / sizeof(uint16_t) ||
      f.small_size > sizeof(inflate_huff_code_small::long_code_lookup) / sizeof(uint16_t))
    return Damaged("the size of its tables");
  return {};
}

void ToState(const StoredFields& f, inflate_state& state) {
  isal_inflate_init(&state);
  state.crc_flag = f.unchecked != 0 ? ISAL_DEFLATE : ISAL_GZIP_NO_HDR_VER;
  state.read_in = f.read_in;
  state.read_in_length = static_cast<int32_t>(f.read_in_length);
  state.block_state = static_cast<isal_block_state>(f.block_state);
  state.bfinal = f.bfinal;
  state.crc = f.crc;
  state.total_out = f.total_out;
  state.type0_block_len = static_cast<int32_t>(f.stored_block_left);
  state.tmp_in_size = static_cast<int16_t>(f.header_size);
  state.tmp_out_valid = static_cast<int32_t>(f.window_size);
  state.tmp_out_processed = static_cast<int32_t>(f.window_taken);
}

Status TakeTables(ByteSpan& content, const StoredFields& f, inflate_state& state) {
  auto& large = state.lit_huff_code;
  auto& small = state.dist_huff_code;
  if (!Take(content, large.short_code_lookup, sizeof large.short_code_lookup) ||
      !Take(content, small.short_code_lookup, sizeof small.short_code_lookup) ||
      !Take(content, large.long_code_lookup, f.large_size * sizeof large.long_code_lookup[0]) ||
      !Take(content, small.long_code_lookup, f.small_size * sizeof small.long_code_lookup[0]))
    return Damaged("its size");
  if (!IsValidTable(large) || !IsValidTable(small)) return Damaged("its tables");
  return {};
}

}  // namespace

std::vector<uint8_t> EncodeGzipState(const inflate_state& state) {
  const StoredFields fields = FieldsOf(state);
  std::vector<uint8_t> content;
  content.reserve(kContentLimit);
  Append(content, &fields, sizeof fields);
  Append(content, state.tmp_in_buffer, fields.header_size);
  if (state.block_state == ISAL_BLOCK_CODED) {
    const auto& large = state.lit_huff_code;
    const auto& small = state.dist_huff_code;
    Append(content, large.short_code_lookup, sizeof large.short_code_lookup);
    Append(content, small.short_code_lookup, sizeof small.short_code_lookup);
    Append(content, large.long_code_lookup, fields.large_size * sizeof large.long_code_lookup[0]);
    Append(content, small.long_code_lookup, fields.small_size * sizeof small.long_code_lookup[0]);
  }
  Append(content, state.tmp_out_buffer + WindowStart(state), fields.window_size);
  return SealGzipState(content);
}

Result<std::unique_ptr<inflate_state>> DecodeGzipState(ByteSpan bytes) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> storage, OpenGzipState(bytes));
  ByteSpan content(storage);
  StoredFields fields;
  if (!Take(content, &fields, sizeof fields)) return Damaged("its size");
  RETURN_IF_ERROR(CheckFields(fields));
  auto state = std::make_unique<inflate_state>();
  ToState(fields, *state);
  if (!Take(content, state->tmp_in_buffer, fields.header_size)) return Damaged("its size");
  if (fields.block_state == ISAL_BLOCK_CODED) RETURN_IF_ERROR(TakeTables(content, fields, *state));
  if (content.size() != fields.window_size) return Damaged("its size");
  std::copy(content.begin(), content.end(), state->tmp_out_buffer);
  return state;
}

std::vector<uint8_t> SealGzipState(ByteSpan content) {
  std::vector<uint8_t> sealed(sizeof(Envelope) + ZSTD_compressBound(content.size()));
  const MutableByteSpan body = MutableByteSpan(sealed).subspan(sizeof(Envelope));
  const size_t code =
      ZSTD_compress(body.data(), body.size(), content.data(), content.size(), kZstdLevel);
  // It fails without memory only, and then leaves a state that nobody can open, but not an empty
  // one.
  const size_t size = ZSTD_isError(code) ? 0 : code;
  const Envelope envelope{kMagic, ISAL_VERSION, sizeof(inflate_state), Crc32c(body.first(size))};
  std::memcpy(sealed.data(), &envelope, sizeof envelope);
  sealed.resize(sizeof envelope + size);
  sealed.shrink_to_fit();
  return sealed;
}

Result<std::vector<uint8_t>> OpenGzipState(ByteSpan bytes) {
  Envelope envelope;
  if (!Take(bytes, &envelope, sizeof envelope) || envelope.magic != kMagic)
    return Damaged("its magic number");
  if (envelope.isal_version != ISAL_VERSION || envelope.isal_state_size != sizeof(inflate_state)) {
    return Error{Code::kUnsupported,
                 fmt::format("a gzip checkpoint was written with another version of ISA-L "
                             "(0x{:x}, this is 0x{:x})",
                             envelope.isal_version, uint32_t{ISAL_VERSION})};
  }
  if (Crc32c(bytes) != envelope.checksum) return Damaged("its checksum");
  std::vector<uint8_t> content(kContentLimit);
  const size_t size = ZSTD_decompress(content.data(), content.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(size)) return Damaged("its compression");
  content.resize(size);
  return content;
}

}  // namespace lamina
