#include "fetch/platform.h"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kMaxFieldBytes = 64;
constexpr int kBestMatch = 1000;
constexpr int kNewestArm64Minor = 9;  // v8.9 was the last of v8

struct Alias {
  std::string_view name;
  std::string_view architecture;
  std::string_view variant;  // where the name implies one
};

// Go's name of an architecture for the names that uname, Debian and users give it.
constexpr std::array<Alias, 21> kAliases = {{
    {"x86_64", "amd64", ""},
    {"x86-64", "amd64", ""},
    {"x64", "amd64", ""},
    {"i386", "386", ""},
    {"i486", "386", ""},
    {"i586", "386", ""},
    {"i686", "386", ""},
    {"x86", "386", ""},
    {"aarch64", "arm64", ""},
    {"armv8b", "arm64", ""},
    {"armv8l", "arm", "v8"},
    {"armv7l", "arm", "v7"},
    {"armv6l", "arm", "v6"},
    {"armv5tel", "arm", "v5"},
    {"armhf", "arm", "v7"},
    {"armel", "arm", "v6"},
    {"powerpc64le", "ppc64le", ""},
    {"ppc64el", "ppc64le", ""},
    {"loongarch64", "loong64", ""},
    {"mips64el", "mips64le", ""},
    {"mipsel", "mipsle", ""},
}};

constexpr std::array<std::string_view, 14> kArchitectures = {
    "386",      "amd64",  "arm",   "arm64",   "loong64", "mips",  "mips64",
    "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm"};

constexpr std::array<std::string_view, 8> kSystems = {"android", "darwin",  "freebsd", "linux",
                                                      "netbsd",  "openbsd", "solaris", "windows"};

std::string Lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

