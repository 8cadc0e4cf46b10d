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

// The path and query of the next page, or empty.
Result<std::string> NextTarget(const RegistrySession& session, const std::string& target,
                               const HttpHeaders& headers) {
  for (const std::string_view value : headers.FindAll("link")) {
    const std::optional<std::string> link = ParseNextLink(value);
    if (!link) continue;
    ASSIGN_OR_RETURN(const Url page, session.base().Resolve(target));
    ASSIGN_OR_RETURN(const Url next, page.Resolve(*link));
    if (!next.SameOrigin(session.base()))
      return Error{Code::kInvalid, "its next page is on another server, " + next.Origin()};
    const size_t path = next.text().find('/', next.text().find("://") + 3);
    return path == std::string::npos ? std::string("/") : next.text().substr(path);
  }
  return std::string();
}

}  // namespace

Result<std::vector<std::string>> FetchList(RegistrySession& session, RegistryRequest request,
                                           ListParser parse, const Deadline& deadline) {
  std::set<std::string> asked;  // a link back would be a loop
  std::vector<std::string> names;
  request.accept = {"application/json"};
  while (!request.target.empty() && asked.insert(request.target).second) {
    if (asked.size() > kMostPages || names.size() > kMostNames)
      return session.Failure(Code::kLimit, request.what, "more than 1000 pages or 1000000 names");
    BodyReceiver receiver(session.host() + ": " + request.what, kPageBytes);
    request.receiver = &receiver;
    RegistryAnswer answer = session.Run(request, deadline);
    if (answer.end != RegistryAnswer::End::kDone) return std::move(answer.error);
    Result<std::vector<std::string>> page = parse(receiver.body());
    if (!page) return session.Failure(page.error().code, request.what, page.error().message);
    names.insert(names.end(), page->begin(), page->end());
    Result<std::string> next = NextTarget(session, request.target, answer.headers);
    if (!next) return session.Failure(next.error().code, request.what, next.error().message);
    request.target = std::move(*next);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace lamina
