// Any bytes as a registries.conf: whatever rule is found covers a beginning of the reference, and
// every location stands for a host.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "fetch/reference.h"
#include "fetch/registries_conf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lamina::RegistriesConf conf;
  if (!conf.Add({reinterpret_cast<const char*>(data), size}, "fuzz")) return 0;
  for (const std::string reference : {"a.example/team/app:1", "docker.io/library/debian"}) {
    const auto match = conf.Find(reference);
    if (!match) continue;
    if (match->length > reference.size()) std::abort();
    for (const auto& mirror : match->rule.mirrors) {
      const std::string there = lamina::Relocated(reference, match->length, mirror.location);
      if (!lamina::IsValidRegistry(there.substr(0, there.find('/')))) std::abort();
    }
  }
  return 0;
}