bool IsWellFormedField(std::string_view text) {
  return text.size() <= kMaxFieldBytes && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

// The one spelling of a variant. "7" is "v7"; the baseline of an architecture has none, except for
// arm, where nothing means v7.
void NormaliseVariant(Platform& platform) {
  std::string& variant = platform.variant;
  const bool versioned = platform.architecture == "arm" || platform.architecture == "arm64" ||
                         platform.architecture == "amd64";
  if (versioned && !variant.empty() && variant.front() >= '0' && variant.front() <= '9')
    variant.insert(0, "v");
  if (platform.architecture == "arm" && variant.empty()) variant = "v7";
  if (platform.architecture == "arm64" && variant.ends_with(".0"))
    variant.resize(variant.size() - 2);
  if (platform.architecture == "arm64" && variant == "v8") variant.clear();
  if (platform.architecture == "amd64" && variant == "v1") variant.clear();
  if (platform.architecture == "386") variant.clear();
}

Platform Normalised(Platform platform) {
  platform.os = Lowered(platform.os);
  if (platform.os == "macos") platform.os = "darwin";
  platform.architecture = Lowered(platform.architecture);
  platform.variant = Lowered(platform.variant);
  for (const Alias& alias : kAliases) {
    if (platform.architecture != alias.name) continue;
    platform.architecture = alias.architecture;
    if (!alias.variant.empty()) platform.variant = alias.variant;
    break;
  }
  NormaliseVariant(platform);
  return platform;
}

struct Version {
  int major = 0;
  int minor = 0;
};

// "v8" or "v8.2", of one digit each; `otherwise` stands for an empty variant.
std::optional<Version> ParseVersion(std::string_view variant, int otherwise) {
  if (variant.empty()) return Version{otherwise, 0};
  const auto digit = [&](size_t at) { return variant[at] >= '0' && variant[at] <= '9'; };
  if (variant.front() != 'v') return std::nullopt;
  if (variant.size() == 2 && digit(1)) return Version{variant[1] - '0', 0};
  if (variant.size() == 4 && digit(1) && variant[2] == '.' && digit(3))
    return Version{variant[1] - '0', variant[3] - '0'};
  return std::nullopt;
}

// The distances below: 0 is the same, more is worse, nothing does not run.

// A newer core runs what was built for older ones down to `oldest`.
std::optional<int> MajorDistance(const Platform& wanted, const Platform& offered, int baseline,
                                 int oldest) {
  const auto want = ParseVersion(wanted.variant, baseline);
  const auto have = ParseVersion(offered.variant, baseline);
  if (!want || !have || want->minor != 0 || have->minor != 0) return std::nullopt;
  if (have->major > want->major || have->major < oldest) return std::nullopt;
  return want->major - have->major;
}

// Armv9.n includes Armv8.(n+5).
std::optional<int> Arm64Distance(const Platform& wanted, const Platform& offered) {
  const auto want = ParseVersion(wanted.variant, 8);
  const auto have = ParseVersion(offered.variant, 8);
  if (!want || !have) return std::nullopt;
  if (have->major == want->major && have->minor <= want->minor) return want->minor - have->minor;
  if (want->major != 9 || have->major != 8) return std::nullopt;
  const int newest = std::min(want->minor + 5, kNewestArm64Minor);
  if (have->minor > newest) return std::nullopt;
  return want->minor + 1 + newest - have->minor;
}

std::optional<int> Distance(const Platform& wanted, const Platform& offered) {
  if (wanted.variant == offered.variant) return 0;
  if (wanted.architecture == "arm64") return Arm64Distance(wanted, offered);
  if (wanted.architecture == "arm") return MajorDistance(wanted, offered, 7, 5);
  if (wanted.architecture == "amd64") return MajorDistance(wanted, offered, 1, 1);
  return std::nullopt;
}

bool IsUnknown(const Platform& platform) {
  return platform.os.empty() || platform.architecture.empty() || platform.os == "unknown" ||
         platform.architecture == "unknown";
}

Error BadPlatform(std::string_view text, std::string_view reason) {
  return Error{Code::kInvalid, Quote(text) +
                                   " is not a platform (OS/ARCHITECTURE[/VARIANT], as in " +
                                   "linux/arm64 or linux/arm/v7): " + std::string(reason)};
}

// One word: an os, or an architecture of Linux.
Result<Platform> ParseWord(std::string_view word) {
  const std::string lowered = Lowered(word);
  Platform out = Platform::Host();
  if (lowered == "macos" ||
      std::find(kSystems.begin(), kSystems.end(), lowered) != kSystems.end()) {
    out.os = lowered;
    return Normalised(out);
  }
  out = Normalised({"linux", lowered, "", "", {}});
  if (std::find(kArchitectures.begin(), kArchitectures.end(), out.architecture) ==
      kArchitectures.end())
    return BadPlatform(word,
                       "neither an operating system nor an architecture of this name is known");
  return out;
}

}  // namespace

Result<Platform> Platform::Parse(std::string_view text) {
  const auto fields = Split(text, '/');
  if (fields.size() > 3) return BadPlatform(text, "it has more than three parts");
  for (const std::string_view field : fields) {
    if (field.empty()) return BadPlatform(text, "a part is empty");
    if (!IsWellFormedField(field))
      return BadPlatform(text,
                         "a part is too long or has other characters than letters, digits, . _ -");
  }
  if (fields.size() == 1) return ParseWord(fields[0]);
  Platform out;
  out.os = fields[0];
  out.architecture = fields[1];
  if (fields.size() == 3) out.variant = fields[2];
  return Normalised(out);
}

Platform Platform::Host() {
  utsname name{};
  // uname() fails on a bad pointer only.
  (void)::uname(&name);
  return Normalised({"linux", name.machine, "", "", {}});
}

std::string Platform::ToString() const {
  std::string out = os + "/" + architecture;
  if (!variant.empty()) out += "/" + variant;
  return out;
}

bool IsWellFormed(const Platform& platform) {
  return IsWellFormedField(platform.os) && IsWellFormedField(platform.architecture) &&
         IsWellFormedField(platform.variant);
}

int PlatformMatch(const Platform& wanted, const Platform& offered) {
  const Platform want = Normalised(wanted);
  const Platform have = Normalised(offered);
  if (IsUnknown(want) || IsUnknown(have)) return 0;
  if (want.os != have.os || want.architecture != have.architecture) return 0;
  const std::optional<int> distance = Distance(want, have);
  return distance ? kBestMatch - *distance : 0;
}

}  // namespace lamina
