#include "fs/name_failures.h"

#include <fmt/format.h>

namespace lamina {
namespace {

// "a/b", "a", "", of "a/b".
template <typename Visit>
void ForEachUpwards(std::string folder, Visit visit) {
  visit(folder);
  while (!folder.empty()) {
    const size_t slash = folder.rfind('/');
    folder.resize(slash == std::string::npos ? 0 : slash);
    visit(folder);
  }
}

}  // namespace

void NameFailures::Note(const std::string& folder, std::string_view name, const Error& error) {
  const std::string place = folder.empty() ? "" : folder + "/";
  const Failure failure{
      fmt::format("{}{}: {} ({})", place, name, error.message, CodeName(error.code)), folder};
  MutexLock lock(mutex_);
  if (last_.size() >= kMost) last_.clear();
  ForEachUpwards(folder, [&](const std::string& above) {
    mutex_.AssertHeld();
    last_.insert_or_assign(above, failure);
  });
}

void NameFailures::Clear(const std::string& folder) {
  MutexLock lock(mutex_);
  if (last_.empty()) return;
  ForEachUpwards(folder, [&](const std::string& above) {
    mutex_.AssertHeld();
    const auto at = last_.find(above);
    if (at != last_.end() && at->second.folder == folder) last_.erase(at);
  });
}

std::optional<std::string> NameFailures::Find(const std::string& folder) const {
  MutexLock lock(mutex_);
  const auto at = last_.find(folder);
  return at == last_.end() ? std::nullopt : std::optional(at->second.reason);
}

}  // namespace lamina
