#include "fs/node_id.h"

namespace lamina {
namespace {

bool IsPlausible(const NodeParts& parts) {
  switch (parts.kind) {
    case NodeClass::kFixed:
      return parts.row == 0 && (parts.position == kRootNode || parts.position == kSelfFolderNode);
    case NodeClass::kDirectory:
    case NodeClass::kLink:
      return parts.row != 0 && parts.position == 0;
    case NodeClass::kImage:
      return parts.row != 0 && parts.part() <= ImagePart::kPlatformLink;
    case NodeClass::kTree:
    case NodeClass::kStatus:
      return parts.row != 0;
    case NodeClass::kSelf:
      return parts.text() >= SelfText::kVersion &&
             parts.row <= static_cast<uint32_t>(SelfText::kProcess);
  }
  return false;
}

}  // namespace

std::optional<NodeParts> SplitNode(NodeId node) {
  const NodeParts parts{.kind = static_cast<NodeClass>(node >> 60),
                        .row = static_cast<uint32_t>(node >> 32) & kMaxNodeRow,
                        .position = static_cast<uint32_t>(node)};
  if (!IsPlausible(parts)) return std::nullopt;
  return parts;
}

std::optional<uint32_t> CheckedRow(int64_t id) {
  if (id < 1 || id > int64_t{kMaxNodeRow}) return std::nullopt;
  return static_cast<uint32_t>(id);
}

}  // namespace lamina
