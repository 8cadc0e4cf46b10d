// The kernel's view of a tree file, mounted file-backed with the layers' flat address spaces as
// devices, against what Tree says of it. Needs root and a kernel with file-backed EROFS
// (Linux 6.12); where these are missing the test fails, unless LAMINA_NO_KERNEL_EROFS=1 says that
// this is known.

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "tests/model/indexed_layers.h"
#include "tests/support/erofs_check.h"

namespace lamina::testing {
namespace {

using Type = EntrySpec::Type;
constexpr int64_t kCreated = 1'700'000'000;
constexpr TreeOptions kOptions{.created_ns = kCreated * 1'000'000'000, .only_layer = {}};

LayerSpec BaseLayer() {
  LayerSpec layer = {
      {.type = Type::kDirectory, .path = "./", .mode = 0751, .uid = 7},
      {.type = Type::kDirectory, .path = "bin", .mode = 0755},
      {.path = "bin/sh", .mode = 04755, .content = std::string(70'000, 's')},
      {.type = Type::kHardlink, .path = "bin/bash", .link = "bin/sh"},
      {.path = "empty", .mode = 0},
      {.path = "one", .content = "1"},
      {.path = "block", .content = std::string(4096, 'b')},
      {.path = "sparse",
       .sparse_size = uint64_t{2} << 30,
       .sparse_data = {{5, "head"}, {1'000'000'000, "middle"}}},
      {.path = "all-hole", .sparse_size = 1'000'000},
      {.type = Type::kCharDevice, .path = "dev/c", .mode = 0666, .major = 10, .minor = 300},
      {.type = Type::kBlockDevice, .path = "dev/b", .mode = 0600, .major = 259, .minor = 70000},
      {.type = Type::kFifo, .path = "dev/fifo", .mode = 0622},
      {.type = Type::kSymlink, .path = "short", .link = "bin/sh"},
      {.type = Type::kSymlink, .path = "long", .link = std::string(4090, 'l')},
      {.path = "old", .mtime_s = -31'536'000, .mtime_ns = 123'456'789},
      {.path = "far",
       .uid = 3'000'000'000,
       .gid = 4'000'000'000,
       .mtime_s = 7'258'118'400,
       .mtime_ns = 1},
      {.path = "cap",
       .xattrs = {{"security.capability",
                   std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)},
                  {"user.long", std::string(3000, 'x')}}},
      {.type = Type::kDirectory, .path = "labelled", .xattrs = {{"user.a", "1"}, {"user.b", ""}}},
      {.path = "n\xff\x01"
               "b"},
      {.path = std::string(255, 'n')},
      {.path = "gone/x", .content = "x"},
      {.path = "opaque/lower", .content = "lower"},
      {.path = "type/was-dir/x"},
      {.path = "type/was-file"},
  };
  for (int i = 0; i < 3000; ++i)
    layer.push_back(
        {.path = "many/entry-with-a-name-" + std::to_string(i), .content = std::to_string(i)});
  return layer;
}

std::vector<LayerSpec> Stack() {
  return {
      BaseLayer(),
      {{.path = ".wh.gone"},
       {.path = "opaque/.wh..wh..opq"},
       {.path = "opaque/upper", .content = "upper"},
       {.type = Type::kHardlink, .path = "usr/sh2", .link = "bin/sh"},
       {.path = "many/.wh.entry-with-a-name-1500"},
       {.path = "type/was-dir", .content = "now a file"},
       {.path = "type/was-file/in", .content = "now a directory"}},
      {{.type = Type::kDirectory, .path = "bin", .mode = 01777, .uid = 5},
       {.path = "bin/sh", .content = "replaced"},
       {.path = "big", .content = std::string(3'000'000, 'B')}},
      {{.type = Type::kHardlink, .path = "usr/sh3", .link = "usr/sh2"},
       {.path = "many/!first", .content = "!"}},
  };
}

// Unmounts at the end of the test, whatever happened in it.
class KernelMount {
 public:
  KernelMount(const Tree& tree, const std::vector<std::string>& devices, const std::string& point)
      : point_(point) {
    std::string options;
    for (const std::string& device : devices)
      options += (options.empty() ? "device=" : ",device=") + device;
    if (::mkdir(point.c_str(), 0700) != 0 ||
        ::mount(tree.path().c_str(), point.c_str(), "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV,
                options.c_str()) != 0)
      failure_ = std::strerror(errno);
  }
  ~KernelMount() {
    if (failure_.empty()) ::umount2(point_.c_str(), MNT_DETACH);
  }
  KernelMount(const KernelMount&) = delete;
  KernelMount& operator=(const KernelMount&) = delete;
  const std::string& failure() const { return failure_; }

 private:
  std::string point_;
  std::string failure_;
};

std::vector<std::string> WriteDevices(const IndexedLayers& layers) {
  std::vector<std::string> devices;
  for (size_t i = 0; i < layers.indexes().size(); ++i) {
    devices.push_back(layers.folder() + "/device" + std::to_string(i));
    EXPECT_TRUE(WriteFileAtomically(devices.back(), AsBytes(layers.flat(i))).has_value());
  }
  return devices;
}

class KernelComparison {
 public:
  KernelComparison(const Tree& tree, const IndexedLayers& layers) : tree_(tree), layers_(layers) {}

  void CompareDirectory(const std::string& path, Nid nid) {
    CompareInode(path, nid);
    std::vector<TreeDirent> want;
    ASSERT_TRUE(tree_
                    .ReadDirectory(nid, 0,
                                   [&](const TreeDirent& entry, uint64_t) {
                                     want.push_back(entry);
                                     return true;
                                   })
                    .has_value());
    DIR* directory = ::opendir(path.c_str());
    ASSERT_NE(directory, nullptr) << path;
    size_t count = 0;
    while (const dirent* entry = ::readdir(directory)) {
      ASSERT_LT(count, want.size()) << path;
      EXPECT_EQ(entry->d_name, want[count].name) << path;
      EXPECT_EQ(entry->d_ino, want[count].nid) << path << "/" << entry->d_name;
      EXPECT_EQ(entry->d_type, DirentType(want[count].type)) << path << "/" << entry->d_name;
      ++count;
    }
    ::closedir(directory);
    EXPECT_EQ(count, want.size()) << path;
    for (const TreeDirent& entry : want) {
      if (entry.name == "." || entry.name == "..") continue;
      const std::string below = path + "/" + std::string(entry.name);
      if (entry.type == EntryType::kDirectory) {
        CompareDirectory(below, entry.nid);
      } else {
        CompareInode(below, entry.nid);
      }
    }
  }
  int inodes() const { return inodes_; }

 private:
  static unsigned char DirentType(EntryType type) {
    static const std::map<EntryType, unsigned char> kTypes = {
        {EntryType::kRegular, DT_REG},     {EntryType::kDirectory, DT_DIR},
        {EntryType::kSymlink, DT_LNK},     {EntryType::kCharDevice, DT_CHR},
        {EntryType::kBlockDevice, DT_BLK}, {EntryType::kFifo, DT_FIFO},
        {EntryType::kSocket, DT_SOCK}};
    return kTypes.at(type);
  }

  void CompareInode(const std::string& path, Nid nid) {
    ++inodes_;
    const auto attr = tree_.Stat(nid);
    ASSERT_TRUE(attr.has_value()) << path << ": " << attr.error().message;
    struct stat st {};
    ASSERT_EQ(::lstat(path.c_str(), &st), 0) << path;
    EXPECT_EQ(st.st_ino, nid) << path;
    EXPECT_EQ(IFTODT(st.st_mode), DirentType(attr->type)) << path;
    EXPECT_EQ(st.st_mode & 07777, attr->mode) << path;
    EXPECT_EQ(st.st_nlink, attr->nlink) << path;
    EXPECT_EQ(st.st_uid, attr->uid) << path;
    EXPECT_EQ(st.st_gid, attr->gid) << path;
    EXPECT_EQ(static_cast<uint64_t>(st.st_size), attr->size) << path;
    EXPECT_EQ(st.st_mtim.tv_sec, attr->mtime_s) << path;
    EXPECT_EQ(st.st_mtim.tv_nsec, attr->mtime_ns) << path;
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
      EXPECT_EQ(major(st.st_rdev), attr->device_major) << path;
      EXPECT_EQ(minor(st.st_rdev), attr->device_minor) << path;
    }
    CompareXattrs(path, nid);
    if (attr->type == EntryType::kSymlink) CompareTarget(path, nid);
    if (attr->type == EntryType::kRegular) CompareContent(path, nid, attr->size);
  }

  void CompareTarget(const std::string& path, Nid nid) {
    std::string target(5000, '\0');
    const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
    ASSERT_GE(length, 0) << path;
    target.resize(static_cast<size_t>(length));
    EXPECT_EQ(target, tree_.ReadLink(nid).value()) << path;
  }

  void CompareXattrs(const std::string& path, Nid nid) {
    std::map<std::string, std::string> want;
    ASSERT_TRUE(tree_
                    .ForEachXattr(nid,
                                  [&](std::string_view name, std::string_view value) {
                                    want.emplace(name, value);
                                    return true;
                                  })
                    .has_value());
    std::string names(65536, '\0');
    const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
    ASSERT_GE(length, 0) << path;
    std::map<std::string, std::string> got;
    for (const char* name = names.data(); name < names.data() + length;
         name += std::strlen(name) + 1) {
      std::string value(65536, '\0');
      const ssize_t bytes = ::lgetxattr(path.c_str(), name, value.data(), value.size());
      ASSERT_GE(bytes, 0) << path << " " << name;
      value.resize(static_cast<size_t>(bytes));
      got.emplace(name, value);
      const auto single = tree_.Xattr(nid, name);
      EXPECT_TRUE(single.has_value() && *single == value) << path << " " << name;
    }
    EXPECT_EQ(got, want) << path;
  }

  // Every stretch of data byte by byte; holes by the kernel's own word for them.
  void CompareContent(const std::string& path, Nid nid, uint64_t size) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(file.valid()) << path;
    uint64_t at = 0;
    while (at < size) {
      const auto data = tree_.Seek(nid, at, false);
      const off_t kernel_data = ::lseek(file.get(), static_cast<off_t>(at), SEEK_DATA);
      if (!data) {
        EXPECT_EQ(kernel_data, -1) << path;
        return;
      }
      ASSERT_EQ(static_cast<uint64_t>(kernel_data), *data) << path;
      at = tree_.Seek(nid, *data, true).value();
      ASSERT_EQ(static_cast<uint64_t>(::lseek(file.get(), kernel_data, SEEK_HOLE)), at) << path;
      const auto want = layers_.Read(tree_, nid, *data, at - *data);
      ASSERT_TRUE(want.has_value()) << path << ": " << want.error().message;
      std::string got(want->size(), '\0');
      ASSERT_EQ(::pread(file.get(), got.data(), got.size(), kernel_data),
                static_cast<ssize_t>(got.size()))
          << path;
      EXPECT_TRUE(got == *want) << path << " from byte " << *data;
    }
  }

  const Tree& tree_;
  const IndexedLayers& layers_;
  int inodes_ = 0;
};

bool KernelKnownToLackErofs() {
  const char* known = std::getenv("LAMINA_NO_KERNEL_EROFS");
  return known != nullptr && std::string(known) == "1";
}

constexpr int kNoKernelView = -1;

int CompareWithKernel(const Tree& tree, const IndexedLayers& layers, const std::string& point) {
  std::vector<std::string> devices = WriteDevices(layers);
  devices.resize(tree.device_count());
  EXPECT_EQ(FsckComplaints(tree, layers.folder(), devices), "");
  const KernelMount mount(tree, devices, layers.folder() + "/" + point);
  if (!mount.failure().empty()) {
    std::printf("no kernel view: %s\n", mount.failure().c_str());
    EXPECT_TRUE(KernelKnownToLackErofs()) << mount.failure() << " (a tmpfs as TMPDIR will not do)";
    return kNoKernelView;
  }
  KernelComparison comparison(tree, layers);
  comparison.CompareDirectory(layers.folder() + "/" + point, tree.root());
  return comparison.inodes();
}

TEST(KernelViewTest, MergedTreeIsTheSameInTheKernel) {
  IndexedLayers layers;
  for (const LayerSpec& layer : Stack()) {
    const Status added = layers.Add(layer);
    ASSERT_TRUE(added.has_value()) << added.error().message;
  }
  const auto tree = layers.Build(kOptions);
  ASSERT_TRUE(tree.has_value()) << tree.error().message;
  const int inodes = CompareWithKernel(**tree, layers, "merged");
  EXPECT_TRUE(inodes == kNoKernelView || inodes > 3000);
}

TEST(KernelViewTest, SingleLayersAreTheSameInTheKernel) {
  IndexedLayers layers;
  for (const LayerSpec& layer : Stack()) ASSERT_TRUE(layers.Add(layer).has_value());
  for (size_t i = 0; i < layers.indexes().size(); ++i) {
    const auto tree = layers.Build({.created_ns = kOptions.created_ns, .only_layer = i});
    ASSERT_TRUE(tree.has_value()) << tree.error().message;
    CompareWithKernel(**tree, layers, "layer" + std::to_string(i));
  }
}

TEST(KernelViewTest, EmptyImageIsAnEmptyRoot) {
  IndexedLayers layers;
  const auto tree = layers.Build(kOptions);
  ASSERT_TRUE(tree.has_value()) << tree.error().message;
  const int inodes = CompareWithKernel(**tree, layers, "empty");
  EXPECT_TRUE(inodes == kNoKernelView || inodes == 1);
}

// Everything about each name that an overlayfs keeps: links across layers are separate files there.
void List(const std::string& top, const std::string& path,
          std::map<std::string, std::string>* out) {
  const std::string full = top + path;
  struct stat st {};
  ASSERT_EQ(::lstat(full.c_str(), &st), 0) << full;
  std::string line = fmt::format("{:o} {}:{} {}.{:09}", st.st_mode, st.st_uid, st.st_gid,
                                 st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  if (S_ISREG(st.st_mode) && st.st_size < (1 << 24)) line += *ReadWholeFile(full, 1u << 24);
  if (S_ISREG(st.st_mode)) line += fmt::format(" {} bytes", st.st_size);
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) line += fmt::format(" device {}", st.st_rdev);
  if (S_ISLNK(st.st_mode)) line += " -> " + std::filesystem::read_symlink(full).native();
  for (const char* name :
       {"user.a", "user.b", "user.long", "security.capability", "trusted.overlay.opaque"}) {
    std::string value(4096, '\0');
    const ssize_t bytes = ::lgetxattr(full.c_str(), name, value.data(), value.size());
    if (bytes >= 0)
      line += fmt::format(" {}={}", name, value.substr(0, static_cast<size_t>(bytes)));
  }
  (*out)[path] = line;
  if (!S_ISDIR(st.st_mode)) return;
  for (const auto& entry : std::filesystem::directory_iterator(full))
    List(top, path + "/" + entry.path().filename().native(), out);
}

// An overlayfs of the single layers, topmost first, is what a container engine would make of
// unpacked layers.
TEST(KernelViewTest, OverlayfsOfSingleLayersEqualsTheMergedTree) {
  IndexedLayers layers;
  for (const LayerSpec& layer : Stack()) ASSERT_TRUE(layers.Add(layer).has_value());
  const std::vector<std::string> devices = WriteDevices(layers);
  std::vector<std::unique_ptr<KernelMount>> mounts;
  std::string lower;
  for (size_t i = 0; i < layers.indexes().size(); ++i) {
    const auto tree = layers.Build({.created_ns = kOptions.created_ns, .only_layer = i});
    ASSERT_TRUE(tree.has_value()) << tree.error().message;
    const std::string point = layers.folder() + "/single" + std::to_string(i);
    const std::vector<std::string> used(devices.begin(),
                                        devices.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    mounts.push_back(std::make_unique<KernelMount>(**tree, used, point));
    if (!mounts.back()->failure().empty()) {
      std::printf("no kernel view: %s\n", mounts.back()->failure().c_str());
      ASSERT_TRUE(KernelKnownToLackErofs()) << mounts.back()->failure();
      return;
    }
    lower = point + (lower.empty() ? "" : ":" + lower);
  }
  const auto merged = layers.Build(kOptions);
  ASSERT_TRUE(merged.has_value());
  const KernelMount whole(**merged, devices, layers.folder() + "/whole");
  ASSERT_EQ(whole.failure(), "");
  const std::string point = layers.folder() + "/stacked";
  ASSERT_EQ(::mkdir(point.c_str(), 0700), 0);
  ASSERT_EQ(::mount("overlay", point.c_str(), "overlay", MS_RDONLY, ("lowerdir=" + lower).c_str()),
            0)
      << std::strerror(errno);
  std::map<std::string, std::string> stacked;
  List(point, "", &stacked);
  ::umount2(point.c_str(), MNT_DETACH);
  std::map<std::string, std::string> want;
  List(layers.folder() + "/whole", "", &want);
  EXPECT_GT(want.size(), 3000u);
  EXPECT_EQ(stacked, want);
}

}  // namespace
}  // namespace lamina::testing
