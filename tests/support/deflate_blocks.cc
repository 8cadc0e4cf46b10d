#include "tests/support/deflate_blocks.h"

#include <zlib.h>

#include <algorithm>
#include <stdexcept>

namespace lamina::testing {
namespace {

constexpr size_t kWindow = 32768;

// One z_stream in gzip mode that is told to stop at every block.
class BlockWalker {
 public:
  explicit BlockWalker(const std::string& blob) : blob_(blob) {
    if (inflateInit2(&stream_, 31) != Z_OK) throw std::runtime_error("inflateInit2 failed");
  }
  ~BlockWalker() { inflateEnd(&stream_); }

  std::vector<DeflateBlock> Walk() {
    while (at_ < blob_.size()) Step();
    return std::move(blocks_);
  }

 private:
  void Step() {
    unsigned char buffer[4096];
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(blob_.data())) + at_;
    stream_.avail_in = static_cast<uInt>(std::min<size_t>(blob_.size() - at_, 1u << 20));
    const uInt offered = stream_.avail_in;
    stream_.next_out = buffer;
    stream_.avail_out = sizeof buffer;
    const int code = inflate(&stream_, Z_BLOCK);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
      throw std::runtime_error(stream_.msg ? stream_.msg : "inflate failed");
    at_ += offered - stream_.avail_in;
    const size_t written = sizeof buffer - stream_.avail_out;
    raw_ += written;
    window_.append(reinterpret_cast<const char*>(buffer), written);
    if (window_.size() > kWindow) window_.erase(0, window_.size() - kWindow);
    if (code == Z_STREAM_END) {
      inflateReset(&stream_);
    } else if ((stream_.data_type & 128) && !(stream_.data_type & 64)) {
      blocks_.push_back({raw_, at_, static_cast<uint32_t>(stream_.data_type & 7),
                         std::string(kWindow - window_.size(), '\0') + window_});
    }
  }

  const std::string& blob_;
  z_stream stream_{};
  std::vector<DeflateBlock> blocks_;
  std::string window_;
  uint64_t at_ = 0;
  uint64_t raw_ = 0;
};

}  // namespace

std::vector<DeflateBlock> DeflateBlocksOf(const std::string& blob) {
  return BlockWalker(blob).Walk();
}

}  // namespace lamina::testing
