#pragma once

// TarBuilder: tar streams written header by header, valid or broken in exactly one way. It knows
// nothing of lamina's parser: fields are formatted as POSIX and the GNU manual say. One thread.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lamina::testing {

struct TarEntrySpec {
  std::string name{};  // cut to the 100 bytes of the field; longer ones need `pax` or `gnu_name`
  char type = '0';
  std::string data{};  // stands behind the header, padded to 512, whatever the size says
  std::string link{};
  uint32_t mode = 0644;
  int64_t uid = 0;  // numbers that octal cannot hold are written in base 256
  int64_t gid = 0;
  int64_t mtime = 1'600'000'000;
  std::optional<int64_t> size{};  // of the header; else data.size()
  int64_t major = 0;
  int64_t minor = 0;
  enum class Magic { kUstar, kGnu, kStar, kV7 } magic = Magic::kUstar;
  std::string prefix{};                                    // of ustar
  std::vector<std::pair<std::string, std::string>> pax{};  // an 'x' header in front
  std::optional<std::string> gnu_name{};                   // an 'L' entry in front
  std::optional<std::string> gnu_link{};                   // a 'K' entry in front
  // Changes the 512 bytes before the checksum is computed.
  std::function<void(char* block)> patch{};
  bool bad_checksum = false;
};

class TarBuilder {
 public:
  TarBuilder& Add(const TarEntrySpec& entry);
  // Shorthands with usual attributes.
  TarBuilder& File(std::string name, std::string data = "");
  TarBuilder& Folder(std::string name);
  TarBuilder& Symlink(std::string name, std::string target);
  TarBuilder& Hardlink(std::string name, std::string target);

  // `type` is 'x' or 'g'.
  TarBuilder& Pax(char type, const std::vector<std::pair<std::string, std::string>>& records);
  TarBuilder& RawPax(char type, std::string_view body);
  TarBuilder& AddRaw(std::string_view bytes);
  TarBuilder& ZeroBlocks(size_t count);

  // What was added so far, without the end of archive.
  const std::string& bytes() const { return out_; }
  // With two blocks of zeros.
  std::string Finish() const { return out_ + std::string(1024, '\0'); }

  static std::string PaxRecord(std::string_view key, std::string_view value);

 private:
  std::string out_;
};

// A number as the 12 bytes of a size or an offset: octal, or base 256 where octal cannot hold it.
void PutTarNumber(char* field, size_t length, int64_t value);

}  // namespace lamina::testing
