// The one pass over a layer, against what it cannot do without: decoding the stream and hashing it,
// packed and decoded, on the same threads; and against what others do with the same blob, `umoci
// unpack` and `podman pull`. Each competitor in turn, several rounds, medians and ratios. The data
// are a tar of a folder of this machine (LAMINA_BENCH_FOLDER, by default /usr), cut to
// LAMINA_BENCH_MIB (1024) and packed by gzip(1) and zstd(1). What is decoded goes to the cache as
// in use.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "fetch/chunk_cache.h"
#include "fetch/file_blob.h"
#include "index/layer_indexer.h"
#include "index/raw_ring.h"
#include "index/read_cost.h"

namespace lamina {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Die(const std::string& what) {
  fmt::print(stderr, "{}\n", what);
  std::exit(1);
}

template <typename T>
T Must(Result<T> result) {
  if (!result) Die(result.error().message);
  return std::move(result).value();
}

std::string Env(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

struct Times {
  double wall = 0;  // seconds
  double user = 0;
  double system = 0;
};

Times Used() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  const std::chrono::duration<double> now = Clock::now().time_since_epoch();
  return {now.count(), seconds(usage.ru_utime), seconds(usage.ru_stime)};
}

Times Measure(const std::function<void()>& work) {
  const Times before = Used();
  work();
  const Times after = Used();
  return {after.wall - before.wall, after.user - before.user, after.system - before.system};
}

double Seconds(const std::function<void()>& work) { return Measure(work).wall; }

struct Sample {
  std::string name;
  std::string path;
  uint64_t blob_size = 0;
  Digest digest = Digest::Sha256({});
  Digest diff_id = Digest::Sha256({});
  uint64_t raw_size = 0;
};

// Where the blob is read from, in pieces as they come from a network.
std::shared_ptr<BlobSource> Open(const Sample& sample) {
  return Must(FileBlob::Open(sample.path, sample.blob_size, "bench"));
}

// --- the competitors

void HashOnly(const Sample& sample, Compression) {
  Hasher hasher;
  (void)Open(sample)->Stream(0, [&](ByteSpan bytes) {
    hasher.Update(bytes);
    return Status();
  });
}

// Decodes into a ring that `readers` read, as the pass does.
void Decode(const Sample& sample, Compression compression, bool hash_blob, bool hash_raw) {
  RawRing ring(16, 128u << 10, 1);
  std::thread reader([&] {
    Hasher hasher;
    while (RawBuffer* buffer = ring.BeginRead(0)) {
      if (hash_raw) hasher.Update(buffer->bytes());
      ring.EndRead(0);
    }
    if (hash_raw && hasher.Finish() != sample.diff_id) Die("the decoded bytes are wrong");
  });
  const auto decoder = StreamDecoder::Create(compression);
  Hasher hasher;
  RawBuffer* buffer = nullptr;
  const auto take = [&](ByteSpan bytes) -> Status {
    if (hash_blob) hasher.Update(bytes);
    while (true) {
      if (buffer == nullptr) buffer = &ring.BeginWrite();
      ASSIGN_OR_RETURN(const size_t got, decoder->Decode(&bytes, buffer->space()));
      buffer->size += got;
      if (!buffer->space().empty()) return {};
      ring.EndWrite();
      buffer = nullptr;
    }
  };
  const Status streamed = Open(sample)->Stream(0, take);
  if (!streamed) Die(streamed.error().message);
  if (buffer != nullptr) ring.EndWrite();
  ring.Close();
  reader.join();
}

// zlib, for the choice of the inflater.
void DecodeByZlib(const Sample& sample, Compression) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 32) != Z_OK) Die("zlib does not start");
  std::vector<uint8_t> out(128u << 10);
  const Status streamed = Open(sample)->Stream(0, [&](ByteSpan bytes) -> Status {
    stream.next_in = const_cast<uint8_t*>(bytes.data());
    stream.avail_in = static_cast<unsigned>(bytes.size());
    while (stream.avail_in > 0) {
      stream.next_out = out.data();
      stream.avail_out = static_cast<unsigned>(out.size());
      const int code = inflate(&stream, Z_NO_FLUSH);
      if (code == Z_STREAM_END)
        inflateReset(&stream);
      else if (code != Z_OK)
        return Error{Code::kCorrupt, "zlib"};
    }
    return {};
  });
  inflateEnd(&stream);
  if (!streamed) Die(streamed.error().message);
}

