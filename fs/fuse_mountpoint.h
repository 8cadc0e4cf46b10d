#pragma once

// Mount points: what is mounted where, and taking it away. Any thread; blocks on the kernel only.

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace lamina {

// The uppermost mount at a path, as /proc/self/mountinfo has it.
struct MountFacts {
  std::string type;    // "fuse.lamina"
  std::string device;  // "0:52"
};
constexpr const char* kMountType = "fuse.lamina";

// `path` is absolute and without symbolic links; nullopt where nothing is mounted at it.
Result<std::optional<MountFacts>> MountAt(const std::string& path);

// Makes the mount point ready and returns its absolute path: a missing folder is made, what a
// killed lamina left behind is detached. kInvalid where it is no folder or a living lamina serves
// it.
Result<std::string> PrepareMountpoint(const std::string& path);

// The absolute path, without symbolic links, of the lamina mounted at `path`, alive or dead;
// kNotFound where there is none.
Result<std::string> FindLamina(const std::string& path);

// Unmounts the lamina at `path`; kNotFound where there is none. With `lazy`, one that is in use
// goes as soon as it is not.
Status UnmountLamina(const std::string& path, bool lazy);

}  // namespace lamina
