#include "cmd/config_file.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "base/text.h"

namespace lamina {

std::string SectionOf(const CLI::App& command) {
  const CLI::App* group = command.get_parent();
  const bool nested = group != nullptr && group->get_parent() != nullptr;
  return nested ? group->get_name() + "." + command.get_name() : command.get_name();
}

namespace {

using Items = std::vector<CLI::ConfigItem>;

// [cache] is no command: its keys are those of all commands.
void FlattenCache(CLI::ConfigItem& item) {
  if (item.parents != std::vector<std::string>{"cache"}) return;
  item.parents.clear();
  if (item.name != "gc-after") item.name = "cache-" + item.name;
}

Result<Items> ReadItems(const std::string& path) {
  try {
    Items items = CLI::ConfigTOML().from_file(path);
    // CLI11's marks of where a section begins and ends.
    std::erase_if(items, [](const auto& item) { return item.name == "++" || item.name == "--"; });
    for (CLI::ConfigItem& item : items) FlattenCache(item);
    return items;
  } catch (const CLI::Error& failure) {
    return Error{Code::kInvalid, failure.what()};
  }
}

bool HasKey(const CLI::App& command, const std::string& key) {
  return key != "config" && key != "help" && command.get_option_no_throw("--" + key) != nullptr;
}

// "mount" of [mount], "tags.ls" of [tags.ls]; empty at the top of the file.
std::string SectionOfItem(const CLI::ConfigItem& item) {
  return fmt::format("{}", fmt::join(item.parents, "."));
}

// All that can be run: `mount`, `tags ls`.
std::vector<const CLI::App*> AllCommands(const CLI::App& app) {
  const auto any = [](const CLI::App*) { return true; };
  std::vector<const CLI::App*> commands;
  for (const CLI::App* command : app.get_subcommands(any)) {
    const auto below = command->get_subcommands(any);
    if (below.empty()) commands.push_back(command);
    commands.insert(commands.end(), below.begin(), below.end());
  }
  return commands;
}

// The commands that an item speaks of: one, or all where it stands at the top.
std::vector<const CLI::App*> CommandsOf(const CLI::App& app, const CLI::ConfigItem& item) {
  std::vector<const CLI::App*> commands = AllCommands(app);
  const std::string section = SectionOfItem(item);
  if (!section.empty())
    std::erase_if(commands,
                  [&](const CLI::App* command) { return SectionOf(*command) != section; });
  return commands;
}

bool IsOfRegistry(const CLI::ConfigItem& item) {
  return item.parents.size() > 1 && item.parents.front() == "registry";
}

// [registry."docker.io"]: CLI11 has cut the host at its dots, with the quotes still on.
std::string HostOf(const CLI::ConfigItem& item) {
  const std::vector<std::string> parts(item.parents.begin() + 1, item.parents.end());
  std::string host = fmt::format("{}", fmt::join(parts, "."));
  const bool quoted = host.size() > 1 && (host.front() == '"' || host.front() == '\'') &&
                      host.back() == host.front();
  return quoted ? host.substr(1, host.size() - 2) : host;
}

// The option that a key of a registry's section stands for; empty where it is none.
std::string RegistryOptionOf(const CLI::ConfigItem& item) {
  if (item.name == "strict") return "strict-registry";
  const bool known =
      item.name == "tag-ttl" || item.name == "negative-ttl" || item.name == "connections";
  return known ? "registry-" + item.name : "";
}

// The argument that one of its values makes; empty where it asks for nothing.
std::string RegistryArgument(const CLI::ConfigItem& item, const std::string& value) {
  const std::string option = RegistryOptionOf(item);
  if (item.name != "strict") return fmt::format("--{}={}={}", option, HostOf(item), value);
  return value == "true" ? fmt::format("--{}={}", option, HostOf(item)) : "";
}

Status CheckValues(const CLI::ConfigItem& item) {
  for (const std::string& value : item.inputs)
    if (value.empty() || value.front() == '"' || value.front() == '\'')
      return Error{Code::kInvalid,
                   Quote(item.fullname()) + " has an empty value or a quote without an end"};
  return {};
}

Status Check(const CLI::App& app, const CLI::ConfigItem& item) {
  if (IsOfRegistry(item)) {
    if (RegistryOptionOf(item).empty())
      return Error{Code::kInvalid, Quote(item.fullname()) + " is no option of a registry"};
    RETURN_IF_ERROR(CheckValues(item));
    for (const std::string& value : item.inputs)
      if (item.name == "strict" && value != "true" && value != "false")
        return Error{Code::kInvalid, Quote(item.fullname()) + " is neither true nor false"};
    return {};
  }
  const auto commands = CommandsOf(app, item);
  if (commands.empty())
    return Error{Code::kInvalid,
                 fmt::format("there is no command for the section of {}", Quote(item.fullname()))};
  if (std::none_of(commands.begin(), commands.end(),
                   [&](const CLI::App* command) { return HasKey(*command, item.name); }))
    return Error{Code::kInvalid, Quote(item.fullname()) + " is no option of a command"};
  return CheckValues(item);
}

}  // namespace

Result<std::vector<std::string>> ConfigArguments(const CLI::App& app, const CLI::App& command,
                                                 const std::string& path) {
  ASSIGN_OR_RETURN(const Items items, ReadItems(path));
  const std::string section = SectionOf(command);
  std::set<std::string> in_section;
  for (const CLI::ConfigItem& item : items) {
    RETURN_IF_ERROR(Check(app, item));
    if (SectionOfItem(item) == section) in_section.insert(item.name);
  }
  std::vector<std::string> arguments;
  for (const CLI::ConfigItem& item : items) {
    if (IsOfRegistry(item)) {
      const std::string option = RegistryOptionOf(item);
      if (HasKey(command, option))
        for (const std::string& value : item.inputs)
          if (std::string argument = RegistryArgument(item, value); !argument.empty())
            arguments.push_back(std::move(argument));
      continue;
    }
    const bool other_section = !item.parents.empty() && SectionOfItem(item) != section;
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