class CacheSink : public FlatSink {
 public:
  explicit CacheSink(CacheWriter& writer) : writer_(writer) {}
  void Write(uint64_t flat_offset, ByteSpan bytes) override { writer_.Write(flat_offset, bytes); }

 private:
  CacheWriter& writer_;
};

// The chunks of an index, for the cache file that the pass has filled.
class IndexChunks : public ChunkOwner {
 public:
  explicit IndexChunks(const LayerIndex& index) : index_(index) {}
  uint64_t chunk_count() const override { return index_.facts().chunk_count; }
  uint64_t flat_size() const override { return index_.facts().flat_size; }
  ChunkExtent Extent(uint64_t chunk) const override {
    const ChunkRecord record = Must(index_.Chunk(chunk));
    return {record.flat_offset, record.flat_length, record.zero};
  }
  std::optional<uint32_t> Checksum(uint64_t chunk) const override {
    return Must(index_.Chunk(chunk)).checksum;
  }
  Status Produce(uint64_t, MutableByteSpan, const Deadline&, Urgency) override {
    return Error{Code::kInternal, "the benchmark reads nothing"};
  }

 private:
  const LayerIndex& index_;
};

std::shared_ptr<const LayerIndex> Index(const Sample& sample, const std::string& folder,
                                        FlatSink* sink, const CheckpointSpacing& spacing = {}) {
  const IndexRequest request{.blob_digest = sample.digest,
                             .blob_size = sample.blob_size,
                             .diff_id = sample.diff_id,
                             .name = sample.name,
                             .output_path = folder + "/layer.idx",
                             .sink = sink,
                             .spacing = spacing};
  return Must(IndexLayer(*Open(sample), request));
}

// As a daemon does it at the first touch: `folder` has the index and the cache file afterwards.
std::shared_ptr<const LayerIndex> IndexAndKeep(const Sample& sample, const std::string& folder) {
  const auto writer = Must(CacheWriter::Create(folder, sample.digest));
  CacheSink sink(*writer);
  auto index = Index(sample, folder, &sink);
  const Status committed = writer->Commit(IndexChunks(*index));
  if (!committed) Die(committed.error().message);
  return index;
}

void Shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) Die("this failed: " + command);
}

std::string WriteBlob(const std::string& layout, const std::string& bytes) {
  Hasher hasher;
  hasher.Update({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  const std::string hex = hasher.Finish().hex();
  std::ofstream(layout + "/blobs/sha256/" + hex) << bytes;
  return hex;
}

// An OCI layout at `layout` with one image, "bench", whose only layer is the sample.
void MakeLayout(const Sample& sample, const std::string& layout) {
  Shell("mkdir -p " + layout + "/blobs/sha256 && ln " + sample.path + " " + layout +
        "/blobs/sha256/" + sample.digest.hex());
  const std::string config = fmt::format(
      R"({{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}})",
      sample.diff_id.ToString());
  const std::string manifest = fmt::format(
      R"({{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":)"
      R"("application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{}}},"layers":[{{"mediaType":)"
      R"("application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{}}}]}})",
      WriteBlob(layout, config), config.size(), sample.digest.ToString(), sample.blob_size);
  std::ofstream(layout + "/oci-layout") << R"({"imageLayoutVersion":"1.0.0"})";
  std::ofstream(layout + "/index.json") << fmt::format(
      R"({{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":)"
      R"("sha256:{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"bench"}}}}]}})",
      WriteBlob(layout, manifest), manifest.size());
}

// --- the table

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

uint64_t PeakBytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) << 10;
}

