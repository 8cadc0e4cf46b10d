// Hostile tree files: whatever the bytes are, opening and asking end, and nothing is touched
// outside them.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "overlay/tree.h"

namespace {

void AskAll(const lamina::Tree& tree) {
  std::vector<lamina::Nid> waiting{tree.root()};
  for (int asked = 0; !waiting.empty() && asked < 300; ++asked) {
    const lamina::Nid nid = waiting.back();
    waiting.pop_back();
    (void)tree.Stat(nid).has_value();
    (void)tree.ReadLink(nid).has_value();
    (void)tree.Map(nid, 0).has_value();
    (void)tree.Seek(nid, 4097, false).has_value();
    (void)tree.Lookup(nid, "name").has_value();
    (void)tree.Xattr(nid, "user.x").has_value();
    (void)tree.ForEachXattr(nid, [](std::string_view, std::string_view) { return true; })
        .has_value();
    (void)tree
        .ReadDirectory(nid, 0,
                       [&](const lamina::TreeDirent& entry, uint64_t) {
                         if (waiting.size() < 1000) waiting.push_back(entry.nid);
                         return waiting.size() < 1000;
                       })
        .has_value();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tree = lamina::Tree::FromBytes({data, size}, /*check_checksum=*/false);
  if (tree) AskAll(**tree);
  return 0;
}
