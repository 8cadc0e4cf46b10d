#include "tests/unit/index/codec_tools.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <stdexcept>

#include "base/file.h"

namespace lamina::testing {

std::string Pipe(const std::string& command, const std::string& input) {
  auto folder = TemporaryFolder::Create("lamina-codec");
  if (!folder) throw std::runtime_error(folder.error().message);
  const std::string in = folder->path() + "/in";
  const std::string out = folder->path() + "/out";
  if (!WriteFileAtomically(in, AsBytes(input))) throw std::runtime_error("cannot write " + in);
  const std::string line = "(" + command + ") < " + in + " > " + out;
  if (std::system(line.c_str()) != 0) throw std::runtime_error("failed: " + command);
  auto result = ReadWholeFile(out, uint64_t{1} << 32);
  if (!result) throw std::runtime_error(result.error().message);
  return *std::move(result);
}

std::string Python(const std::string& program, const std::string& input) {
  const std::string prelude =
      "import sys, zlib, gzip, struct\n"
      "data = sys.stdin.buffer.read()\n"
      "out = sys.stdout.buffer.write\n";
  return Pipe("python3 -c '" + prelude + program + "'", input);
}

std::string Noise(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string MixedData(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes;
  while (bytes.size() < size) {
    const size_t length = 1 + random() % 9000;
    switch (random() % 6) {
      case 0:
        bytes += Noise(length, static_cast<uint32_t>(random()));
        break;
      case 1:
        bytes.append(length * 4, '\0');
        break;
      case 2:
        for (size_t i = 0; i < length; ++i) bytes += static_cast<char>('a' + random() % 16);
        break;
      case 3: {  // a copy from about one window back, the longest distance that deflate has
        const size_t distance = 32768 - random() % 5;
        if (bytes.size() < distance) break;
        bytes += bytes.substr(bytes.size() - distance, length);
        break;
      }
      case 4:
        for (size_t i = 0; i < length / 8; ++i)
          bytes += "line " + std::to_string(random() % 1000) + "\n";
        break;
      default:
        bytes.append(length, static_cast<char>(random()));
        break;
    }
  }
  bytes.resize(size);
  return bytes;
}

namespace {

// Feeds the whole blob and calls `at_output` after every full buffer.
template <typename AtOutput>
Decoded Drive(StreamDecoder& decoder, ByteSpan blob, size_t input_step, size_t output_step,
              AtOutput at_output) {
  Decoded decoded;
  std::vector<uint8_t> buffer(output_step);
  ByteSpan input;
  size_t filled = 0;
  while (true) {
    const bool last = blob.empty() && input.empty();
    if (input.empty()) {
      input = blob.first(std::min(input_step, blob.size()));
      blob = blob.subspan(input.size());
    }
    const auto count = decoder.Decode(&input, MutableByteSpan(buffer).subspan(filled));
    if (!count) {
      decoded.status = count.error();
      break;
    }
    decoded.bytes.append(reinterpret_cast<const char*>(buffer.data()) + filled, *count);
    filled += *count;
    if (filled == output_step) {
      at_output();
      filled = 0;
    } else if (last && *count == 0) {
      break;
    }
  }
  if (decoded.status) decoded.status = decoder.Finish();
  decoded.garbage = decoder.trailing_garbage();
  decoded.blob_offset = decoder.blob_offset();
  return decoded;
}

}  // namespace

Decoded DecodeAll(StreamDecoder& decoder, const std::string& blob, size_t input_step,
                  size_t output_step) {
  return Drive(decoder, AsBytes(blob), input_step, output_step, [] {});
}

Decoded DecodeAll(Compression compression, const std::string& blob, size_t input_step,
                  size_t output_step) {
  return DecodeAll(*StreamDecoder::Create(compression), blob, input_step, output_step);
}

std::vector<Checkpoint> CheckpointsOf(Compression compression, const std::string& blob, size_t span,
                                      size_t input_step) {
  auto decoder = StreamDecoder::Create(compression);
  std::vector<Checkpoint> checkpoints{decoder->Snapshot()->Encode()};
  const auto decoded = Drive(*decoder, AsBytes(blob), input_step, span,
                             [&] { checkpoints.push_back(decoder->Snapshot()->Encode()); });
  if (!decoded.status) throw std::runtime_error(decoded.status.error().message);
  checkpoints.push_back(decoder->Snapshot()->Encode());
  return checkpoints;
}

Decoded DecodeFrom(Compression compression, const std::string& blob, const Checkpoint& checkpoint,
                   size_t input_step, size_t output_step) {
  auto decoder = StreamDecoder::Resume(compression, checkpoint.raw_offset, checkpoint.blob_offset,
                                       checkpoint.state);
  if (!decoder) return {"", std::move(decoder).error()};
  return DecodeAll(**decoder, blob.substr(checkpoint.blob_offset), input_step, output_step);
}

}  // namespace lamina::testing
