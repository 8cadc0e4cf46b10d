// The commands of `lamina cache`: stat, gc, verify, clear, pin, unpin.

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/print.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

uint64_t Number(const Json& answer, const char* key) { return answer.value(key, uint64_t{0}); }
std::string Size(const Json& answer, const char* key) { return HumanSize(Number(answer, key)); }

Json RequestOf(const char* name, const CommonOptions& common, const CacheCommand& command) {
  Json request{{"command", name}, {"platform", common.platform}};
  if (!command.reference.empty()) request["reference"] = command.reference;
  return request;
}

std::string GarbageText(const Json& garbage) {
  return fmt::format("{} ({} layers, {} trees, {} documents, {} databases that were set aside)",
                     Size(garbage, "bytes"), Number(garbage, "layers"), Number(garbage, "trees"),
                     Number(garbage, "documents"), Number(garbage, "databases"));
}

void ShowInUse(const Json& garbage) {
  for (const Json& image : garbage.at("in_use"))
    Print("in use: " + EscapeControl(image.get<std::string>()));
}

void ShowCacheFigures(const Json& answer) {
  const Json& limit = answer.at("limit_bytes");
  Print(fmt::format("used        {} of {}; the disk has {} free", Size(answer, "used_bytes"),
                    limit.is_null() ? "no limit" : HumanSize(limit.get<uint64_t>()),
                    Size(answer, "disk_free_bytes")));
  Print(fmt::format("layers      {} whole, {} in part, {} only indexed; {} of {} chunks",
                    Number(answer, "layers_whole"), Number(answer, "layers_part"),
                    Number(answer, "layers_none"), Number(answer, "chunks_present"),
                    Number(answer, "chunks_total")));
  if (Number(answer, "chunks_compressed") > 0)
    Print(fmt::format("compressed  {} chunks, {} as {} on disk",
                      Number(answer, "chunks_compressed"), Size(answer, "compressed_from_bytes"),
                      Size(answer, "compressed_to_bytes")));
  Print(fmt::format("evicted     {}", Size(answer, "evicted_bytes")));
  Print(fmt::format("bad chunks  {}; not kept for want of room {}", Number(answer, "rotten_chunks"),
                    Number(answer, "write_failures")));
  Print(fmt::format("besides     indexes {}, trees {}, documents {}", Size(answer, "index_bytes"),
                    Size(answer, "tree_bytes"), Size(answer, "document_bytes")));
  if (const Json& refusal = answer.at("store_refuses"); !refusal.is_null())
    Print(fmt::format("disk        takes no files since {}, nothing new is kept: {}",
                      refusal.value("since", ""), EscapeControl(refusal.value("reason", ""))));
  Print("garbage     " + GarbageText(answer.at("garbage")));
  Print(fmt::format("pinned      {} of {} images", Size(answer, "pinned_bytes"),
                    answer.at("pins").size()));
  for (const Json& pin : answer.at("pins"))
    Print(fmt::format("  {}@{}  {}{}", pin.value("name", ""), pin.value("digest", ""),
                      pin.value("alias", false) ? "alias " : "", pin.value("reference", "")));
}

}  // namespace

int RunCacheStat(const CommonOptions& common) {
  return AskAndPrint(common, {{"command", "cache stat"}}, ShowCacheFigures);
}

int RunCacheGc(const CommonOptions& common, const CacheCommand& command) {
  const auto after = ParseAge(command.after);
  if (!after) return Fail(after.error());
  const Json request{{"command", "cache gc"},
                     {"dry_run", command.dry_run},
                     {"after", after->value_or(std::chrono::seconds(0)).count()}};
  return AskAndPrint(common, request, [](const Json& answer) {
    Print((answer.value("dry_run", false) ? "would free " : "freed ") + GarbageText(answer));
    ShowInUse(answer);
  });
}

int RunCacheVerify(const CommonOptions& common, const CacheCommand& command) {
  size_t bad = 0;
  const int code = AskAndShow(
      common, RequestOf("cache verify", common, command), [&](const Json& answer, bool as_json) {
        bad = answer.at("bad").size();
        if (as_json) return PrintJson(answer);
        for (const Json& item : answer.at("bad"))
          Print(fmt::format("bad {}: {}: {}", item.value("what", ""), item.value("name", ""),
                            EscapeControl(item.value("reason", ""))));
        Print(fmt::format("{} chunks ({}), {} indexes, {} trees, {} documents: {} bad, dropped",
                          Number(answer, "chunks"), Size(answer, "bytes"),
                          Number(answer, "indexes"), Number(answer, "trees"),
                          Number(answer, "documents"), bad));
      });
  return bad > 0 ? 1 : code;
}

int RunCacheClear(const CommonOptions& common, const CacheCommand& command) {
  Json request = RequestOf("cache clear", common, command);
  request["pinned"] = command.pinned;
  return AskAndPrint(common, request, [](const Json& answer) {
    Print(fmt::format("removed {} of {} layers", Size(answer, "bytes"), Number(answer, "layers")));
    if (const uint64_t pinned = Number(answer, "pinned_layers"); pinned > 0)
      Print(fmt::format("{} layers of pinned images stay; --pinned removes them too", pinned));
  });
}

int RunCachePin(const CommonOptions& common, const CacheCommand& command) {
  Json request = RequestOf("cache pin", common, command);
  request["fetch"] = command.fetch;
  return AskAndPrint(common, request, [](const Json& answer) {
    Print(fmt::format("{}@{}: pinned", answer.value("name", ""), answer.value("digest", "")));
  });
}

int RunCacheUnpin(const CommonOptions& common, const CacheCommand& command) {
  return AskAndPrint(common, RequestOf("cache unpin", common, command), [](const Json& answer) {
    for (const Json& pin : answer.at("unpinned"))
      Print(fmt::format("{}@{}: {}", pin.value("name", ""), pin.value("digest", ""),
                        pin.value("still_pinned", false) ? "an alias to its digest pins it still"
                                                         : "not pinned any more"));
  });
}

}  // namespace lamina
