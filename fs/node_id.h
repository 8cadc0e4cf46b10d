#pragma once

// NodeId: the 64-bit name of a file or directory towards the kernel, and its st_ino. It is a pure
// function of ids that the store keeps for ever and of a position, so that a restarted daemon can
// answer every id that the kernel still holds. Pure functions; any thread.
//
//   63..60 kind   59..32 row (28 bits)     31..0 position
//   kFixed        0                        1 = root of the mount, 2 = .lamina
//   kDirectory    kName row of "docker.io/library"            0
//   kLink         kName row of "<place>\n<target>"            0
//   kImage        kImage row of "repo@digest"                 an ImagePart (8 bits), a number (24
//   bits) kTree         kImage row of "repo@digest" or "…#layer"    EROFS nid; 0 = the root,
//   whatever its nid kStatus       kImage row of "repo@digest"                 check sum of the
//   text kSelf         a SelfText                                  check sum of the text
//
// Texts that change get another id with each content, because the kernel keeps pages by id (OPEN is
// never asked).

#include <cstdint>
#include <optional>

namespace lamina {

using NodeId = uint64_t;

enum class NodeClass : uint8_t {
  kFixed = 0,
  kDirectory = 1,
  kLink = 2,
  kImage = 3,
  kTree = 4,
  kStatus = 5,
  kSelf = 6,
};

// What below an image directory. The number counts layers and platforms.
enum class ImagePart : uint8_t {
  kFolder = 0,
  kLayersFolder = 1,
  kTopLink = 2,
  kManifest = 3,
  kConfig = 4,
  kIndex = 5,
  kPlatformsFolder = 6,
  kPlatformLink = 7,
};

enum class SelfText : uint8_t { kVersion = 1, kLog = 2, kMetrics = 3, kProcess = 4 };

constexpr NodeId kRootNode = 1;
constexpr NodeId kSelfFolderNode = 2;
constexpr uint32_t kMaxNodeRow = (1u << 28) - 1;
constexpr uint32_t kMaxImageNumber = (1u << 24) - 1;

struct NodeParts {
  NodeClass kind = NodeClass::kFixed;
  uint32_t row = 0;
  uint32_t position = 0;

  ImagePart part() const { return static_cast<ImagePart>(position >> 24); }  // of kImage
  uint32_t number() const { return position & kMaxImageNumber; }             // of kImage
  SelfText text() const { return static_cast<SelfText>(row); }               // of kSelf
  friend bool operator==(const NodeParts&, const NodeParts&) = default;
};

// `row` is at most kMaxNodeRow; callers check rows that come from the store with CheckedRow().
constexpr NodeId MakeNode(NodeClass kind, uint32_t row, uint32_t position) {
  return (static_cast<NodeId>(kind) << 60) | (static_cast<NodeId>(row & kMaxNodeRow) << 32) |
         position;
}
constexpr NodeId DirectoryNode(uint32_t row) { return MakeNode(NodeClass::kDirectory, row, 0); }
constexpr NodeId LinkNode(uint32_t row) { return MakeNode(NodeClass::kLink, row, 0); }
constexpr NodeId ImageNode(uint32_t row, ImagePart part, uint32_t number = 0) {
  return MakeNode(NodeClass::kImage, row,
                  (static_cast<uint32_t>(part) << 24) | (number & kMaxImageNumber));
}
constexpr NodeId TreeNode(uint32_t row, uint32_t nid) {
  return MakeNode(NodeClass::kTree, row, nid);
}
constexpr NodeId StatusNode(uint32_t row, uint32_t check) {
  return MakeNode(NodeClass::kStatus, row, check);
}
constexpr NodeId SelfNode(SelfText text, uint32_t check) {
  return MakeNode(NodeClass::kSelf, static_cast<uint32_t>(text), check);
}

// nullopt for ids that no part of lamina makes.
std::optional<NodeParts> SplitNode(NodeId node);
// A row id of the store as 28 bits; nullopt where it does not fit.
std::optional<uint32_t> CheckedRow(int64_t id);

}  // namespace lamina
