// lamina tree: a listing of an image, drawn as a tree, as lines with attributes, or as JSON.

#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/text.h"
#include "cmd/ask.h"
#include "cmd/commands.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// The text of a name as PutText() of image_output.cc wrote it.
std::string TextOf(const Json& entry, const std::string& key) {
  if (const auto hex = entry.find(key + "_hex"); hex != entry.end()) {
    const auto bytes = FromHex(hex->get<std::string>());
    if (bytes) return EscapeControl(*bytes);
  }
  return EscapeControl(entry.value(key, ""));
}

char TypeLetter(const std::string& type) {
  if (type == "directory") return 'd';
  if (type == "symlink") return 'l';
  if (type == "character device") return 'c';
  if (type == "block device") return 'b';
  if (type == "fifo") return 'p';
  return '-';
}

// "rwsr-xr-x" of "4755".
std::string PermissionText(const std::string& octal) {
  const unsigned long mode = std::strtoul(octal.c_str(), nullptr, 8);
  std::string text = "rwxrwxrwx";
  for (size_t i = 0; i < text.size(); ++i)
    if ((mode >> (8 - i) & 1) == 0) text[i] = '-';
  const auto special = [&](unsigned long bit, size_t at, char with, char without) {
    if ((mode & bit) != 0) text[at] = text[at] == 'x' ? with : without;
  };
  special(04000, 2, 's', 'S');
  special(02000, 5, 's', 'S');
  special(01000, 8, 't', 'T');
  return text;
}

std::string SizeText(const Json& entry) {
  const auto device = entry.find("device");
  if (device != entry.end())
    return fmt::format("{},{}", (*device)[0].get<uint32_t>(), (*device)[1].get<uint32_t>());
  return std::to_string(entry.value("size", uint64_t{0}));
}

// Takes bytes, gives lines of JSON.
class TreePrinter {
 public:
  TreePrinter(const TreeCommand& command, bool json) : command_(command), json_(json) {}

  Status Take(ByteSpan bytes) {
    if (json_) {
      std::fwrite(bytes.data(), 1, bytes.size(), stdout);
      return Printed();
    }
    rest_ += AsText(bytes);
    size_t from = 0;
    for (size_t end; (end = rest_.find('\n', from)) != std::string::npos; from = end + 1)
      Show(Json::parse(rest_.begin() + static_cast<std::ptrdiff_t>(from),
                       rest_.begin() + static_cast<std::ptrdiff_t>(end)));
    rest_.erase(0, from);
    return Printed();
  }

 private:
  static Status Printed() {
    if (std::ferror(stdout) == 0) return {};
    return Error{Code::kIo, "cannot write to standard output"};
  }

  void Show(const Json& entry) {
    std::string name = Branch(entry) + Name(entry);
    if (const std::string target = TextOf(entry, "target"); !target.empty())
      name += " -> " + target;
    if (command_.long_form)
      name = fmt::format("{}{} {:>3} {:>11} {:>12} {}  {}", TypeLetter(entry.value("type", "")),
                         PermissionText(entry.value("mode", "")), entry.value("links", 0),
                         fmt::format("{}/{}", entry.value("uid", 0u), entry.value("gid", 0u)),
                         SizeText(entry), entry.value("mtime", ""), name);
    std::fputs((name + "\n").c_str(), stdout);
  }

  std::string Name(const Json& entry) const {
    const std::string path = TextOf(entry, "path");
    return path.empty() ? EscapeControl(command_.path) : path.substr(path.rfind('/') + 1);
  }

  // The lines that lead to an entry: whether each directory above has more to come.
  std::string Branch(const Json& entry) {
    const size_t depth = entry.value("depth", size_t{0});
    const bool last = entry.value("last", false);
    more_.resize(depth + 1);
    more_[depth] = !last;
    if (depth == 0) return "";
    std::string lines;
    for (size_t above = 1; above < depth; ++above) lines += more_[above] ? "│   " : "    ";
    return lines + (last ? "└── " : "├── ");
  }

  const TreeCommand& command_;
  const bool json_;
  std::string rest_;  // of a line that has not ended
  std::vector<bool> more_;
};

}  // namespace

int RunTree(const CommonOptions& common, const TreeCommand& command) {
  Json request{{"command", "tree"},
               {"reference", command.reference},
               {"platform", common.platform},
               {"path_hex", ToHex(command.path)}};
  if (command.depth >= 0) request["depth"] = command.depth;
  TreePrinter printer(command, common.json);
  const auto answer = Ask(common, request, [&](ByteSpan bytes) { return printer.Take(bytes); });
  return answer ? 0 : Fail(answer.error());
}

}  // namespace lamina
