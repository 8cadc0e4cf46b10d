#include "tests/support/layer_tar.h"

#include <cstdio>
#include <cstring>

namespace lamina::testing {
namespace {

constexpr size_t kBlock = 512;

void Pad(std::string* out) { out->append((kBlock - out->size() % kBlock) % kBlock, '\0'); }

void PutOctal(char* field, size_t width, uint64_t value) {
  // What does not fit stands in a PAX record.
  std::snprintf(field, width, "%0*llo", static_cast<int>(width - 1),
                static_cast<unsigned long long>(value & ((uint64_t{1} << (3 * (width - 1))) - 1)));
}

std::string Header(char type, const std::string& path, const std::string& link,
                   const EntrySpec& entry, uint64_t size) {
  std::string block(kBlock, '\0');
  char* at = block.data();
  std::memcpy(at, path.data(), std::min<size_t>(path.size(), 100));
  PutOctal(at + 100, 8, entry.mode);
  PutOctal(at + 108, 8, entry.uid);
  PutOctal(at + 116, 8, entry.gid);
  PutOctal(at + 124, 12, size);
  PutOctal(at + 136, 12, entry.mtime_s < 0 ? 0 : static_cast<uint64_t>(entry.mtime_s));
  at[156] = type;
  std::memcpy(at + 157, link.data(), std::min<size_t>(link.size(), 100));
  std::memcpy(at + 257, "ustar\00000", 8);
  PutOctal(at + 329, 8, entry.major);
  PutOctal(at + 337, 8, entry.minor);
  std::memset(at + 148, ' ', 8);
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  std::snprintf(at + 148, 8, "%06o", sum);
  return block;
}

// "<length> key=value\n", where the length counts its own digits.
std::string PaxRecord(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) ++length;
  return std::to_string(length) + " " + key + "=" + value + "\n";
}

std::string PaxTime(const EntrySpec& entry) {
  // A negative time with nanoseconds counts down from the second: -1.25 is 750,000,000 ns after -2.
  int64_t seconds = entry.mtime_s;
  uint32_t ns = entry.mtime_ns;
  std::string sign;
  if (seconds < 0) {
    sign = "-";
    seconds = -seconds;
    if (ns > 0) {
      --seconds;
      ns = 1'000'000'000 - ns;
    }
  }
  char text[64];
  std::snprintf(text, sizeof text, "%s%lld.%09u", sign.c_str(), static_cast<long long>(seconds),
                ns);
  return text;
}

// Format 1.0: the map as decimal lines in front of the data.
std::string SparseContent(const EntrySpec& entry) {
  std::string map = std::to_string(entry.sparse_data.size() + 1) + "\n";
  std::string data;
  for (const auto& [offset, bytes] : entry.sparse_data) {
    map += std::to_string(offset) + "\n" + std::to_string(bytes.size()) + "\n";
    data += bytes;
  }
  map += std::to_string(entry.sparse_size) + "\n0\n";
  Pad(&map);
  return map + data;
}

std::string PaxRecords(const EntrySpec& entry) {
  std::string records;
  const bool sparse = entry.sparse_size > 0;
  if (sparse) {
    records += PaxRecord("GNU.sparse.major", "1") + PaxRecord("GNU.sparse.minor", "0");
    records += PaxRecord("GNU.sparse.name", entry.path);
    records += PaxRecord("GNU.sparse.realsize", std::to_string(entry.sparse_size));
  } else if (entry.path.size() > 100) {
    records += PaxRecord("path", entry.path);
  }
  if (entry.link.size() > 100) records += PaxRecord("linkpath", entry.link);
  if (entry.mtime_ns > 0 || entry.mtime_s < 0) records += PaxRecord("mtime", PaxTime(entry));
  if (entry.uid > 07777777) records += PaxRecord("uid", std::to_string(entry.uid));
  if (entry.gid > 07777777) records += PaxRecord("gid", std::to_string(entry.gid));
  for (const auto& [name, value] : entry.xattrs)
    records += PaxRecord("SCHILY.xattr." + name, value);
  return records;
}

void PutEntry(const EntrySpec& entry, std::string* out) {
  const std::string records = PaxRecords(entry);
  if (!records.empty()) {
    *out += Header('x', "pax", "", EntrySpec{}, records.size()) + records;
    Pad(out);
  }
  const std::string content = entry.sparse_size > 0 ? SparseContent(entry) : entry.content;
  *out += Header(static_cast<char>(entry.type), entry.path, entry.link, entry, content.size()) +
          content;
  Pad(out);
}

}  // namespace

std::string WriteTar(const LayerSpec& layer) {
  std::string out;
  for (const EntrySpec& entry : layer) PutEntry(entry, &out);
  out.append(2 * kBlock, '\0');
  return out;
}

}  // namespace lamina::testing
