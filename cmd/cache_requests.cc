#include "cmd/cache_requests.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/text.h"
#include "cmd/fetch_request.h"
#include "cmd/named_image.h"
#include "cmd/request_json.h"
#include "fs/cache_check.h"
#include "fs/cache_report.h"
#include "fs/known_content.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

Json CollectedJson(const GarbageCollector::Collected& collected) {
  return {{"layers", collected.layers},       {"trees", collected.trees},
          {"documents", collected.documents}, {"databases", collected.databases},
          {"bytes", collected.bytes},         {"in_use", collected.in_use}};
}

Json PinJson(const Store::PinRow& pin) {
  return {{"name", pin.repository},
          {"digest", pin.digest.ToString()},
          {"reference", pin.reference},
          {"made", Rfc3339(pin.made_ns)}};
}

// Pins, and aliases to digests, which are pins too.
Result<Json> PinsJson(Engine& engine) {
  ASSIGN_OR_RETURN(const auto pins, engine.store().Pins());
  Json all = Json::array();
  for (const Store::PinRow& pin : pins) all.push_back(PinJson(pin));
  for (const AliasRow& alias : engine.catalog().Aliases(""))
    if (alias.target_digest)
      all.push_back({{"name", alias.target_repository},
                     {"digest", alias.target_digest->ToString()},
                     {"reference", alias.repository + ":" + alias.name},
                     {"alias", true},
                     {"made", Rfc3339(alias.made_ns)}});
  return all;
}

// What the request's reference names, by what is known here; nullopt where it has none.
Result<std::optional<KnownContent>> ContentOf(Engine& engine, const Json& request) {
  if (TextOf(request, "reference").empty() && !request.contains("candidates"))
    return std::optional<KnownContent>();
  ASSIGN_OR_RETURN(const NamedResolution named, ResolveNamed(engine, request));
  KnownContent content;
  RETURN_IF_ERROR(AddKnownContent(engine.store(), named.resolution.digest, &content));
  return std::optional(std::move(content));
}

// The texts that a reference may stand for.
std::vector<std::string> TextsOf(const Json& request) {
  auto texts = request.value("candidates", std::vector<std::string>());
  if (texts.empty()) texts.push_back(TextOf(request, "reference"));
  return texts;
}

// Why the disk of the store takes no files now; null where it does.
Json RefusalJson(Engine& engine) {
  // Who asks wants to know how it is now. An error is one of the folder, which the rest tells of.
  (void)engine.paths().spare->DiskTakesFiles().has_value();
  const auto refusal = engine.paths().DiskRefusal();
  if (!refusal) return nullptr;
  return {{"reason", refusal->reason}, {"since", Rfc3339(refusal->since_ns)}};
}

}  // namespace

Result<Json> ShowCache(Engine& engine, const Json&, const Replies&) {
  ASSIGN_OR_RETURN(const CacheReport report,
                   ReportCache(engine.paths(), engine.store(), engine.layers()));
  ASSIGN_OR_RETURN(const auto garbage, engine.garbage().Collect({.dry_run = true}));
  ASSIGN_OR_RETURN(Json pins, PinsJson(engine));
  const CacheBudget& budget = engine.layers().cache_budget();
  const CacheCounters& counters = engine.layers().cache_counters();
  const bool limited = budget.limit() != CacheBudget::kUnlimited;
  return Json{{"limit_bytes", limited ? Json(budget.limit()) : Json(nullptr)},
              {"used_bytes", budget.used()},
              {"disk_free_bytes", report.disk_free},
              {"layers_whole", report.layers_whole},
              {"layers_part", report.layers_part},
              {"layers_none", report.layers_none},
              {"chunks_present", report.chunks_present},
              {"chunks_total", report.chunks_total},
              {"chunks_compressed", report.chunks_compressed},
              {"compressed_from_bytes", report.compressed_from},
              {"compressed_to_bytes", report.compressed_to},
              {"pinned_bytes", report.pinned_bytes},
              {"pins", std::move(pins)},
              {"evicted_bytes", budget.evicted_bytes()},
              {"rotten_chunks", counters.rotten.load()},
              {"write_failures", counters.write_failures.load()},
              {"index_bytes", report.index_bytes},
              {"tree_bytes", report.tree_bytes},
              {"document_bytes", report.document_bytes},
              {"store_refuses", RefusalJson(engine)},
              {"garbage", CollectedJson(garbage)}};
}

