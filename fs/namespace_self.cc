// .lamina, and the texts that change: each content has a node id of its own.

#include <fmt/core.h>

#include <iterator>

#include "base/bytes.h"
#include "base/log.h"
#include "base/process.h"
#include "fs/namespace.h"

namespace lamina {
namespace {

void AddCounter(std::string* out, std::string_view name, uint64_t value) {
  fmt::format_to(std::back_inserter(*out), "# TYPE lamina_{} counter\nlamina_{} {}\n", name, name,
                 value);
}

void AddGauge(std::string* out, std::string_view name, uint64_t value) {
  fmt::format_to(std::back_inserter(*out), "# TYPE lamina_{} gauge\nlamina_{} {}\n", name, name,
                 value);
}

void AddRegistries(std::string* out, const std::vector<Catalog::RegistryStatus>& registries) {
  const auto family = [&](std::string_view name, uint64_t Catalog::RegistryStatus::*member) {
    fmt::format_to(std::back_inserter(*out), "# TYPE lamina_registry_{} counter\n", name);
    // Hosts are valid by the grammar: nothing in them needs escaping.
    for (const auto& registry : registries)
      fmt::format_to(std::back_inserter(*out), "lamina_registry_{}{{host=\"{}\"}} {}\n", name,
                     registry.host, registry.*member);
  };
  family("requests_total", &Catalog::RegistryStatus::requests);
  family("range_requests_total", &Catalog::RegistryStatus::range_requests);
  family("blob_bytes_total", &Catalog::RegistryStatus::blob_bytes);
  family("token_requests_total", &Catalog::RegistryStatus::token_requests);
  family("retries_total", &Catalog::RegistryStatus::retries);
}

}  // namespace

uint32_t Namespace::TextCheck(std::string_view text) { return Crc32c(AsBytes(text)); }

NodeAttr Namespace::TextAttr(NodeId node, std::string_view text) const {
  return {.id = node,
          .type = EntryType::kRegular,
          .mode = 0444,
          .size = text.size(),
          .mtime_s = clock_.NowNs() / 1'000'000'000};
}

void Namespace::SetMetricsSource(std::function<std::string()> source) {
  MutexLock lock(metrics_mutex_);
  metrics_source_ = std::move(source);
}

std::string Namespace::Metrics() const {
  std::string out;
  const CacheCounters& cache = layers_.cache_counters();
  AddCounter(&out, "cache_hits_total", cache.hits);
  AddCounter(&out, "cache_misses_total", cache.misses);
  AddCounter(&out, "cache_joined_total", cache.joined);
  AddCounter(&out, "cache_checked_total", cache.checked);
  AddCounter(&out, "cache_rotten_total", cache.rotten);
  AddCounter(&out, "cache_write_failures_total", cache.write_failures);
  AddCounter(&out, "fetch_joined_requests_total", cache.runs);
  AddCounter(&out, "fetch_joined_chunks_total", cache.run_chunks);
  AddCounter(&out, "fetch_ahead_bytes_total", cache.ahead_bytes);
  AddCounter(&out, "fetch_ahead_used_bytes_total", cache.ahead_used_bytes);
  AddCounter(&out, "fetch_ahead_wasted_bytes_total", cache.ahead_wasted_bytes);
  AddCounter(&out, "fetch_bytes_in_flight", layers_.memory().used());
  AddCounter(&out, "fetch_bytes_in_flight_most", layers_.memory().most_used());
  const CacheBudget& budget = layers_.cache_budget();
  AddCounter(&out, "cache_used_bytes", budget.used());
  AddCounter(&out, "cache_limit_bytes", budget.limit());
  AddCounter(&out, "cache_evicted_bytes_total", budget.evicted_bytes());
  AddGauge(&out, "store_takes_files", layers_.paths().DiskRefusal() ? 0 : 1);
  const LayerCounters& layers = layers_.counters();
  AddCounter(&out, "layers_indexed_total", layers.indexed);
  AddCounter(&out, "layer_index_failures_total", layers.index_failures);
  AddCounter(&out, "chunk_fetches_total", layers.chunk_fetches);
  const GarbageCounters& garbage = layers_.garbage_counters();
  AddCounter(&out, "garbage_runs_total", garbage.runs);
  AddCounter(&out, "garbage_collected_total", garbage.collected);
  AddCounter(&out, "garbage_freed_bytes_total", garbage.freed_bytes);
  AddRegistries(&out, catalog_.registries());
  MutexLock lock(metrics_mutex_);
  if (metrics_source_) out += metrics_source_();
  return out;
}

Result<std::string> Namespace::SelfContent(SelfText text) const {
  switch (text) {
    case SelfText::kVersion:
      return version_ + "\n";
    case SelfText::kLog: {
      std::string lines;
      for (const std::string& line : RecentLogLines()) {
        lines += line;
        if (!line.ends_with('\n')) lines.push_back('\n');
      }
      return lines;
    }
    case SelfText::kMetrics:
      return Metrics();
    case SelfText::kProcess: {
      ASSIGN_OR_RETURN(const ProcessId process, ProcessId::Self());
      return process.ToString() + "\n";
    }
  }
  return Error{Code::kNotFound, "there is no such text"};
}

Attempt<NodeEntry> Namespace::SelfEntry(SelfText which) {
  const auto content = SelfContent(which);
  if (!content) return content.error();
  const NodeId node = SelfNode(which, TextCheck(*content));
  texts_.Put(node, *content);
  return NodeEntry{TextAttr(node, *content), 0, 0};
}

Attempt<NodeEntry> Namespace::LookupInSelf(std::string_view name) {
  if (name == "version") return SelfEntry(SelfText::kVersion);
  if (name == "log") return SelfEntry(SelfText::kLog);
  if (name == "metrics") return SelfEntry(SelfText::kMetrics);
  if (name == "process") return SelfEntry(SelfText::kProcess);
  return NodeEntry{.attr = {}, .entry_seconds = kForever, .attr_seconds = 0};
}

Listing Namespace::ListSelf() const {
  return {{".", kSelfFolderNode, EntryType::kDirectory},
          {"..", kRootNode, EntryType::kDirectory},
          {"log", 0, EntryType::kRegular},
          {"metrics", 0, EntryType::kRegular},
          {"process", 0, EntryType::kRegular},
          {"version", 0, EntryType::kRegular}};
}

// A text that has left the shelf is made again; it is this node's only while nothing in it has
// changed.
Attempt<Namespace::KeyPtr> Namespace::TextOf(NodeId node, const NodeParts& parts, bool may_wait) {
  if (auto text = texts_.Find(node)) return text;
  std::string made;
  if (parts.kind == NodeClass::kStatus) {
    ATTEMPT(const ImageRowPtr image, OpenRow(parts.row, may_wait));
    made = StatusOf(*image);
  } else if (parts.kind == NodeClass::kSelf) {
    auto content = SelfContent(parts.text());
    if (!content) return content.error();
    made = *std::move(content);
  }
  if (made.empty() || TextCheck(made) != parts.position)
    return Error{Code::kNotFound, "this version of the text is gone; look it up again"};
  texts_.Put(node, made);
  return std::make_shared<const std::string>(std::move(made));
}

}  // namespace lamina
