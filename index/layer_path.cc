#include "index/layer_path.h"

#include "base/text.h"

namespace lamina {

std::vector<std::string_view> CleanPath(std::string_view path) {
  std::vector<std::string_view> components;
  for (const std::string_view part : Split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..")
      components.push_back(part);
    else if (!components.empty())
      components.pop_back();
  }
  return components;
}

std::string JoinPath(std::span<const std::string_view> components) {
  std::string path;
  for (const std::string_view component : components) {
    if (!path.empty()) path += '/';
    path += component;
  }
  return path;
}

NameKind ClassifyName(std::string_view name, std::string_view* hidden) {
  constexpr std::string_view kPrefix = ".wh.";
  if (!name.starts_with(kPrefix)) return NameKind::kPlain;
  if (name == ".wh..wh..opq") return NameKind::kOpaque;
  *hidden = name.substr(kPrefix.size());
  // Other names of AUFS's own (.wh..wh.plnk and the like) are ordinary files everywhere.
  if (hidden->starts_with(kPrefix)) return NameKind::kPlain;
  if (hidden->empty() || *hidden == "." || *hidden == "..") return NameKind::kInvalidWhiteout;
  return NameKind::kWhiteout;
}

}  // namespace lamina
