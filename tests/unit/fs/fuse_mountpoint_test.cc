#include "fs/fuse_mountpoint.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/bytes.h"
#include "base/file.h"

namespace lamina {
namespace {

class MountpointTest : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-mountpoint");
    ASSERT_TRUE(folder) << folder.error().message;
    folder_.emplace(*std::move(folder));
  }
  void TearDown() override {
    if (folder_) ::umount2(Path("mnt").c_str(), MNT_DETACH);
  }
  std::string Path(const std::string& name) const { return folder_->path() + "/" + name; }
  // A FUSE mount whose daemon is dead, as kill -9 leaves it.
  void LeaveDeadMount(const std::string& path, const char* type) {
    ASSERT_TRUE(MakeFolders(path));
    const pid_t child = ::fork();
    if (child == 0) {
      const int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
      const std::string options = fmt::format("fd={},rootmode=40000,user_id=0,group_id=0", fd);
      ::_exit(::mount("test", path.c_str(), type, MS_NODEV | MS_NOSUID, options.c_str()) == 0 ? 0
                                                                                              : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    struct stat out {};
    ASSERT_EQ(::stat(path.c_str(), &out), -1);
    ASSERT_EQ(errno, ENOTCONN);
  }
  std::optional<TemporaryFolder> folder_;
};

TEST_F(MountpointTest, MakesAMissingFolder) {
  const auto prepared = PrepareMountpoint(Path("deep/mnt/"));
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(*prepared, Path("deep/mnt"));
  struct stat out {};
  ASSERT_EQ(::stat(prepared->c_str(), &out), 0);
  EXPECT_TRUE(S_ISDIR(out.st_mode));
}

TEST_F(MountpointTest, RefusesAFile) {
  ASSERT_TRUE(WriteFileAtomically(Path("file"), AsBytes("x")));
  const auto prepared = PrepareMountpoint(Path("file"));
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().code, Code::kInvalid);
}

TEST_F(MountpointTest, DetachesWhatADeadLaminaLeft) {
  LeaveDeadMount(Path("mnt"), kMountType);
  const auto prepared = PrepareMountpoint(Path("mnt"));
  ASSERT_TRUE(prepared) << prepared.error().message;
  const auto mount = MountAt(Path("mnt"));
  ASSERT_TRUE(mount) << mount.error().message;
  EXPECT_FALSE(mount->has_value());
}

TEST_F(MountpointTest, LeavesDeadMountsOfOthersAlone) {
  LeaveDeadMount(Path("mnt"), "fuse.other");
  EXPECT_FALSE(PrepareMountpoint(Path("mnt")));
  const auto mount = MountAt(Path("mnt"));
  ASSERT_TRUE(mount && mount->has_value());
  EXPECT_EQ((*mount)->type, "fuse.other");
}

TEST_F(MountpointTest, FindsMountsAtPathsWithSpaces) {
  ASSERT_TRUE(MakeFolders(Path("a b")));
  ASSERT_EQ(::mount("test", Path("a b").c_str(), "tmpfs", 0, "size=4k"), 0);
  const auto mount = MountAt(Path("a b"));
  ::umount2(Path("a b").c_str(), MNT_DETACH);
  ASSERT_TRUE(mount && mount->has_value());
  EXPECT_EQ((*mount)->type, "tmpfs");
  EXPECT_FALSE(MountAt(Path("a b"))->has_value());
}

TEST_F(MountpointTest, UnmountingWhereNothingIsMountedSaysSo) {
  ASSERT_TRUE(MakeFolders(Path("mnt")));
  const Status status = UnmountLamina(Path("mnt"), false);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kNotFound);
}

}  // namespace
}  // namespace lamina
