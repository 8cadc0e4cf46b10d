// Decoders: whole streams without and with snapshots, and one 4 KiB read from a checkpoint. The
// data are a tar of a folder of this machine (LAMINA_BENCH_FOLDER, by default
// /usr/lib/x86_64-linux-gnu, cut to 128 MiB), packed by gzip(1) and zstd(1).

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "index/compression.h"

namespace lamina {
namespace {

constexpr size_t kDataBytes = 128u << 20;
constexpr size_t kInputStep = 256u << 10;

// The output of a shell command, made once for all benchmarks.
const std::string& OutputOf(const std::string& command) {
  static std::map<std::string, std::string> known;
  std::string& output = known[command];
  if (!output.empty()) return output;
  auto folder = TemporaryFolder::Create("lamina-bench");
  if (!folder) std::abort();
  const std::string path = folder->path() + "/output";
  if (std::system(("(" + command + ") > " + path).c_str()) != 0) std::abort();
  output = ReadWholeFile(path, uint64_t{1} << 32).value();
  return output;
}

const std::string& Blob(Compression compression) {
  const char* chosen = std::getenv("LAMINA_BENCH_FOLDER");
  const std::string folder = chosen != nullptr ? chosen : "/usr/lib/x86_64-linux-gnu";
  const std::string tar =
      "tar -C " + folder + " -cf - . 2> /dev/null | head -c " + std::to_string(kDataBytes);
  switch (compression) {
    case Compression::kGzip:
      return OutputOf(tar + " | gzip -6");
    case Compression::kZstd:
      return OutputOf(tar + " | zstd -q -c -3");
    case Compression::kNone:
      break;
  }
  return OutputOf(tar);
}

// Decodes all of it into pieces of `span`; with `encode`, a snapshot of each is taken and made a
// checkpoint.
std::vector<Checkpoint> DecodeWhole(Compression compression, size_t span, bool take, bool encode) {
  const std::string& blob = Blob(compression);
  auto decoder = StreamDecoder::Create(compression);
  std::vector<Checkpoint> checkpoints;
  std::vector<uint8_t> out(span);
  size_t filled = 0;
  ByteSpan rest = AsBytes(blob);
  ByteSpan input;
  while (true) {
    if (filled == 0 && take) {
      const auto snapshot = decoder->Snapshot();
      if (encode) checkpoints.push_back(snapshot->Encode());
    }
    do {
      if (input.empty()) {
        input = rest.first(std::min(kInputStep, rest.size()));
        rest = rest.subspan(input.size());
      }
      const auto count = decoder->Decode(&input, MutableByteSpan(out).subspan(filled));
      if (!count) std::abort();
      filled += *count;
    } while (filled < span && (!rest.empty() || !input.empty()));
    if (filled < span) break;
    filled = 0;
  }
  if (!decoder->Finish()) std::abort();
  return checkpoints;
}

void BM_Decode(benchmark::State& state, Compression compression, bool take, bool encode) {
  const auto span = static_cast<size_t>(state.range(0));
  size_t size = 0;
  size_t count = 0;
  (void)Blob(compression);
  for (auto _ : state) {
    const auto checkpoints = DecodeWhole(compression, span, take, encode);
    size = 0;
    for (const Checkpoint& checkpoint : checkpoints) size += checkpoint.state.size();
    count = checkpoints.size();
  }
  state.SetBytesProcessed(
      static_cast<int64_t>(state.iterations() * Blob(Compression::kNone).size()));
  if (count > 0)
    state.counters["bytes_each"] = static_cast<double>(size) / static_cast<double>(count);
}
BENCHMARK_CAPTURE(BM_Decode, gzip, Compression::kGzip, false, false)
    ->Arg(128 << 10)
    ->Arg(1 << 20)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Decode, gzip_snapshots, Compression::kGzip, true, false)
    ->Arg(128 << 10)
    ->Arg(1 << 20)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Decode, gzip_checkpoints, Compression::kGzip, true, true)
    ->Arg(1 << 20)
    ->Arg(4 << 20)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Decode, zstd, Compression::kZstd, false, false)
    ->Arg(1 << 20)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Decode, plain, Compression::kNone, false, false)
    ->Arg(1 << 20)
    ->Unit(benchmark::kMillisecond);

// A read of 4 KiB anywhere: resume at the checkpoint before it, decode up to it.
void BM_RandomRead4K(benchmark::State& state, Compression compression) {
  const auto span = static_cast<size_t>(state.range(0));
  const auto checkpoints = DecodeWhole(compression, span, true, true);
  const std::string& blob = Blob(compression);
  std::mt19937_64 random(1);
  std::vector<uint8_t> out(span + 4096);
  for (auto _ : state) {
    const Checkpoint& at = checkpoints[random() % (checkpoints.size() - 1)];
    auto decoder = StreamDecoder::Resume(compression, at.raw_offset, at.blob_offset, at.state);
    if (!decoder) std::abort();
    ByteSpan input = AsBytes(blob).subspan(at.blob_offset);
    const MutableByteSpan wanted = MutableByteSpan(out).first(random() % (span - 4096) + 4096);
    benchmark::DoNotOptimize((*decoder)->Decode(&input, wanted));
  }
}
BENCHMARK_CAPTURE(BM_RandomRead4K, gzip, Compression::kGzip)
    ->Arg(1 << 20)
    ->Arg(4 << 20)
    ->Unit(benchmark::kMicrosecond);

// Resuming alone: opening and checking a state.
void BM_Resume(benchmark::State& state) {
  const auto checkpoints = DecodeWhole(Compression::kGzip, 1 << 20, true, true);
  size_t next = 0;
  for (auto _ : state) {
    const Checkpoint& at = checkpoints[next++ % checkpoints.size()];
    benchmark::DoNotOptimize(
        StreamDecoder::Resume(Compression::kGzip, at.raw_offset, at.blob_offset, at.state));
  }
}
BENCHMARK(BM_Resume)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lamina