Sample Prepare(const std::string& folder, const std::string& name, const std::string& pack) {
  Sample sample{.name = name, .path = folder + "/" + name};
  const std::string tar = folder + "/tar";
  if (!FileExists(tar)) {
    const uint64_t bytes = std::stoull(Env("LAMINA_BENCH_MIB", "1024")) << 20;
    const std::string from = Env("LAMINA_BENCH_FOLDER", "/usr");
    const std::string make = fmt::format(
        "find {} -xdev -type f -printf '%s\\t%P\\n' | awk -F '\\t' '{{ if (sum + $1 < {}) {{ sum "
        "+= $1; "
        "print $2 }} }}' | tar -C {} -cf {} --files-from=- 2> /dev/null",
        from, bytes, from, tar);
    if (std::system(make.c_str()) != 0) Die("cannot make a tar of " + from);
  }
  if (std::system(fmt::format("{} < {} > {}", pack, tar, sample.path).c_str()) != 0)
    Die("cannot pack by " + pack);
  const auto hash = [](const std::string& path, uint64_t* size) {
    Hasher hasher;
    *size = 0;
    const auto fd = Must(OpenFile(path, O_RDONLY));
    std::vector<uint8_t> buffer(1u << 20);
    for (ssize_t got; (got = ::read(fd.get(), buffer.data(), buffer.size())) > 0;
         *size += static_cast<uint64_t>(got))
      hasher.Update(ByteSpan(buffer).first(static_cast<size_t>(got)));
    return hasher.Finish();
  };
  sample.digest = hash(sample.path, &sample.blob_size);
  sample.diff_id = hash(tar, &sample.raw_size);
  return sample;
}

struct Row {
  std::string name;
  std::function<void()> work;
  std::function<void()> clean = [] {};  // before each round, not measured
  std::vector<Times> times = {};
};

double MedianOf(const Row& row, double Times::*which) {
  std::vector<double> values;
  for (const Times& times : row.times) values.push_back(times.*which);
  return Median(std::move(values));
}

// Each in turn. The ratios are to the row at `base`.
void RunRows(std::vector<Row>& rows, int rounds, size_t base) {
  for (int round = 0; round < rounds; ++round) {
    for (Row& row : rows) {
      row.clean();
      row.times.push_back(Measure(row.work));
    }
  }
  const double unit = MedianOf(rows[base], &Times::wall);
  for (const Row& row : rows)
    fmt::print("  {:<34} {:>7.3f} s  {:>5.2f} x   processor {:>6.3f} s + {:.3f} s\n", row.name,
               MedianOf(row, &Times::wall), MedianOf(row, &Times::wall) / unit,
               MedianOf(row, &Times::user), MedianOf(row, &Times::system));
}

void Compare(const Sample& sample, Compression compression, const std::string& folder) {
  std::shared_ptr<const LayerIndex> index;
  const std::string out = folder + "/indexed";
  const auto fresh = [&] { Shell(fmt::format("rm -rf {0} && mkdir {0}", out)); };
  std::vector<Row> rows = {
      {"decode alone", [&] { Decode(sample, compression, false, false); }},
      {"decode + sha256 of both streams", [&] { Decode(sample, compression, true, true); }},
      {"index the layer", [&] { Index(sample, out, nullptr); }, fresh},
      {"index it and keep all its bytes", [&] { index = IndexAndKeep(sample, out); }, fresh},
  };
  if (compression == Compression::kGzip)
    rows.push_back({"decode alone, zlib", [&] { DecodeByZlib(sample, compression); }});
  fmt::print("\n{}: {} packed, {} decoded\n", sample.name, HumanSize(sample.blob_size),
             HumanSize(sample.raw_size));
  RunRows(rows, 7, 1);
  const ReadCost cost = ColdReadCost(*index);
  fmt::print(
      "  index {}, {:.2f} % of the blob; {} entries, {} checkpoints; a cold read of 4 KiB: "
      "{} (at most {})\n",
      HumanSize(index->file_bytes()),
      100.0 * static_cast<double>(index->file_bytes()) / static_cast<double>(sample.blob_size),
      index->facts().entry_count, index->facts().checkpoint_count, HumanSize(cost.mean),
      HumanSize(cost.most));
}

