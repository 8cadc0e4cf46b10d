#pragma once

// TOML files of other programs, by toml++. Its header is large: for .cc files alone. Any thread.

#include <fmt/core.h>

#include <toml++/toml.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace lamina {

// `name` is for the message of the error, which tells the line.
inline Result<toml::table> ParseToml(std::string_view text, const std::string& name) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& failure) {
    return Error{Code::kInvalid, fmt::format("{}: line {}: {}", name, failure.source().begin.line,
                                             failure.description())};
  }
}

// What configuration files say together, by Parsed::Add() of each: they stand before those that
// win over them, and those that are not there are left out. A file that is wrong is an error that
// names it.
template <typename Parsed>
Result<Parsed> ReadConfFiles(const std::vector<std::string>& files) {
  constexpr uint64_t kMostBytes = 1u << 20;
  Parsed parsed;
  for (const std::string& file : files) {
    const auto text = ReadWholeFile(file, kMostBytes);
    if (!text && text.error().code == Code::kNotFound) continue;
    if (!text) return text.error();
    RETURN_IF_ERROR(parsed.Add(*text, file));
  }
  return parsed;
}

// A key that is true or false; false where it is not there. `where` is for the message.
inline Result<bool> FlagOf(const toml::table& table, const char* key, const std::string& where) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return false;
  if (const auto flag = node->value_exact<bool>()) return *flag;
  return Error{Code::kInvalid, fmt::format("{}: {} is neither true nor false", where, key)};
}

}  // namespace lamina
