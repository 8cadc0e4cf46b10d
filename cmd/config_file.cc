#include "cmd/config_file.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "base/text.h"

namespace lamina {
namespace {

using Items = std::vector<CLI::ConfigItem>;

Result<Items> ReadItems(const std::string& path) {
  try {
    Items items = CLI::ConfigTOML().from_file(path);
    // CLI11's marks of where a section begins and ends.
    std::erase_if(items, [](const auto& item) { return item.name == "++" || item.name == "--"; });
    return items;
  } catch (const CLI::Error& failure) {
    return Error{Code::kInvalid, failure.what()};
  }
}

bool HasKey(const CLI::App& command, const std::string& key) {
  return key != "config" && key != "help" && command.get_option_no_throw("--" + key) != nullptr;
}

// The commands that an item speaks of: one, or all where it stands at the top.
std::vector<const CLI::App*> CommandsOf(const CLI::App& app, const CLI::ConfigItem& item) {
  return app.get_subcommands([&](const CLI::App* command) {
    return item.parents.empty() ||
           (item.parents.size() == 1 && item.parents.front() == command->get_name());
  });
}

Status Check(const CLI::App& app, const CLI::ConfigItem& item) {
  const auto commands = CommandsOf(app, item);
  if (commands.empty())
    return Error{Code::kInvalid,
                 fmt::format("there is no command for the section of {}", Quote(item.fullname()))};
  if (std::none_of(commands.begin(), commands.end(),
                   [&](const CLI::App* command) { return HasKey(*command, item.name); }))
    return Error{Code::kInvalid, Quote(item.fullname()) + " is no option of a command"};
  for (const std::string& value : item.inputs)
    if (value.empty() || value.front() == '"' || value.front() == '\'')
      return Error{Code::kInvalid,
                   Quote(item.fullname()) + " has an empty value or a quote without an end"};
  return {};
}

}  // namespace

Result<std::vector<std::string>> ConfigArguments(const CLI::App& app, const CLI::App& command,
                                                 const std::string& path) {
  ASSIGN_OR_RETURN(const Items items, ReadItems(path));
  std::set<std::string> in_section;
  for (const CLI::ConfigItem& item : items) {
    RETURN_IF_ERROR(Check(app, item));
    if (!item.parents.empty() && item.parents.front() == command.get_name())
      in_section.insert(item.name);
  }
  std::vector<std::string> arguments;
  for (const CLI::ConfigItem& item : items) {
    const bool other_section = !item.parents.empty() && item.parents.front() != command.get_name();
    const bool overruled = item.parents.empty() && in_section.contains(item.name);
    if (other_section || overruled || !HasKey(command, item.name) ||
        command.get_option("--" + item.name)->count() > 0)
      continue;
    for (const std::string& value : item.inputs)
      arguments.push_back(fmt::format("--{}={}", item.name, value));
  }
  return arguments;
}

}  // namespace lamina
