// The tree on a real mount, through the kernel.

#include <fmt/core.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "fuse_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(FuseMountTest, LayerIsTheFolderThatWasPacked) {
  // Directories have sizes of their own in every file system.
  const auto facts = [](const std::string& folder) {
    return Shell("cd '" + folder +
                 "' && find . -mindepth 1 \\( -type d -printf '%P d %m %U %G %T@\\n' \\) -o "
                 "-printf '%P %y %m %U %G %s %n %T@ %l\\n' | sort");
  };
  EXPECT_EQ(facts(Image() + "/layers/0"), facts(Path("lower")));
  Shell(fmt::format("cd '{}' && find . -type f -exec cmp '{{}}' '{}/layers/0/{{}}' ';'",
                    Path("lower"), Image()));
  EXPECT_EQ(Shell("stat -c '%t:%T' '" + Image() + "/rootfs/dir/device'"), "a:12c\n");
}

TEST_F(FuseMountTest, TagLeadsToTheImage) {
  EXPECT_EQ(Shell("readlink '" + Repo() + "/base'"), base_.PathName() + "\n");
  EXPECT_EQ(Shell("realpath '" + mountpoint_ + "/localhost/sample:base/rootfs'"),
            Image() + "/rootfs\n");
  EXPECT_EQ(Shell("cat '" + Repo() + "/base/rootfs/etc/os-release'"), "NAME=sample\n");
  EXPECT_EQ(Shell("readlink '" + Repo() + "/" + base_.ToString() + "'"), base_.PathName() + "\n");
}

TEST_F(FuseMountTest, InodeNumbersAreNodeIdsAndBlocksAreThoseOfErofs) {
  struct stat big {};
  ASSERT_EQ(::stat((Image() + "/rootfs/dir/big").c_str(), &big), 0);
  EXPECT_EQ(big.st_ino, Walk("localhost/sample/" + base_.PathName() + "/rootfs/dir/big"));
  EXPECT_EQ(big.st_blksize, 4096);
  EXPECT_EQ(big.st_blocks, 3145728 / 512);
  struct stat one {};
  ASSERT_EQ(::stat((Image() + "/rootfs/dir/a").c_str(), &one), 0);
  EXPECT_EQ(one.st_blocks, 8);
  EXPECT_EQ(one.st_atim.tv_sec, one.st_mtim.tv_sec);
}

TEST_F(FuseMountTest, ListingShowsATagThatWasAddedAtOnce) {
  const std::string list = "ls '" + Repo() + "'";
  EXPECT_THAT(Shell(list), Not(HasSubstr("later")));
  EXPECT_THAT(Shell(list), HasSubstr("base"));
  struct stat out {};
  EXPECT_NE(::lstat((Repo() + "/later").c_str(), &out),
            0);  // the kernel keeps that it is not there
  layout_->AddImage({lower_layer_}, "amd64", "later");
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
  EXPECT_EQ(::lstat((Repo() + "/later").c_str(), &out), 0);
  EXPECT_THAT(Shell(list), HasSubstr("later"));
}

