#include "fetch/registry_lists.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/text.h"

namespace lamina {
namespace {

constexpr uint64_t kPageBytes = 4u << 20;
constexpr size_t kMostPages = 1000;
constexpr size_t kMostNames = 1'000'000;

// The path and query of the next page, or empty. `from` is where this page came from, which a
// relative link belongs to: after a redirect that is not the place that was asked.
Result<std::string> NextTarget(const Url& base, const Url& from, const HttpHeaders& headers) {
  for (const std::string_view value : headers.FindAll("link")) {
    const std::optional<std::string> link = ParseNextLink(value);
    if (!link) continue;
    ASSIGN_OR_RETURN(const Url next, from.Resolve(*link));
    if (!next.SameOrigin(base))
      return Error{Code::kInvalid, "its next page is on another server, " + next.Origin()};
    std::string target = next.Target();
    // On its own such a path would name a host.
    if (target.starts_with("//"))
      return Error{Code::kInvalid, "the path of its next page begins with //"};
    return target;
  }
  return std::string();
}

}  // namespace

Status FetchPages(RegistrySession& session, RegistryRequest request, const PageSink& sink,
                  const Deadline& deadline) {
  std::set<std::string> asked;  // a link back would be a loop
  while (!request.target.empty() && asked.insert(request.target).second) {
    if (asked.size() > kMostPages)
      return session.Failure(Code::kLimit, request.what,
                             "more than " + std::to_string(kMostPages) + " pages");
    BodyReceiver receiver(session.host() + ": " + request.what, kPageBytes);
    request.receiver = &receiver;
    RegistryAnswer answer = session.Run(request, deadline);
    if (answer.end != RegistryAnswer::End::kDone) return std::move(answer.error);
    const Status taken = sink(receiver.body(), answer);
    if (!taken) return session.Failure(taken.error().code, request.what, taken.error().message);
    Result<std::string> next = NextTarget(session.base(), *answer.url, answer.headers);
    if (!next) return session.Failure(next.error().code, request.what, next.error().message);
    request.target = std::move(*next);
    request.as_linked = true;
  }
  return {};
}

Result<std::vector<std::string>> FetchList(RegistrySession& session, RegistryRequest request,
                                           ListParser parse, const Deadline& deadline) {
  std::vector<std::string> names;
  request.accept = {"application/json"};
  const auto take = [&](std::string_view body, const RegistryAnswer&) -> Status {
    ASSIGN_OR_RETURN(const std::vector<std::string> page, parse(body));
    names.insert(names.end(), page.begin(), page.end());
    if (names.size() > kMostNames)
      return Error{Code::kLimit, "more than " + std::to_string(kMostNames) + " names"};
    return {};
  };
  RETURN_IF_ERROR(FetchPages(session, std::move(request), take, deadline));
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace lamina
