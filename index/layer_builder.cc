#include "index/layer_builder.h"

#include <utility>

#include "base/text.h"
#include "index/toc_files.h"

namespace lamina {

LayerTreeLimits TreeLimitsOf(const IndexRequest& request) {
  LayerTreeLimits limits;
  limits.entries = request.entry_limit;
  limits.shared_memory = request.memory;
  limits.cancel = request.cancel;
  return limits;
}

LayerBuilder::LayerBuilder(const IndexRequest& request)
    : writer_(request.output_path,
              [sink = request.sink] { return sink != nullptr && sink->GiveBack(); }),
      tree_(writer_, TreeLimitsOf(request),
            [this](std::string text) { OnWarning(std::move(text)); }),
      chunker_(writer_, request.sink),
      layout_(writer_, chunker_),
      hides_stargz_files_(request.hides_stargz_files) {}

Status LayerBuilder::OnEntry(const TarEntry& entry) {
  const Status added = AddEntry(entry);
  if (!added.has_value()) return added.error().Within("entry " + Quote(entry.path));
  return {};
}

Status LayerBuilder::AddEntry(const TarEntry& entry) {
  RETURN_IF_ERROR(layout_.EndFile());
  keeps_data_ = false;
  if (hides_stargz_files_ && IsStargzOwnFile(entry.path)) return {};
  ASSIGN_OR_RETURN(const bool stays, tree_.Add(entry));
  keeps_data_ = stays && (entry.size > 0 || entry.sparse);
  if (!keeps_data_) return {};
  ASSIGN_OR_RETURN(const FilePlace place, layout_.BeginFile(entry));
  if (entry.sparse)
    tree_.SetExtents(place.extent_first, place.extent_count);
  else
    tree_.SetFlatOffset(place.flat_offset);
  return {};
}

Status LayerBuilder::OnData(ByteSpan bytes, uint64_t file_offset, uint64_t raw_offset) {
  return keeps_data_ ? layout_.AddData(bytes, file_offset, raw_offset) : Status();
}

void LayerBuilder::OnWarning(std::string text) {
  if (warnings_.size() < kMaxWarnings)
    warnings_.push_back(std::move(text));
  else
    ++more_warnings_;
}

Status LayerBuilder::Finish() {
  RETURN_IF_ERROR(layout_.Finish());
  return tree_.Emit();
}

Result<AtomicFile> LayerBuilder::Write(LayerFacts facts, const Digest& content) {
  RETURN_IF_ERROR(chunker_.FinishMarks(content, facts.blob_size));
  facts.flat_size = chunker_.position();
  if (more_warnings_ > 0)
    warnings_.back() = "and " + std::to_string(more_warnings_ + 1) + " more warnings";
  return writer_.Write(facts, "made here", warnings_);
}

}  // namespace lamina