// What else makes a layer's files readable. The processor's time is that of this process alone.
void CompareUnpackers(const Sample& sample, const std::string& folder) {
  const std::string layout = folder + "/layout";
  MakeLayout(sample, layout);
  const std::string indexed = folder + "/indexed", bundle = folder + "/bundle";
  const std::string storage = folder + "/storage";
  // podman makes a name of the layout's path, which has to be lower case
  const std::string podman =
      fmt::format("cd {0} && podman --root {1}/root --runroot {1}/run ", folder, storage);
  const auto fresh = [](const std::string& path) {
    return [path] { Shell(fmt::format("rm -rf {0} && mkdir {0}", path)); };
  };
  std::vector<Row> rows = {
      {"index it and keep all its bytes", [&] { IndexAndKeep(sample, indexed); }, fresh(indexed)},
      {"umoci unpack",
       [&] { Shell(fmt::format("umoci unpack --image {}:bench {} > /dev/null", layout, bundle)); },
       [&] { Shell("rm -rf " + bundle); }},
      {"podman pull", [&] { Shell(podman + "pull -q oci:layout:bench > /dev/null"); },
       [&] {
         Shell(podman + "rmi -a -f > /dev/null 2>&1; true");
         fresh(storage)();
       }},
  };
  fmt::print("\nthe same gzip layer by others:\n");
  RunRows(rows, 3, 0);
  for (Row& row : rows) row.clean();
}

// What a read of 4 KiB fetches against what the index takes.
void CompareSpacings(const Sample& sample, const std::string& folder) {
  fmt::print("\ndecoder states of the {} layer so many compressed bytes apart:\n", sample.name);
  fmt::print("  {:>10} {:>10} {:>8} {:>22}\n", "apart", "index", "%", "a cold read of 4 KiB");
  for (const uint64_t bytes : {uint64_t{256} << 10, uint64_t{512} << 10, uint64_t{1} << 20,
                               uint64_t{3} << 19, uint64_t{2} << 20, uint64_t{4} << 20}) {
    const auto index =
        Index(sample, folder, nullptr, {.blob_bytes = bytes, .raw_bytes = uint64_t{1} << 40});
    const ReadCost cost = ColdReadCost(*index);
    fmt::print(
        "  {:>10} {:>10} {:>8.2f} {:>10} (most {})\n", HumanSize(bytes),
        HumanSize(index->file_bytes()),
        100.0 * static_cast<double>(index->file_bytes()) / static_cast<double>(sample.blob_size),
        HumanSize(cost.mean), HumanSize(cost.most));
  }
}

int Main() {
  const auto folder = Must(TemporaryFolder::Create("lamina-index-bench"));
  const std::string path = folder.path();
  const Sample gzip = Prepare(path, "gzip", "gzip -6");
  const Sample zstd = Prepare(path, "zstd", "zstd -q -c -3");
  Compare(gzip, Compression::kGzip, path);
  fmt::print("  largest resident memory of all of it: {}\n", HumanSize(PeakBytes()));
  CompareUnpackers(gzip, path);
  CompareSpacings(gzip, path);
  Compare(zstd, Compression::kZstd, path);
  Sample tar = Prepare(path, "plain", "cat");
  const double hash = Median({Seconds([&] { HashOnly(tar, Compression::kNone); }),
                              Seconds([&] { HashOnly(tar, Compression::kNone); }),
                              Seconds([&] { HashOnly(tar, Compression::kNone); })});
  const double inflate = Median({Seconds([&] { Decode(gzip, Compression::kGzip, false, false); }),
                                 Seconds([&] { Decode(gzip, Compression::kGzip, false, false); }),
                                 Seconds([&] { Decode(gzip, Compression::kGzip, false, false); })});
  fmt::print(
      "\nThe diff id is one sha256 over the decoded stream: {:.3f} s on one thread. Decoding alone "
      "takes {:.3f} s:\nno number of decoding threads makes the pass faster than {:.2f} x.\n",
      hash, inflate, inflate / hash);
  return 0;
}

}  // namespace
}  // namespace lamina

int main() { return lamina::Main(); }
