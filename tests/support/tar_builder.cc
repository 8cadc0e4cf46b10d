#include "tests/support/tar_builder.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace lamina::testing {
namespace {

constexpr size_t kBlock = 512;

void PutText(char* field, size_t length, std::string_view text) {
  std::memcpy(field, text.data(), std::min(length, text.size()));
}

void PutMagic(char* block, TarEntrySpec::Magic magic) {
  switch (magic) {
    case TarEntrySpec::Magic::kV7:
      return;
    case TarEntrySpec::Magic::kGnu:
      std::memcpy(block + 257, "ustar  ", 8);
      return;
    case TarEntrySpec::Magic::kStar:
      std::memcpy(block + 508, "tar", 4);
      [[fallthrough]];
    case TarEntrySpec::Magic::kUstar:
      std::memcpy(block + 257, "ustar\00000", 8);
      return;
  }
}

void PutChecksum(char* block, int off_by) {
  std::memset(block + 148, ' ', 8);
  int sum = off_by;
  for (size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(block[i]);
  std::snprintf(block + 148, 8, "%06o", static_cast<unsigned>(sum));
}

}  // namespace

void PutTarNumber(char* field, size_t length, int64_t value) {
  const int64_t octal_end = int64_t{1} << (3 * (length - 1));
  if (value >= 0 && value < octal_end) {
    std::string text(length - 1, '0');
    for (size_t i = length - 1; i-- > 0; value >>= 3)
      text[i] = static_cast<char>('0' + (value & 7));
    PutText(field, length - 1, text);
    return;
  }
  for (size_t i = length; i-- > 0; value >>= 8) field[i] = static_cast<char>(value & 0xFF);
  field[0] = static_cast<char>(field[0] | 0x80);
}

TarBuilder& TarBuilder::Add(const TarEntrySpec& entry) {
  if (entry.gnu_name.has_value())
    Add({.name = "././@LongLink",
         .type = 'L',
         .data = *entry.gnu_name + std::string(1, '\0'),
         .magic = TarEntrySpec::Magic::kGnu});
  if (entry.gnu_link.has_value())
    Add({.name = "././@LongLink",
         .type = 'K',
         .data = *entry.gnu_link + std::string(1, '\0'),
         .magic = TarEntrySpec::Magic::kGnu});
  if (!entry.pax.empty()) Pax('x', entry.pax);

  char block[kBlock] = {};
  PutText(block, 100, entry.name);
  PutTarNumber(block + 100, 8, entry.mode);
  PutTarNumber(block + 108, 8, entry.uid);
  PutTarNumber(block + 116, 8, entry.gid);
  PutTarNumber(block + 124, 12, entry.size.value_or(static_cast<int64_t>(entry.data.size())));
  PutTarNumber(block + 136, 12, entry.mtime);
  block[156] = entry.type;
  PutText(block + 157, 100, entry.link);
  PutMagic(block, entry.magic);
  if (entry.magic != TarEntrySpec::Magic::kV7) {
    PutTarNumber(block + 329, 8, entry.major);
    PutTarNumber(block + 337, 8, entry.minor);
  }
  PutText(block + 345, 155, entry.prefix);
  if (entry.patch) entry.patch(block);
  PutChecksum(block, entry.bad_checksum ? 1 : 0);
  out_.append(block, kBlock);
  out_ += entry.data;
  out_.append((kBlock - entry.data.size() % kBlock) % kBlock, '\0');
  return *this;
}

TarBuilder& TarBuilder::File(std::string name, std::string data) {
  return Add({.name = std::move(name), .data = std::move(data)});
}
TarBuilder& TarBuilder::Folder(std::string name) {
  return Add({.name = std::move(name), .type = '5', .mode = 0755});
}
TarBuilder& TarBuilder::Symlink(std::string name, std::string target) {
  return Add({.name = std::move(name), .type = '2', .link = std::move(target), .mode = 0777});
}
TarBuilder& TarBuilder::Hardlink(std::string name, std::string target) {
  return Add({.name = std::move(name), .type = '1', .link = std::move(target)});
}

TarBuilder& TarBuilder::Pax(char type,
                            const std::vector<std::pair<std::string, std::string>>& records) {
  std::string body;
  for (const auto& [key, value] : records) body += PaxRecord(key, value);
  return RawPax(type, body);
}

TarBuilder& TarBuilder::RawPax(char type, std::string_view body) {
  return Add({.name = "PaxHeaders/x", .type = type, .data = std::string(body)});
}

TarBuilder& TarBuilder::AddRaw(std::string_view bytes) {
  out_ += bytes;
  return *this;
}

TarBuilder& TarBuilder::ZeroBlocks(size_t count) {
  out_.append(count * kBlock, '\0');
  return *this;
}

std::string TarBuilder::PaxRecord(std::string_view key, std::string_view value) {
  const std::string rest = " " + std::string(key) + "=" + std::string(value) + "\n";
  size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length) ++length;
  return std::to_string(length) + rest;
}

}  // namespace lamina::testing
