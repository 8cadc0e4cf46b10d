// Any bytes as a list of aliases: what is read can be written, and reads as the same again.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fs/alias_document.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed = lamina::AliasDocument::Parse({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  const std::string text = parsed->ToString();
  const auto again = lamina::AliasDocument::Parse(text);
  if (!again || again->ToString() != text) std::abort();
  return 0;
}
