#include "fs/node_id.h"

#include <gtest/gtest.h>

#include <set>

namespace lamina {
namespace {

TEST(NodeIdTest, RootIsOneAsFuseDemands) {
  const auto parts = SplitNode(1);
  ASSERT_TRUE(parts.has_value());
  EXPECT_EQ(parts->kind, NodeClass::kFixed);
  EXPECT_EQ(kRootNode, 1u);
}

TEST(NodeIdTest, SplittingGivesBackWhatWasPutIn) {
  const NodeParts tree = *SplitNode(TreeNode(kMaxNodeRow, 0xFFFFFFFF));
  EXPECT_EQ(tree.kind, NodeClass::kTree);
  EXPECT_EQ(tree.row, kMaxNodeRow);
  EXPECT_EQ(tree.position, 0xFFFFFFFFu);
  const NodeParts link = *SplitNode(ImageNode(7, ImagePart::kPlatformLink, kMaxImageNumber));
  EXPECT_EQ(link.kind, NodeClass::kImage);
  EXPECT_EQ(link.row, 7u);
  EXPECT_EQ(link.part(), ImagePart::kPlatformLink);
  EXPECT_EQ(link.number(), kMaxImageNumber);
  const NodeParts text = *SplitNode(SelfNode(SelfText::kMetrics, 99));
  EXPECT_EQ(text.kind, NodeClass::kSelf);
  EXPECT_EQ(text.text(), SelfText::kMetrics);
}

TEST(NodeIdTest, DifferentThingsHaveDifferentIds) {
  const std::set<NodeId> ids = {kRootNode,
                                kSelfFolderNode,
                                DirectoryNode(1),
                                LinkNode(1),
                                ImageNode(1, ImagePart::kFolder),
                                ImageNode(1, ImagePart::kManifest),
                                ImageNode(1, ImagePart::kPlatformLink, 0),
                                ImageNode(1, ImagePart::kPlatformLink, 1),
                                ImageNode(2, ImagePart::kFolder),
                                TreeNode(1, 0),
                                TreeNode(1, 40),
                                TreeNode(2, 40),
                                StatusNode(1, 0),
                                StatusNode(1, 40),
                                SelfNode(SelfText::kLog, 0),
                                SelfNode(SelfText::kVersion, 0)};
  EXPECT_EQ(ids.size(), 16u);
}

TEST(NodeIdTest, FitsInASignedInodeNumber) {
  // Some programs keep st_ino in a signed 64-bit number.
  EXPECT_EQ(SelfNode(SelfText::kMetrics, 0xFFFFFFFF) >> 63, 0u);
  EXPECT_EQ(StatusNode(kMaxNodeRow, 0xFFFFFFFF) >> 63, 0u);
}

TEST(NodeIdTest, RefusesIdsThatNothingMakes) {
  EXPECT_FALSE(SplitNode(0).has_value());
  EXPECT_FALSE(SplitNode(3).has_value());
  EXPECT_FALSE(SplitNode(~NodeId{0}).has_value());
  EXPECT_FALSE(SplitNode(MakeNode(NodeClass::kDirectory, 0, 0)).has_value());
  EXPECT_FALSE(SplitNode(MakeNode(NodeClass::kDirectory, 1, 1)).has_value());
  EXPECT_FALSE(SplitNode(MakeNode(NodeClass::kImage, 1, 0xFF000000)).has_value());
  EXPECT_FALSE(SplitNode(MakeNode(NodeClass::kSelf, 9, 0)).has_value());
}

TEST(NodeIdTest, RowsOfTheStoreHaveToFit) {
  EXPECT_EQ(CheckedRow(1), 1u);
  EXPECT_EQ(CheckedRow(int64_t{kMaxNodeRow}), kMaxNodeRow);
  EXPECT_FALSE(CheckedRow(0).has_value());
  EXPECT_FALSE(CheckedRow(-1).has_value());
  EXPECT_FALSE(CheckedRow(int64_t{kMaxNodeRow} + 1).has_value());
}

}  // namespace
}  // namespace lamina
