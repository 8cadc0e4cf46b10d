#include "cmd/image_output.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/clock.h"
#include "base/text.h"
#include "cmd/tar_writer.h"
#include "overlay/tree_walk.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr size_t kPieceBytes = 1 << 20;
constexpr std::chrono::seconds kReadBound{60};  // for one piece

const char* TypeName(EntryType type) {
  switch (type) {
    case EntryType::kRegular:
      return "file";
    case EntryType::kDirectory:
      return "directory";
    case EntryType::kSymlink:
      return "symlink";
    case EntryType::kCharDevice:
      return "character device";
    case EntryType::kBlockDevice:
      return "block device";
    case EntryType::kFifo:
      return "fifo";
    case EntryType::kSocket:
      return "socket";
    case EntryType::kHardlink:
      break;
  }
  return "unknown";
}

bool IsDevice(EntryType type) {
  return type == EntryType::kCharDevice || type == EntryType::kBlockDevice;
}

bool IsUtf8(std::string_view text) {
  try {
    (void)Json(text).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// JSON knows no other text than UTF-8; the bytes of other names stand beside in hexadecimal.
void PutText(Json* json, const std::string& key, std::string_view text) {
  (*json)[key] = text;
  if (IsUtf8(text)) return;
  (*json)[key + "_hex"] = ToHex(text);
}

Result<Json> Describe(const Tree& tree, const WalkedEntry& entry) {
  const TreeAttr& attr = entry.attr;
  Json json{{"type", TypeName(attr.type)},
            {"mode", fmt::format("{:04o}", attr.mode)},
            {"uid", attr.uid},
            {"gid", attr.gid},
            {"size", attr.size},
            {"mtime", Rfc3339(attr.mtime_s * 1'000'000'000 + attr.mtime_ns)},
            {"links", attr.nlink},
            {"inode", attr.nid},
            {"depth", entry.depth},
            {"last", entry.last}};
  PutText(&json, "path", entry.path);
  if (attr.type == EntryType::kSymlink) {
    ASSIGN_OR_RETURN(const std::string target, tree.ReadLink(attr.nid));
    PutText(&json, "target", target);
  }
  if (IsDevice(attr.type)) json["device"] = {attr.device_major, attr.device_minor};
  return json;
}

// The stretches of a regular file that hold data; all of it as one where there are too many.
Result<std::vector<DataStretch>> StretchesOf(const Tree& tree, const TreeAttr& attr) {
  constexpr size_t kMost = 100'000;
  std::vector<DataStretch> stretches;
  for (uint64_t at = 0; at < attr.size;) {
    const auto data = tree.Seek(attr.nid, at, /*hole=*/false);
    if (!data && data.error().code == Code::kNotFound) break;
    if (!data) return data.error();
    ASSIGN_OR_RETURN(const uint64_t hole, tree.Seek(attr.nid, *data, /*hole=*/true));
    stretches.push_back({*data, hole - *data});
    if (stretches.size() > kMost) return std::vector<DataStretch>{{0, attr.size}};
    at = hole;
  }
  return stretches;
}

// Hands a file's bytes from `offset` to `end` on, piece by piece.
Status Pump(const ImagePlace& place, uint64_t offset, uint64_t end, std::vector<uint8_t>& buffer,
            const ByteSink& out) {
  buffer.resize(kPieceBytes);
  while (offset < end) {
    const MutableByteSpan piece(buffer.data(), std::min<uint64_t>(buffer.size(), end - offset));
    ASSIGN_OR_RETURN(const size_t got, place.image.ReadFile(place.mounted, place.nid, offset, piece,
                                                            Deadline::After(kReadBound)));
    if (got == 0) return Error{Code::kCorrupt, "a file ends before its size"};
    RETURN_IF_ERROR(out(piece.first(got)));
    offset += got;
  }
  return {};
}

class TarOutput {
 public:
  TarOutput(const ImagePlace& place, std::string name, TarWriter& writer,
            const std::function<bool(uint64_t, uint64_t)>& progress)
      : place_(place), name_(std::move(name)), writer_(writer), progress_(progress) {}

  Status Run() {
    const Tree& tree = place_.mounted.tree();
    constexpr size_t kAll = SIZE_MAX;
    RETURN_IF_ERROR(WalkTree(tree, place_.nid, kAll, [&](const WalkedEntry& entry) -> Status {
      if (entry.attr.type == EntryType::kRegular) all_ += entry.attr.size;
      return {};
    }));
    return WalkTree(tree, place_.nid, kAll, [&](const WalkedEntry& entry) { return Add(entry); });
  }

 private:
  Status Add(const WalkedEntry& entry) {
    const std::string path = entry.path.empty() ? name_ : name_ + "/" + std::string(entry.path);
    Status added = AddAs(entry, path);
    return added ? std::move(added) : std::move(added).error().Within(Quote(path));
  }

  Status AddAs(const WalkedEntry& entry, const std::string& path) {
    const TreeAttr& attr = entry.attr;
    const Tree& tree = place_.mounted.tree();
    TarMember member{.path = path, .attr = attr};
    const bool linked = attr.type != EntryType::kDirectory && attr.nlink > 1;
    if (linked) {
      const auto [first, is_new] = first_names_.try_emplace(attr.nid, path);
      if (!is_new) {
        member.hard_link = first->second;
        if (attr.type == EntryType::kRegular) done_ += attr.size;
        return writer_.Add(member);
      }
    }
    if (attr.type == EntryType::kSymlink) {
      ASSIGN_OR_RETURN(member.target, tree.ReadLink(attr.nid));
    }
    RETURN_IF_ERROR(tree.ForEachXattr(attr.nid, [&](std::string_view name, std::string_view value) {
      member.xattrs.emplace_back(name, value);
      return true;
    }));
    if (attr.type != EntryType::kRegular) return writer_.Add(member);
    ASSIGN_OR_RETURN(member.data, StretchesOf(tree, attr));
    RETURN_IF_ERROR(writer_.Add(member));
    return AddBytes(member);
  }

  Status AddBytes(const TarMember& member) {
    const ImagePlace file{place_.image, place_.mounted, member.attr.nid};
    const uint64_t before = done_;
    uint64_t written = 0;
    for (const DataStretch& stretch : member.data) {
      RETURN_IF_ERROR(writer_.WriteZeros(stretch.offset - written));
      RETURN_IF_ERROR(
          Pump(file, stretch.offset, stretch.offset + stretch.length, buffer_, [&](ByteSpan bytes) {
            done_ += bytes.size();
            return WriteBytes(bytes);
          }));
      written = stretch.offset + stretch.length;
    }
    RETURN_IF_ERROR(writer_.WriteZeros(member.attr.size - written));
    done_ = before + member.attr.size;
    return {};
  }

  Status WriteBytes(ByteSpan bytes) {
    if (!progress_(done_, all_))
      return Error{Code::kCancelled, "nobody waits for the files any more"};
    return writer_.Write(bytes);
  }

  const ImagePlace place_;
  const std::string name_;
  TarWriter& writer_;
  const std::function<bool(uint64_t, uint64_t)>& progress_;
  std::map<Nid, std::string> first_names_;  // of files with several
  std::vector<uint8_t> buffer_;
  uint64_t done_ = 0;
  uint64_t all_ = 0;
};

}  // namespace

Status WriteFileBytes(const ImagePlace& place, const ByteSink& out) {
  ASSIGN_OR_RETURN(const TreeAttr attr, place.mounted.tree().Stat(place.nid));
  if (attr.type != EntryType::kRegular)
    return Error{Code::kInvalid, fmt::format("it is a {} and no file", TypeName(attr.type))};
  std::vector<uint8_t> buffer;
  return Pump(place, 0, attr.size, buffer, out);
}

Status WriteListing(const Tree& tree, Nid start, size_t max_depth, const ByteSink& out) {
  std::string lines;
  const auto flush = [&]() -> Status {
    const Status written = out(AsBytes(lines));
    lines.clear();
    return written;
  };
  RETURN_IF_ERROR(WalkTree(tree, start, max_depth, [&](const WalkedEntry& entry) -> Status {
    ASSIGN_OR_RETURN(const Json json, Describe(tree, entry));
    lines += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    return lines.size() < kPieceBytes / 4 ? Status() : flush();
  }));
  return lines.empty() ? Status() : flush();
}

Status WriteTar(const ImagePlace& place, const std::string& name,
                const std::function<bool(uint64_t, uint64_t)>& progress, const ByteSink& out) {
  ASSIGN_OR_RETURN(const auto writer, TarWriter::Begin(out));
  RETURN_IF_ERROR(TarOutput(place, name, *writer, progress).Run());
  return writer->Finish();
}

}  // namespace lamina
