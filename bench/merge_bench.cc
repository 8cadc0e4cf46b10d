// From layers to a tree: indexing tars of small files, merging their indexes, opening the tree
// file, walking it. The layers are made here: `range` files in all, four layers, each of which adds
// files, replaces some of the layer below and deletes others. Items are entries.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/file.h"
#include "index/layer_indexer.h"
#include "overlay/tree.h"
#include "overlay/tree_builder.h"
#include "tests/support/tar_builder.h"

namespace lamina {
namespace {

constexpr int kLayers = 4;
constexpr int kFilesOfAFolder = 100;

class MemoryBlob : public BlobSource {
 public:
  explicit MemoryBlob(const std::string& bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    std::copy_n(AsBytes(bytes_).begin() + static_cast<std::ptrdiff_t>(offset), out.size(),
                out.begin());
    return {};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    return sink(AsBytes(bytes_).subspan(offset));
  }
  std::string origin() const override { return "memory"; }

 private:
  const std::string& bytes_;
};

// A layer of `count` files: its own, and every tenth file of the layer below replaced or deleted.
std::string LayerTar(int layer, int count) {
  lamina::testing::TarBuilder tar;
  const auto folder = [](int of, int number) {
    return "usr/share/package-" + std::to_string(of) + "-" +
           std::to_string(number / kFilesOfAFolder) + "/";
  };
  for (int i = 0; i < count; ++i) {
    if (i % kFilesOfAFolder == 0) tar.Folder(folder(layer, i));
    tar.File(folder(layer, i) + "file-" + std::to_string(i), "content of a small file\n");
    if (layer > 0 && i % 10 == 0) {
      const std::string name = "file-" + std::to_string(i);
      if (i % 20 == 0)
        tar.File(folder(layer - 1, i) + name, "replaced\n");
      else
        tar.File(folder(layer - 1, i) + ".wh." + name);
    }
  }
  return tar.Finish();
}

struct Stack {
  TemporaryFolder folder;
  std::vector<std::string> tars;
  std::vector<std::shared_ptr<const LayerIndex>> indexes;

  std::shared_ptr<const LayerIndex> Index(size_t number) const {
    MemoryBlob blob(tars[number]);
    const IndexRequest request{.blob_digest = Digest::Sha256(AsBytes(tars[number])),
                               .blob_size = tars[number].size(),
                               .name = "layer " + std::to_string(number),
                               .output_path = folder.path() + "/" + std::to_string(number)};
    auto index = IndexLayer(blob, request);
    if (!index) std::abort();
    return *index;
  }
  std::string TreePath() const { return folder.path() + "/tree"; }
  TreeFacts Merge() const {
    const auto facts = BuildTree(indexes, TreeOptions{}, TreePath());
    if (!facts) std::abort();
    return *facts;
  }
};

Stack MakeStack(int64_t files) {
  auto folder = TemporaryFolder::Create("lamina-bench");
  if (!folder) std::abort();
  Stack stack{*std::move(folder), {}, {}};
  for (int layer = 0; layer < kLayers; ++layer)
    stack.tars.push_back(LayerTar(layer, static_cast<int>(files / kLayers)));
  for (size_t number = 0; number < stack.tars.size(); ++number)
    stack.indexes.push_back(stack.Index(number));
  return stack;
}

void BM_Index(benchmark::State& state) {
  const Stack stack = MakeStack(state.range(0));
  uint64_t entries = 0;
  for (auto _ : state)
    for (size_t number = 0; number < stack.tars.size(); ++number)
      entries += stack.Index(number)->facts().entry_count;
  state.SetItemsProcessed(static_cast<int64_t>(entries));
}

void BM_Merge(benchmark::State& state) {
  const Stack stack = MakeStack(state.range(0));
  uint64_t entries = 0;
  uint64_t bytes = 0;
  for (auto _ : state) {
    const TreeFacts facts = stack.Merge();
    entries += facts.entry_count;
    bytes = facts.file_bytes / facts.entry_count;
  }
  state.SetItemsProcessed(static_cast<int64_t>(entries));
  state.counters["file_bytes_each"] = static_cast<double>(bytes);
}

void BM_Open(benchmark::State& state) {
  const Stack stack = MakeStack(state.range(0));
  stack.Merge();
  for (auto _ : state) benchmark::DoNotOptimize(Tree::Open(stack.TreePath()));
}

uint64_t Walk(const Tree& tree, Nid directory) {
  uint64_t count = 0;
  std::vector<Nid> below;
  const Status read = tree.ReadDirectory(directory, 0, [&](const TreeDirent& entry, uint64_t) {
    ++count;
    benchmark::DoNotOptimize(tree.Stat(entry.nid));
    if (entry.type == EntryType::kDirectory && entry.name != "." && entry.name != "..")
      below.push_back(entry.nid);
    return true;
  });
  if (!read) std::abort();
  for (const Nid nid : below) count += Walk(tree, nid);
  return count;
}

void BM_Walk(benchmark::State& state) {
  const Stack stack = MakeStack(state.range(0));
  stack.Merge();
  const auto tree = Tree::Open(stack.TreePath());
  if (!tree) std::abort();
  uint64_t entries = 0;
  for (auto _ : state) entries += Walk(**tree, (*tree)->root());
  state.SetItemsProcessed(static_cast<int64_t>(entries));
}

BENCHMARK(BM_Index)->Arg(100'000)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_Merge)->Arg(10'000)->Arg(100'000)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_Open)->Arg(100'000)->Unit(benchmark::kMicrosecond)->UseRealTime();
BENCHMARK(BM_Walk)->Arg(100'000)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace lamina
