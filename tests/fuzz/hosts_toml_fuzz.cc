// Any bytes as a hosts.toml: every host that comes out of it has a URL that can be asked.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fetch/hosts_toml.h"
#include "fetch/url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed =
      lamina::ParseHostsToml({reinterpret_cast<const char*>(data), size}, "/etc/fuzz/hosts.toml");
  if (!parsed) return 0;
  for (const auto& host : parsed->hosts)
    if (!lamina::Url::Parse(lamina::ApiUrl(host))) std::abort();
  return 0;
}
