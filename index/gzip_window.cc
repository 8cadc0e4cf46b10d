#include "index/gzip_window.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

namespace lamina {
namespace {

constexpr uint32_t kMagic = 0x3157474c;  // "LGW1"
constexpr size_t kHistory = 32u << 10;
constexpr int kZstdLevel = 1;

struct Envelope {
  uint32_t magic;
  uint32_t checksum;  // CRC-32C of what follows it
  uint32_t skipped_bits;
  uint32_t history_size;
};

ByteSpan AfterChecksum(ByteSpan state) {
  return state.subspan(offsetof(Envelope, checksum) + sizeof(uint32_t));
}

Error Damaged(const char* what) {
  return Error{Code::kCorrupt, fmt::format("a gzip checkpoint is damaged: {}", what)};
}

}  // namespace

bool IsGzipWindow(ByteSpan state) {
  return state.size() >= sizeof kMagic && LoadLe<uint32_t>(state.data()) == kMagic;
}

std::vector<uint8_t> EncodeGzipWindow(uint32_t skipped_bits, ByteSpan history) {
  history = history.last(std::min(history.size(), kHistory));
  std::vector<uint8_t> out(sizeof(Envelope) + ZSTD_compressBound(history.size()));
  const size_t size = ZSTD_compress(out.data() + sizeof(Envelope), out.size() - sizeof(Envelope),
                                    history.data(), history.size(), kZstdLevel);
  // It fails without memory only, and then leaves a state that nobody can open, but not an empty
  // one.
  out.resize(sizeof(Envelope) + (ZSTD_isError(size) ? 0 : size));
  out.shrink_to_fit();
  Envelope envelope{kMagic, 0, skipped_bits, static_cast<uint32_t>(history.size())};
  std::memcpy(out.data(), &envelope, sizeof envelope);
  StoreLe(out.data() + offsetof(Envelope, checksum), Crc32c(AfterChecksum(out)));
  return out;
}

Result<GzipWindow> DecodeGzipWindow(ByteSpan state) {
  Envelope envelope;
  if (state.size() < sizeof envelope) return Damaged("its size");
  std::memcpy(&envelope, state.data(), sizeof envelope);
  if (envelope.magic != kMagic) return Damaged("its magic number");
  if (envelope.checksum != Crc32c(AfterChecksum(state))) return Damaged("its checksum");
  if (envelope.skipped_bits > 7) return Damaged("its bits");
  if (envelope.history_size > kHistory) return Damaged("its window");
  GzipWindow window{envelope.skipped_bits, std::vector<uint8_t>(envelope.history_size)};
  const ByteSpan body = state.subspan(sizeof envelope);
  const size_t size =
      ZSTD_decompress(window.history.data(), window.history.size(), body.data(), body.size());
  if (ZSTD_isError(size) || size != window.history.size()) return Damaged("its compression");
  return window;
}

}  // namespace lamina
