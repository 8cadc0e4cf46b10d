#include "tests/model/random_stack.h"

#include <algorithm>
#include <map>

namespace lamina::testing {
namespace {

using Type = EntrySpec::Type;

class StackMaker {
 public:
  explicit StackMaker(uint64_t seed) : random_(seed) {}

  std::vector<LayerSpec> Run() {
    std::vector<LayerSpec> stack(1 + Pick(5));
    for (LayerSpec& layer : stack) {
      own_.clear();
      const uint64_t entries = Pick(14);
      for (uint64_t i = 0; i < entries; ++i) AddEntry(&layer);
      for (const auto& [path, type] : own_)
        if (type != Type::kDirectory) files_.push_back(path);
    }
    return stack;
  }

 private:
  uint64_t Pick(uint64_t below) { return random_() % below; }
  bool Chance(uint64_t percent) { return Pick(100) < percent; }

  // '!' and '-' sort before '.', the bytes above 127 after everything: orders that EROFS is
  // particular about.
  std::string Name() {
    static const std::vector<std::string> kNames = {"a", "b", "c", "!", "-x", "\xff\x01", "Z"};
    return kNames[Pick(kNames.size())];
  }

  std::string Path() {
    std::string path = Name();
    while (path.size() < 12 && Chance(45)) path += "/" + Name();
    return path;
  }

  // A layer may not use its own file as a parent, nor may a file take the place of its own
  // directory; a directory that of its own file it may.
  bool Allowed(const std::string& path, bool directory) const {
    for (size_t slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const auto parent = own_.find(path.substr(0, slash));
      if (parent != own_.end() && parent->second != Type::kDirectory) return false;
    }
    const auto self = own_.find(path);
    return self == own_.end() || directory || self->second != Type::kDirectory;
  }

  void Claim(const std::string& path, Type type) {
    for (size_t slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1))
      own_.emplace(path.substr(0, slash), Type::kDirectory);
    own_[path] = type;
  }

  void AddEntry(LayerSpec* layer) {
    if (Chance(3)) {
      layer->push_back(Attributes({.type = Type::kDirectory, .path = "./"}));
    } else if (Chance(15)) {
      AddMarker(layer);
    } else if (Chance(15)) {
      AddHardLink(layer);
    } else {
      AddPlain(layer);
    }
  }

  void AddMarker(LayerSpec* layer) {
    const std::string path = Path();
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
    const bool opaque = Chance(30);
    const std::string marker = folder + ".wh." + (opaque ? ".wh..opq" : path.substr(folder.size()));
    if (!Allowed(marker, false)) return;
    Claim(marker, Type::kFile);
    own_.erase(marker);  // the marker is no name itself, its folders are
    layer->push_back({.path = marker});
  }

  void AddHardLink(LayerSpec* layer) {
    const std::string path = Path();
    std::vector<std::string> targets = files_;
    for (const auto& [own, type] : own_)
      if (type != Type::kDirectory) targets.push_back(own);
    if (Chance(1)) targets.push_back("nowhere");
    if (targets.empty() || !Allowed(path, false)) return;
    const std::string target = targets[Pick(targets.size())];
    if (target == path || target.starts_with(path + "/") || path.starts_with(target + "/") ||
        !Allowed(target, false))
      return;
    // Most targets of lower layers are gone or directories by now: NaiveImage tells, and the test
    // expects a refusal.
    Claim(path, Type::kFile);
    layer->push_back({.type = Type::kHardlink, .path = path, .link = target});
  }

  void AddPlain(LayerSpec* layer) {
    EntrySpec entry;
    const uint64_t kind = Pick(20);
    entry.type = kind < 9    ? Type::kFile
                 : kind < 15 ? Type::kDirectory
                 : kind < 17 ? Type::kSymlink
                 : kind < 18 ? Type::kCharDevice
                 : kind < 19 ? Type::kBlockDevice
                             : Type::kFifo;
    entry.path = Path();
    if (!Allowed(entry.path, entry.type == Type::kDirectory)) return;
    Claim(entry.path, entry.type);
    if (entry.type == Type::kFile) FillFile(&entry);
    if (entry.type == Type::kSymlink) entry.link = std::string(1 + Pick(40), 't');
    if (entry.type == Type::kCharDevice || entry.type == Type::kBlockDevice) {
      entry.major = static_cast<uint32_t>(1 + Pick(400));
      entry.minor = static_cast<uint32_t>(Pick(70000));
    }
    layer->push_back(Attributes(std::move(entry)));
  }

  void FillFile(EntrySpec* entry) {
    if (!Chance(10)) {
      const uint64_t size = Chance(20) ? 0 : Chance(20) ? 4000 + Pick(10000) : Pick(30);
      entry->content = std::string(size, static_cast<char>('a' + Pick(26)));
      return;
    }
    entry->sparse_size = 1 + Pick(200'000);
    for (uint64_t at = Pick(30'000); at < entry->sparse_size; at += 4096 + Pick(60'000)) {
      const uint64_t length = 1 + Pick(std::min<uint64_t>(4000, entry->sparse_size - at));
      entry->sparse_data.emplace_back(at, std::string(length, static_cast<char>('a' + Pick(26))));
    }
  }

  EntrySpec Attributes(EntrySpec entry) {
    entry.mode = static_cast<uint32_t>(Pick(010000));
    entry.uid = static_cast<uint32_t>(Chance(10) ? 3'000'000'000 : Pick(3));
    entry.gid = static_cast<uint32_t>(Pick(3));
    entry.mtime_s = static_cast<int64_t>(Pick(3'000'000'000)) - (Chance(10) ? 3'000'000'000 : 0);
    entry.mtime_ns = static_cast<uint32_t>(Chance(50) ? 0 : Pick(1'000'000'000));
    // Linux keeps user.* on files and directories only.
    if (Chance(15) && (entry.type == Type::kFile || entry.type == Type::kDirectory))
      entry.xattrs["user." + Name()] = std::string(Pick(50), 'v');
    if (Chance(5) && entry.type == Type::kFile)
      entry.xattrs["security.capability"] = std::string(20, '\x01');
    return entry;
  }

  std::mt19937_64 random_;
  std::map<std::string, Type> own_;  // paths of the layer at hand
  std::vector<std::string> files_;   // paths that were files in a layer before
};

}  // namespace

std::vector<LayerSpec> RandomStack(uint64_t seed) { return StackMaker(seed).Run(); }

std::string Describe(const std::vector<LayerSpec>& stack) {
  std::string text;
  for (size_t layer = 0; layer < stack.size(); ++layer) {
    text += "layer " + std::to_string(layer) + "\n";
    for (const EntrySpec& entry : stack[layer]) {
      text += std::string("  ") + static_cast<char>(entry.type) + " " + entry.path;
      text += entry.link.empty() ? "\n" : " -> " + entry.link + "\n";
    }
  }
  return text;
}

}  // namespace lamina::testing