Result<Json> CollectGarbage(Engine& engine, const Json& request, const Replies&) {
  const bool dry_run = request.value("dry_run", false);
  ASSIGN_OR_RETURN(
      const auto collected,
      engine.garbage().Collect(
          {.after = std::chrono::seconds(request.value("after", int64_t{0})), .dry_run = dry_run}));
  Json answer = CollectedJson(collected);
  answer["dry_run"] = dry_run;
  return answer;
}

Result<Json> VerifyCache(Engine& engine, const Json& request, const Replies& replies) {
  ASSIGN_OR_RETURN(const auto content, ContentOf(engine, request));
  Deadline due = Deadline::After(std::chrono::milliseconds(0));
  const auto progress = [&](uint64_t done, uint64_t of) {
    if (!due.passed()) return true;
    due = Deadline::After(std::chrono::milliseconds(100));
    return replies.progress(
        Json{{"what", "verifying"}, {"unit", "layers"}, {"done", done}, {"of", of}});
  };
  ASSIGN_OR_RETURN(const CheckedStore checked,
                   CheckKept({engine.paths(), engine.store(), engine.layers(), engine.catalog()},
                             content ? &*content : nullptr, progress));
  Json bad = Json::array();
  for (const CheckedStore::Bad& item : checked.bad)
    bad.push_back({{"what", item.what}, {"name", item.name}, {"reason", item.reason}});
  return Json{{"chunks", checked.chunks},       {"bytes", checked.bytes},
              {"indexes", checked.indexes},     {"trees", checked.trees},
              {"documents", checked.documents}, {"bad", std::move(bad)}};
}

Result<Json> ClearCache(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(const auto content, ContentOf(engine, request));
  const bool pinned_too = request.value("pinned", false);
  const CacheBudget& budget = engine.layers().cache_budget();
  const uint64_t before = budget.used();
  uint64_t cleared = 0;
  uint64_t pinned = 0;
  for (const LayerStore::KeptLayer& layer : engine.layers().KeptLayers()) {
    const std::string name = layer.digest.PathName();
    if (layer.cache_bytes == 0 || (content && !content->layers.contains(name))) continue;
    if (!pinned_too && budget.IsPinned(name)) {
      ++pinned;
      continue;
    }
    engine.layers().ClearCache(layer.digest);
    ++cleared;
  }
  const uint64_t after = budget.used();  // others may have read meanwhile
  return Json{
      {"layers", cleared}, {"bytes", before - std::min(before, after)}, {"pinned_layers", pinned}};
}

Result<Json> PinImage(Engine& engine, const Json& request, const Replies& replies) {
  ASSIGN_OR_RETURN(const NamedImage named, OpenNamed(engine, request));
  ASSIGN_OR_RETURN(const auto pin,
                   engine.catalog().Pin(named.reference.ToString(), named.resolution));
  if (request.value("fetch", false)) {
    ASSIGN_OR_RETURN(const auto tree, EnsureTree(*named.image, replies.progress));
    RETURN_IF_ERROR(FetchImage(*named.image, replies.progress));
  }
  return PinJson(pin);
}

Result<Json> UnpinImage(Engine& engine, const Json& request, const Replies&) {
  Error last{Code::kInternal, "no name was given"};
  for (const std::string& text : TextsOf(request)) {
    ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(text));
    const auto unpinned = engine.catalog().Unpin(reference);
    if (!unpinned) {
      last = unpinned.error();
      if (last.code != Code::kNotFound) return last;
      continue;
    }
    Json pins = Json::array();
    for (const Store::PinRow& pin : *unpinned) {
      Json row = PinJson(pin);
      ASSIGN_OR_RETURN(row["still_pinned"], engine.catalog().IsPinned(pin.repository, pin.digest));
      pins.push_back(std::move(row));
    }
    return Json{{"unpinned", std::move(pins)}};
  }
  return last;
}

}  // namespace lamina
