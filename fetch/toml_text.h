#pragma once

// TOML files of other programs, by toml++. Its header is large: for .cc files alone. Any thread.

#include <fmt/core.h>

#include <toml++/toml.h>

#include <string>
#include <string_view>

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

}  // namespace lamina
