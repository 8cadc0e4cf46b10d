#include "index/xattr_filter.h"

namespace lamina {

XattrFate FateOfXattr(std::string_view name, EntryType type) {
  constexpr std::string_view kUser = "user.";
  constexpr size_t kNameLimit = 255;  // XATTR_NAME_MAX
  if (name == "security.capability") return XattrFate::kKeep;
  if (!name.starts_with(kUser) || name.starts_with("user.overlay.")) return XattrFate::kDrop;
  // The kernel has user.* on regular files and directories only.
  const bool may_have = type == EntryType::kRegular || type == EntryType::kDirectory;
  if (!may_have || name.size() == kUser.size() || name.size() > kNameLimit ||
      name.find('\0') != std::string_view::npos)
    return XattrFate::kDropWarning;
  return XattrFate::kKeep;
}

}  // namespace lamina
