#pragma once

// Reading JSON that comes from elsewhere: bounded depth, no exception leaves, and no document that
// two readers could understand differently. Beyond the grammar these are refused: an object with
// the same key twice, and a key that differs from a known one only in case (Go's readers would take
// it for that one). For fetch and the documents of fs. Pure functions; any thread.

#include <cstdint>
#include <initializer_list>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

// `name` is for messages. kLimit where arrays and objects nest deeper than `depth`.
Result<nlohmann::json> ParseJson(std::string_view bytes, int depth, std::string_view name);

// One object, read by its members' names. A member that is null counts as absent, as in Go. The
// value must outlive this.
class JsonObject {
 public:
  // `known` are all members that the caller may ask for. kInvalid where `value` is no object, or
  // has a key that is one of `known` in another case. `where` is for messages.
  static Result<JsonObject> Of(const nlohmann::json& value,
                               std::initializer_list<std::string_view> known, std::string where);

  // Does the key stand there, be it with null?
  bool Has(std::string_view key) const;
  // Null where the member is absent; kInvalid where it is not of the type.
  const nlohmann::json* Find(std::string_view key) const;
  Result<const nlohmann::json*> FindArray(std::string_view key) const;
  Result<std::optional<std::string>> FindString(std::string_view key) const;
  Result<std::vector<std::string>> FindStrings(std::string_view key) const;  // an array of them
  Result<std::map<std::string, std::string>> FindStringMap(std::string_view key) const;

  // kInvalid where the member is absent, too.
  Result<std::string> String(std::string_view key) const;
  // An integer from 0 to 2^63-1, written without fraction or exponent.
  Result<uint64_t> Size(std::string_view key) const;

  const std::string& where() const { return where_; }
  Error Bad(std::string_view key, std::string_view problem) const;

 private:
  JsonObject(const nlohmann::json* value, std::string where)
      : value_(value), where_(std::move(where)) {}
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace lamina
