// Layers that several images and sources share.

#include "fs/layer_store.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "fs/layer_chunks.h"
#include "fs/transfer_threads.h"
#include "tests/fakes/faulty_source.h"
#include "tests/unit/fs/fs_fixture.h"

namespace lamina {
namespace {

using fakes::FaultySource;
using ::testing::HasSubstr;

class LayerStoreTest : public FsFixture {
 protected:
  void SetUp() override {
    FsFixture::SetUp();
    opened_ = *OciLayout::Open(layout_->folder());
    const auto document = opened_->FetchManifest(base_, Soon());
    ASSERT_TRUE(document) << document.error().message;
    const auto parsed = ParseManifestDocument(document->bytes, "", "base");
    ASSERT_TRUE(parsed) << parsed.error().message;
    descriptor_ = std::get<ImageManifest>(*parsed).layers.at(0);
  }
  static Deadline Soon() { return Deadline::After(std::chrono::seconds(30)); }
  std::shared_ptr<FaultySource> Source(const std::string& origin) const {
    return std::make_shared<FaultySource>(opened_, origin);
  }
  LayerRequest From(std::vector<std::shared_ptr<RepositorySource>> sources) const {
    return {.descriptor = *descriptor_,
            .diff_id = std::nullopt,
            .name = "layer 0",
            .sources = std::move(sources),
            .progress = nullptr};
  }
  void DropCache() const {
    ASSERT_TRUE(RemoveTree(paths_.CacheFolder()));
    ASSERT_TRUE(MakeFolders(paths_.CacheFolder()));
  }

  std::shared_ptr<OciLayout> opened_;
  std::optional<Descriptor> descriptor_;
};

TEST_F(LayerStoreTest, ASourceThatHangsHoldsUpNobodyWhoDidNotNameIt) {
  const auto hanging = Source("https://hanging");
  const auto good = Source("https://good");
  hanging->Close();
  Result<std::shared_ptr<Layer>> late = Error{};
  std::thread waiting([&] { late = layers_->Get(From({hanging})); });
  while (hanging->waiting() == 0) std::this_thread::yield();
  const auto layer = layers_->Get(From({good}));
  EXPECT_TRUE(layer) << layer.error().message;
  hanging->Open();
  waiting.join();
  ASSERT_TRUE(late) << late.error().message;
  EXPECT_EQ(*late, *layer) << "one object, one cache";
  std::vector<uint8_t> bytes(4096);
  EXPECT_TRUE((*layer)->cache().Read(0, bytes, Soon()));
  EXPECT_EQ(layers_->cache_counters().misses.load(), 0u) << "the first pass's cache was kept";
}

TEST_F(LayerStoreTest, CallersWithTheSameSourcesShareOnePass) {
  const auto source = Source("https://good");
  source->Close();
  std::vector<std::thread> callers;
  std::atomic<int> got{0};
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] { got += layers_->Get(From({source})).has_value() ? 1 : 0; });
  while (source->waiting() == 0) std::this_thread::yield();
  source->Open();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(got, 4);
  EXPECT_EQ(source->opened(), 1);
}

TEST_F(LayerStoreTest, TheNextSourceIsAskedWhereOneFails) {
  const auto bad = Source("https://bad");
  bad->Fail();
  const auto good = Source("https://good");
  EXPECT_TRUE(layers_->Get(From({bad, good})));
  EXPECT_EQ(bad->opened(), 1);
  EXPECT_EQ(good->opened(), 1);
}

TEST_F(LayerStoreTest, ASourceThatFailedIsAskedLast) {
  const auto bad = Source("https://bad");
  const auto good = Source("https://good");
  ASSERT_TRUE(layers_->Get(From({bad})));
  DropCache();
  const auto layer = layers_->Get(From({bad, good}));
  ASSERT_TRUE(layer) << layer.error().message;
  bad->Fail();
  const int before = bad->opened();
  const uint64_t chunks = (*layer)->index().facts().chunk_count;
  ASSERT_GT(chunks, 2u);
  for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
    const auto record = (*layer)->index().Chunk(chunk);
    std::vector<uint8_t> bytes(record->flat_length);
    const Status read = (*layer)->cache().Read(record->flat_offset, bytes, Soon());
    EXPECT_TRUE(read) << read.error().message;
  }
  EXPECT_EQ(bad->opened(), before + 1) << "asked once, then known to be away";
}

// A second cache of the same file would never be evicted from.
TEST_F(LayerStoreTest, ALayerStaysOpenWhileItIsReadAhead) {
  const auto source = Source("https://good");
  auto layer = layers_->Get(From({source}));
  ASSERT_TRUE(layer) << layer.error().message;
  const auto threads = std::make_shared<TransferThreads>();
  ChunkResources resources;
  resources.threads = threads;
  LayerChunks chunks((*layer)->shared_index(), resources);
  chunks.AddSources({source}, *descriptor_);
  chunks.SetLayer(*layer);
  const Layer* const open = layer->get();
  std::weak_ptr<Layer> weak = *layer;
  std::promise<void> running;
  std::promise<void> release;
  chunks.Post([&] {
    running.set_value();
    release.get_future().wait();
  });
  running.get_future().wait();
  layer = Error{};
  EXPECT_EQ(layers_->Get(From({source}))->get(), open);
  release.set_value();
  while (!weak.expired()) std::this_thread::yield();
  bool ran = false;
  chunks.Post([&] { ran = true; });
  threads->Stop();
  EXPECT_FALSE(ran) << "nobody has the layer open";
}

TEST_F(LayerStoreTest, AnIndexIsHeldAgainstEveryImage) {
  const auto source = Source("https://good");
  ASSERT_TRUE(layers_->Get(From({source})));
  LayerRequest wrong_size = From({source});
  ++wrong_size.descriptor.size;
  LayerRequest wrong_diff = From({source});
  wrong_diff.diff_id = Digest::Sha256(AsBytes("another"));
  for (const LayerRequest& request : {wrong_size, wrong_diff}) {
    const auto refused = layers_->Get(request);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kCorrupt);
    EXPECT_THAT(refused.error().message, HasSubstr("layer 0"));
    EXPECT_FALSE(layers_->GetIndexed(request));
  }
  Restart();
  EXPECT_FALSE(layers_->Get(wrong_diff)) << "from disk too";
  EXPECT_EQ(source->opened(), 1) << "nothing is streamed again for that";
}

TEST_F(LayerStoreTest, AnIndexThatCannotBeOpenedNowIsNotMadeAgain) {
  const auto source = Source("https://good");
  ASSERT_TRUE(layers_->Get(From({source})));
  Restart();
  rlimit usual{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  rlimit none = usual;
  none.rlim_cur = 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto refused = layers_->Get(From({source}));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_FALSE(refused);
  EXPECT_EQ(source->opened(), 1);
  EXPECT_TRUE(layers_->Get(From({source})));
  EXPECT_EQ(source->opened(), 1) << "the index was there all the time";
}

// Nothing that lamina has made: it goes, and the layer is indexed again.
TEST_F(LayerStoreTest, AFolderInThePlaceOfAnIndexIsRemoved) {
  const auto source = Source("https://good");
  ASSERT_TRUE(layers_->Get(From({source})));
  Restart();
  const std::string index = paths_.Index(descriptor_->digest);
  ASSERT_EQ(::unlink(index.c_str()), 0);
  ASSERT_TRUE(MakeFolders(index));
  EXPECT_TRUE(layers_->Get(From({source})));
  EXPECT_EQ(source->opened(), 2);
}

}  // namespace
}  // namespace lamina
