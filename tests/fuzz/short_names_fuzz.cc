// Any bytes as a registries.conf: every name that comes out of it is a full reference.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fetch/short_names.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lamina::ShortNames names;
  if (!names.Add({reinterpret_cast<const char*>(data), size}, "fuzz")) return 0;
  for (const char* text : {"app", "team/app:1", "localhost/app"}) {
    const auto candidates = names.Candidates(text);
    if (!candidates) continue;
    for (const lamina::Reference& reference : *candidates)
      if (!lamina::Reference::Parse(reference.ToString())) std::abort();
  }
  return 0;
}
