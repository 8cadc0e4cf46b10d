#include "cmd/source_requests.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cmd/progress_watch.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

using Failed = std::function<void(const std::string& text, const Error& error)>;

// Does `work` for each text of the request's array; what fails is told beside the rest, and is the
// answer where nothing else is.
Result<Json> ForEach(const Json& texts,
                     const std::function<Status(const std::string&, const Failed&)>& work) {
  Json failed = Json::array();
  std::optional<Error> first;
  bool done = false;
  const Failed fail = [&](const std::string& text, const Error& error) {
    if (!first) first = error;
    failed.push_back({{"source", text}, {"message", error.message}});
  };
  for (const Json& item : texts) {
    const auto text = item.get<std::string>();
    Status worked = work(text, fail);
    if (worked)
      done = true;
    else
      fail(text, worked.error());
  }
  if (!done && first && failed.size() == 1) return *first;
  return failed;
}

}  // namespace

Result<Json> AddSources(Engine& engine, const Json& request, const Replies& replies) {
  const ProgressWatch watch([&] {
    const auto [done, of] = engine.catalog().StreamedOfArchives();
    return of == 0 || replies.progress(Json{
                          {"what", "indexing"}, {"unit", "bytes"}, {"done", done}, {"of", of}});
  });
  const std::string as_name = request.value("as", "");
  Json added = Json::array();
  const auto add = [&](const std::string& source, const Failed& fail) -> Status {
    ASSIGN_OR_RETURN(const auto given, engine.catalog().AddSource(source, as_name));
    for (const Error& problem : given.problems) fail(source, problem);
    for (const Catalog::Added& name : given.names)
      added.push_back(
          {{"repository", name.repository}, {"tag", name.tag}, {"digest", name.digest.ToString()}});
    return {};
  };
  ASSIGN_OR_RETURN(Json failed, ForEach(request.at("sources"), add));
  return Json{{"added", std::move(added)}, {"failed", std::move(failed)}};
}

Result<Json> ForgetSources(Engine& engine, const Json& request, const Replies&) {
  Json forgotten = Json::array();
  const auto forget = [&](const std::string& name, const Failed&) -> Status {
    ASSIGN_OR_RETURN(const auto words, engine.catalog().Forget(name));
    for (const std::string& word : words) forgotten.push_back(word);
    return {};
  };
  ASSIGN_OR_RETURN(Json failed, ForEach(request.at("names"), forget));
  return Json{{"forgotten", std::move(forgotten)}, {"failed", std::move(failed)}};
}

}  // namespace lamina
