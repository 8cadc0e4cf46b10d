#pragma once

// Paths of tar entries: cleaned lexically inside the layer's root, and the whiteout names of AUFS
// that images use. Pure functions; any thread.

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

// Components of the path with "", "." and ".." taken out; ".." at the root stays there. Views into
// `path`.
std::vector<std::string_view> CleanPath(std::string_view path);
std::string JoinPath(std::span<const std::string_view> components);

enum class NameKind {
  kPlain,
  kWhiteout,         // .wh.NAME: NAME is deleted from the layers below
  kOpaque,           // .wh..wh..opq: the folder it is in hides what the layers below have in it
  kInvalidWhiteout,  // .wh. alone or of "." or ".."
};
// `*hidden` is the NAME of a whiteout.
NameKind ClassifyName(std::string_view name, std::string_view* hidden);

}  // namespace lamina
