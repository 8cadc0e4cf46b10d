#pragma once

// The file of --config: TOML as CLI11 reads it. Keys at its top are options of every command that
// has them, those of a section [mount] or [tags.ls]
// of this command alone and win. [registry."HOST"] has the times to live of one registry. Main
// thread.

#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace lamina {

// The section of a command: "mount", "tags.ls".
std::string SectionOf(const CLI::App& command);
// What the file says as arguments for `command`, "--tag-ttl=5", without the options that its
// command line has given already. kInvalid where a key is no option of any command.
Result<std::vector<std::string>> ConfigArguments(const CLI::App& app, const CLI::App& command,
                                                 const std::string& path);

}  // namespace lamina