TEST_F(FuseMountTest, MovedTagShowsAtOnceWhileTheOldImageStays) {
  const UniqueFd old(
      ::open((Repo() + "/base/rootfs/etc").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(old.valid());
  layout_->AddImage({lower_layer_}, "amd64", "base");
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
  EXPECT_THAT(Shell("ls '" + Repo() + "/base/rootfs/etc'"), HasSubstr("motd"));
  EXPECT_THAT(Shell(fmt::format("ls /proc/{}/fd/{}/", ::getpid(), old.get())),
              Not(HasSubstr("motd")));
}

TEST_F(FuseMountTest, StatusShowsNewContent) {
  const std::string read = "cat '" + Image() + "/status.json'";
  const std::string before = Shell(read);
  EXPECT_EQ(Shell(read), before);
  Shell("ls '" + Image() + "/rootfs'");
  const std::string after = Shell(read);
  EXPECT_NE(after, before);
  // Whole, though the size differs from what the kernel knew.
  EXPECT_TRUE(nlohmann::json::accept(after)) << after;
}

TEST_F(FuseMountTest, KernelAsksNothingOnceWarm) {
  const UniqueFd rootfs(::open((Image() + "/rootfs").c_str(), O_PATH | O_CLOEXEC));
  ASSERT_TRUE(rootfs.valid());
  // By descriptor, so that no directory of names is crossed.
  const std::string walk = fmt::format(
      "cd /proc/{}/fd/{}/ && find . -printf '%P %s %l\\n' && cat dir/big dir/a dir/new > "
      "/dev/null; cat dir/none 2>/dev/null || true",
      ::getpid(), rootfs.get());
  const std::string cold = Shell(walk);
  const std::vector<std::string> kinds = {"lookup",  "getattr",  "read", "readdirplus",
                                          "readdir", "readlink", "open", "opendir"};
  const auto sent = [&] {
    std::map<std::string, uint64_t> counts;
    for (const std::string& kind : kinds) counts[kind] = Count(kind);
    return counts;
  };
  EXPECT_GT(Count("read"), 0u);
  // The kernel's caches belong to the whole machine: others may empty them in the middle of a walk,
  // but not of each.
  auto before = sent();
  auto after = before;
  for (int walks = 0; walks < 5 && (walks == 0 || after != before); ++walks) {
    before = after;
    EXPECT_EQ(Shell(walk), cold);
    after = sent();
  }
  EXPECT_EQ(after, before);
  // Each was told once that there is no such call.
  EXPECT_LE(Count("open"), 1u);
  EXPECT_LE(Count("opendir"), 1u);
}

TEST_F(FuseMountTest, MetricsCountMessages) {
  Shell("ls '" + Repo() + "'");
  EXPECT_THAT(Shell("cat '" + mountpoint_ + "/.lamina/metrics'"),
              HasSubstr("lamina_fuse_messages_total{op=\"init\"} 1\n"));
  EXPECT_EQ(Shell("cat '" + mountpoint_ + "/.lamina/version'"), "1.2.3\n");
  EXPECT_EQ(Count("init"), 1u);
}

TEST_F(FuseMountTest, XattrListsAreTheImagesOwn) {
  const std::string big = Image() + "/rootfs/dir/big";
  char names[256];
  ASSERT_EQ(::listxattr(big.c_str(), names, sizeof names), 11);
  EXPECT_STREQ(names, "user.color");
  char value[256];
  EXPECT_EQ(::getxattr(big.c_str(), "user.color", nullptr, 0), 3);
  EXPECT_EQ(::getxattr(big.c_str(), "user.color", value, 2), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(::getxattr(big.c_str(), "user.none", value, sizeof value), -1);
  EXPECT_EQ(errno, ENODATA);
  ASSERT_EQ(::getxattr(big.c_str(), "user.lamina.layer", value, sizeof value), 1);
  EXPECT_EQ(value[0], '0');
}

TEST_F(FuseMountTest, SeekFindsHoles) {
  const UniqueFd sparse(::open((Image() + "/rootfs/dir/sparse").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(::lseek(sparse.get(), 0, SEEK_DATA), 1 << 20);
  EXPECT_EQ(::lseek(sparse.get(), 0, SEEK_HOLE), 0);
  EXPECT_EQ(::lseek(sparse.get(), (1 << 20) + 4, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST_F(FuseMountTest, NothingCanBeWritten) {
  EXPECT_EQ(::mkdir((Image() + "/rootfs/x").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(::open((Image() + "/rootfs/dir/a").c_str(), O_WRONLY | O_CLOEXEC), -1);
  EXPECT_EQ(errno, EROFS);
  struct statvfs facts {};
  ASSERT_EQ(::statvfs((Image() + "/rootfs").c_str(), &facts), 0);
  EXPECT_NE(facts.f_flag & ST_RDONLY, 0u);
  EXPECT_NE(facts.f_flag & ST_NOSUID, 0u);
  EXPECT_NE(facts.f_flag & ST_NODEV, 0u);
  EXPECT_EQ(facts.f_namemax, 255u);
}

TEST_F(FuseMountTest, FileHandlesOutliveTheKernelsCaches) {
  const std::string path = Image() + "/rootfs/dir/a";
  alignas(file_handle) unsigned char space[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
  auto* handle = reinterpret_cast<file_handle*>(space);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  ASSERT_EQ(::name_to_handle_at(AT_FDCWD, path.c_str(), handle, &mount_id, 0), 0)
      << std::strerror(errno);
  const UniqueFd root(::open(mountpoint_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Shell("echo 2 > /proc/sys/vm/drop_caches");
  const UniqueFd file(::open_by_handle_at(root.get(), handle, O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file.valid()) << std::strerror(errno);
  char bytes[8];
  EXPECT_EQ(::read(file.get(), bytes, sizeof bytes), 4);
}

TEST_F(FuseMountTest, WaitingLookupIsInterruptedAndHoldsUpNobodyElse) {
  SilentServer server;
  const Prober prober(fmt::format("{}/localhost_{}_/app", mountpoint_, server.port()));
  server.WaitForRequest();
  EXPECT_EQ(Shell("cat '" + Image() + "/rootfs/dir/new'"), "new\n");
  prober.Interrupt();
  EXPECT_EQ(prober.Errno(), EINTR);
  EXPECT_GT(Count("interrupt"), 0u);
}

TEST_F(FuseMountTest, QueuedLookupsAreInterruptedToo) {
  SilentServer server;
  const std::string repository = fmt::format("localhost:{}/team/app", server.port());
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), repository));
  std::vector<std::unique_ptr<Prober>> probers;
  // More than one key's share of the pool: some run, the others wait in line.
  for (int i = 0; i < 24; ++i)
    probers.push_back(std::make_unique<Prober>(
        fmt::format("{}/localhost_{}_/team/app/tag{}", mountpoint_, server.port(), i)));
  for (const auto& prober : probers) EXPECT_EQ(prober->InterruptUntilGone(), EINTR);
  EXPECT_EQ(Shell("cat '" + Image() + "/rootfs/dir/new'"), "new\n");
}

// [S25]
TEST_F(FuseMountTest, ManyDeadRegistriesHoldUpNoLocalImage) {
  session_->Stop();
  runner_.join();
  session_.reset();
  pool_.emplace(KeyedPool::Options{.max_threads = 8, .per_key = 4, .for_local = 2});
  Mount({.mountpoint = mountpoint_, .handle_signals = false, .on_ready = {}});
  const uint64_t lookups = Count("lookup");
  std::vector<std::unique_ptr<SilentServer>> servers;
  std::vector<std::unique_ptr<Prober>> probers;
  for (int i = 0; i < 16; ++i) {
    servers.push_back(std::make_unique<SilentServer>());
    probers.push_back(std::make_unique<Prober>(
        fmt::format("{}/localhost_{}_/app", mountpoint_, servers.back()->port())));
  }
  while (Count("lookup") < lookups + probers.size()) ::usleep(1000);
  EXPECT_EQ(Shell("cat '" + Image() + "/rootfs/dir/new'"), "new\n");
  for (const auto& prober : probers) EXPECT_TRUE(prober->waits());
  for (const auto& prober : probers) EXPECT_EQ(prober->InterruptUntilGone(), EINTR);
}

// The kernel's lock of a folder is held by a lookup in it that waits.
TEST_F(FuseMountTest, ChangesShowWhileALookupOfADeadRegistryWaits) {
  SilentServer server;
  const std::string host = fmt::format("localhost:{}", server.port());
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), host + "/team/app"));
  const std::string dead = fmt::format("{}/localhost_{}_/team/app", mountpoint_, server.port());
  const auto shows = [&](const std::string& tag) {
    struct stat out {};
    return ::lstat((Repo() + "/" + tag).c_str(), &out) == 0;
  };
  Shell("readlink '" + dead + "/base'");
  const Prober in_root(mountpoint_ + "/127.0.0.1_" + std::to_string(server.port()) + "_");
  server.WaitForRequest();
  const Prober in_repository(dead + "/unknown");
  server.WaitForRequest();
  // The first change meets the lookups that wait; the others come after it.
  for (const std::string tag : {"one", "two", "three"}) {
    EXPECT_FALSE(shows(tag));
    Shell("readlink '" + dead + "/base'");
    layout_->AddImage({lower_layer_}, "amd64", tag);
    ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
    EXPECT_TRUE(shows(tag)) << tag;
  }
  EXPECT_THAT(Shell("ls '" + mountpoint_ + "'"), HasSubstr("localhost"));
  EXPECT_THAT(Shell("ls -d '" + mountpoint_ + "/docker.io'"), HasSubstr("docker.io"));
  EXPECT_TRUE(in_root.waits());
  EXPECT_TRUE(in_repository.waits());
  in_root.InterruptUntilGone();
  in_repository.InterruptUntilGone();
}

TEST_F(FuseMountTest, StopAnswersWhatWaits) {
  SilentServer server;
  const Prober prober(fmt::format("{}/localhost_{}_/app", mountpoint_, server.port()));
  server.WaitForRequest();
  session_->Stop();
  runner_.join();
  EXPECT_TRUE(ended_);
  EXPECT_EQ(prober.Errno(), EINTR);
}

TEST_F(FuseMountTest, StopUnmountsWhileAFileIsOpen) {
  const UniqueFd open(::open((Image() + "/rootfs/dir/a").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(open.valid());
  session_->Stop();
  runner_.join();
  EXPECT_TRUE(ended_);
  const auto mount = MountAt(mountpoint_);
  ASSERT_TRUE(mount);
  EXPECT_FALSE(mount->has_value());
}

TEST_F(FuseMountTest, UnmountingFromOutsideEndsTheSession) {
  ASSERT_TRUE(UnmountLamina(mountpoint_, false));
  runner_.join();
  EXPECT_TRUE(ended_);
  EXPECT_EQ(UnmountLamina(mountpoint_, false).error().code, Code::kNotFound);
}

TEST_F(FuseMountTest, RefusesAMountpointThatIsMounted) {
  const auto second =
      FuseSession::Mount(*names_, *pool_, {.mountpoint = mountpoint_, .on_ready = {}});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kInvalid);
  EXPECT_THAT(second.error().message, HasSubstr(mountpoint_));
}

TEST_F(FuseMountTest, ReadAheadIsRaised) {
  const auto mount = MountAt(mountpoint_);
  ASSERT_TRUE(mount && mount->has_value());
  EXPECT_EQ(Shell("cat /sys/class/bdi/" + (*mount)->device + "/read_ahead_kb"), "4096\n");
}

// [S25] Beyond that number the kernel lets no read-ahead through, of no image.
TEST_F(FuseMountTest, ManyReadsMayWait) {
  const auto mount = MountAt(mountpoint_);
  ASSERT_TRUE(mount && mount->has_value());
  const std::string connection = (*mount)->device.substr((*mount)->device.find(':') + 1);
  ASSERT_TRUE(MakeFolders(Path("connections")));
  ASSERT_EQ(::mount("fusectl", Path("connections").c_str(), "fusectl", 0, nullptr), 0);
  const std::string most =
      Shell("cat '" + Path("connections") + "/" + connection + "/max_background'");
  ::umount2(Path("connections").c_str(), MNT_DETACH);
  EXPECT_EQ(most, "65535\n");
}

TEST_F(FuseMountTest, TermSignalUnmounts) {
  session_->Stop();
  runner_.join();
  session_.reset();
  Mount({.mountpoint = mountpoint_, .on_ready = {}});
  EXPECT_EQ(Shell("cat '" + Image() + "/rootfs/dir/new'"), "new\n");
  ASSERT_EQ(::kill(::getpid(), SIGTERM), 0);
  runner_.join();
  EXPECT_TRUE(ended_);
  EXPECT_FALSE(MountAt(mountpoint_)->has_value());
}

TEST_F(FuseMountTest, ManyReadersOfAColdTreeAllGetTheSame) {
  std::vector<std::future<std::string>> readers;
  for (int i = 0; i < 16; ++i)
    readers.push_back(std::async(
        std::launch::async, [&] { return Shell("sha256sum < '" + Image() + "/rootfs/dir/big'"); }));
  const std::string expected = Shell("sha256sum < '" + Path("lower/dir/big") + "'");
  for (auto& reader : readers) EXPECT_EQ(reader.get(), expected);
  EXPECT_EQ(layers_->counters().indexed.load(), 2u);
}

TEST_F(FuseMountTest, BrokenLayerIsAnErrorForItsImageOnly) {
  const Digest other_layer = layout_->AddLayer(Path("upper"));
  layout_->AddImage({other_layer}, "amd64", "other");
  ASSERT_TRUE(catalog_->AddSource("oci:" + layout_->folder(), Repository()));
  Shell("printf X | dd of='" + layout_->BlobPath(lower_layer_) +
        "' bs=1 seek=700000 conv=notrunc status=none");
  struct stat out {};
  EXPECT_EQ(::stat((Image() + "/rootfs/dir").c_str(), &out), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_THAT(Shell("cat '" + Image() + "/status.json'"), HasSubstr("last_error"));
  EXPECT_EQ(Shell("cat '" + Repo() + "/other/rootfs/dir/new'"), "new\n");
  EXPECT_THAT(Shell("cat '" + mountpoint_ + "/.lamina/log'"), HasSubstr(lower_layer_.ToString()));
}

}  // namespace
}  // namespace lamina
