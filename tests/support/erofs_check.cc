#include "tests/support/erofs_check.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/file.h"

namespace lamina::testing {

std::string OutputOf(const std::vector<std::string>& command) {
  std::string line;
  for (const std::string& word : command) line += "'" + word + "' ";
  FILE* pipe = ::popen((line + "2>&1").c_str(), "r");
  if (pipe == nullptr) return "cannot run " + line;
  std::string output;
  char buffer[4096];
  for (size_t got; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    output.append(buffer, got);
  ::pclose(pipe);
  return output;
}

std::string FsckComplaints(const Tree& tree, const std::string& folder,
                           std::vector<std::string> devices) {
  for (uint32_t device = static_cast<uint32_t>(devices.size()); device < tree.device_count();
       ++device) {
    const std::string path = folder + "/fsck-device" + std::to_string(device);
    if (!WriteFileAtomically(path, {}) ||
        ::truncate(path.c_str(), static_cast<off_t>(tree.device_bytes(device))) != 0)
      return "cannot make " + path;
    devices.push_back(path);
  }
  // Silent about success at its usual level.
  std::vector<std::string> command = {"fsck.erofs", "-d9"};
  for (const std::string& device : devices) command.push_back("--device=" + device);
  command.push_back(tree.path());
  const std::string output = OutputOf(command);
  if (output.find("No errors found") != std::string::npos &&
      output.find("<E>") == std::string::npos)
    return "";
  constexpr size_t kTail = 2000;
  return "fsck.erofs: " + output.substr(output.size() - std::min(output.size(), kTail));
}

}  // namespace lamina::testing
