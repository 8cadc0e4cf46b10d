#include "base/user.h"

#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

namespace lamina {
namespace {

constexpr size_t kLongestEntry = 1u << 20;  // of the list of users, in bytes

std::string ListedHome() {
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(4096);
  while (::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found) == ERANGE &&
         buffer.size() < kLongestEntry)
    buffer.resize(buffer.size() * 2);
  return found != nullptr && found->pw_dir != nullptr ? found->pw_dir : "";
}

}  // namespace

std::string EnvironmentOf(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string HomeFolder() {
  std::string home = EnvironmentOf("HOME");
  if (!home.starts_with("/")) home = ListedHome();
  return home.starts_with("/") ? home : "";
}

}  // namespace lamina
