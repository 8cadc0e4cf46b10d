// How much is joined to one request.

#include "fs/layer_chunks.h"

#include <gtest/gtest.h>

#include "index/chunk_run.h"
#include "tests/fakes/faulty_source.h"
#include "tests/unit/fs/fs_fixture.h"

namespace lamina {
namespace {

class LayerChunksTest : public FsFixture {
 protected:
  void SetUp() override {
    FsFixture::SetUp();
    ASSERT_TRUE((*catalog_->OpenImage(Repository(), base_))->EnsureTree());
    const auto layer = layers_->OpenStored(lower_layer_);
    ASSERT_TRUE(layer) << layer.error().message;
    index_ = (*layer)->shared_index();
  }
  // The most that is joined after a chunk of few bytes has come, whose request had waited for so
  // long: the last of all chunks from the first one on.
  uint64_t JoinedAfter(std::chrono::hours queued) {
    LayerChunks chunks(index_, {.counters = std::make_shared<LayerCounters>(),
                                .decoding = nullptr,
                                .memory = std::make_shared<Quota>(64u << 20, 16u << 20),
                                .threads = nullptr});
    const auto source =
        std::make_shared<fakes::FaultySource>(*OciLayout::Open(layout_->folder()), "far");
    source->Delay(std::chrono::milliseconds(300), queued);
    chunks.AddSources({source}, {"", lower_layer_, index_->facts().blob_size, {}, {}, ""});
    const uint64_t few = FewestBytes();
    EXPECT_LT(RunBytes(*index_, few, few), 100u << 10);
    std::vector<uint8_t> out(chunks.Extent(few).flat_length);
    const Status done =
        chunks.Produce(few, out, Deadline::After(std::chrono::minutes(1)), Urgency::kReader);
    EXPECT_TRUE(done) << done.error().message;
    uint64_t most = 0;
    const uint64_t count = index_->facts().chunk_count;
    for (uint64_t first = 0; first < count; ++first)
      if (!chunks.Extent(first).zero)
        most = std::max(most, RunBytes(*index_, first, chunks.LastOfRun(first, count - 1)));
    return most;
  }
  uint64_t FewestBytes() const {
    std::optional<uint64_t> fewest;
    for (uint64_t chunk = 0; chunk < index_->facts().chunk_count; ++chunk) {
      const uint64_t bytes = RunBytes(*index_, chunk, chunk);
      if (bytes > 0 && (!fewest || bytes < RunBytes(*index_, *fewest, *fewest))) fewest = chunk;
    }
    return fewest.value_or(0);
  }

  std::shared_ptr<const LayerIndex> index_;
};

TEST_F(LayerChunksTest, ASlowPlaceIsAskedForLessAtATime) {
  EXPECT_LT(JoinedAfter(std::chrono::hours(0)), 2u << 20);
}

TEST_F(LayerChunksTest, WaitingForATurnIsNotSlow) {
  EXPECT_GT(JoinedAfter(std::chrono::hours(1)), 2u << 20);
}

}  // namespace
}  // namespace lamina
