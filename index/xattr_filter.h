#pragma once

// Which xattrs of an image are shown. Pure function; any thread.

#include <string_view>

#include "base/result.h"
#include "index/tar.h"

namespace lamina {

enum class XattrFate {
  kKeep,
  kDrop,         // by rule: overlayfs's own, labels of another host, ACLs
  kDropWarning,  // because no Linux file could have it
};

// `user.*` and `security.capability` pass, save `user.overlay.*`, which would mean something to an
// overlayfs that a user stacks on the mount.
XattrFate FateOfXattr(std::string_view name, EntryType type);

}  // namespace lamina
