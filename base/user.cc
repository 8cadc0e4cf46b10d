#include "base/user.h"

#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

#include "base/mutex.h"

namespace lamina {
namespace {

constexpr size_t kLongestEntry = 1u << 20;  // of the list of users, in bytes

// Asks a directory service, where the machine has one.
std::string ListedHome() {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(4096);
  for (int failed = EINTR; failed == EINTR || failed == ERANGE;) {
    failed = ::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found);
    if (failed == ERANGE && buffer.size() >= kLongestEntry) break;
    if (failed == ERANGE) buffer.resize(buffer.size() * 2);
  }
  return found != nullptr && found->pw_dir != nullptr ? found->pw_dir : "";
}

// Asked for once, since it may have to wait for a network that goes away later.
std::string RememberedHome() {
  static Mutex mutex;  // held while the list is asked: others want the same of it
  static std::string home GUARDED_BY(mutex);
  MutexLock lock(mutex);
  if (home.empty()) home = ListedHome();
  return home;
}

}  // namespace

std::string EnvironmentOf(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string HomeFolder() {
  std::string home = EnvironmentOf("HOME");
  if (!home.starts_with("/")) home = RememberedHome();
  return home.starts_with("/") ? home : "";
}

}  // namespace lamina
