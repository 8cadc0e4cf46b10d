#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "overlay/tree_builder.h"
#include "tests/support/heap_count.h"
#include "tests/unit/overlay/hand_layer.h"

namespace lamina {
namespace {

using testing::Folder;
using testing::HandEntry;
using testing::HeapCount;

constexpr int kFilesOfAFolder = 100;

// A layer with `folders` folders of files whose names and lengths differ, some linked twice.
std::shared_ptr<const LayerIndex> Layer(int number, int folders, const std::string& path) {
  std::vector<HandEntry> children;
  for (int f = 0; f < folders; ++f) {
    std::vector<HandEntry> files;
    for (int i = 0; i < kFilesOfAFolder; ++i) {
      HandEntry file{.name = std::to_string(1000 + i) + "-of-layer-" + std::to_string(number)};
      if (i % 10 < 2) file.shared = f * kFilesOfAFolder + i - i % 10 + 1;
      files.push_back(std::move(file));
    }
    children.push_back(Folder("folder-" + std::to_string(100000 + f), std::move(files)));
  }
  return testing::MakeLayer(Folder("", std::move(children)), path);
}

// Bytes of heap that merging takes for each entry, at its worst moment.
double BytesEach(int folders) {
  const auto folder = TemporaryFolder::Create("lamina-memory");
  std::vector<std::shared_ptr<const LayerIndex>> layers;
  for (int number = 0; number < 3; ++number)
    layers.push_back(Layer(number, folders, folder->path() + "/" + std::to_string(number)));
  const HeapCount heap;
  const auto facts = BuildTree(layers, TreeOptions{}, folder->path() + "/tree");
  EXPECT_TRUE(facts.has_value());
  EXPECT_GT(facts->entry_count, static_cast<uint64_t>(3 * folders * kFilesOfAFolder));
  return static_cast<double>(heap.peak_bytes()) / static_cast<double>(facts->entry_count);
}

TEST(TreeMemoryTest, AHundredBytesAnEntryAreEnough) {
  // Sizes between which every array that grows by doubling has done so.
  for (const int folders : {120, 150, 180, 210, 240}) EXPECT_LE(BytesEach(folders), 100) << folders;
}

}  // namespace
}  // namespace lamina
