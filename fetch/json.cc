#include "fetch/json.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// The first of two passes: judges, and builds nothing. The second one, which builds, then meets
// neither great depth nor double keys.
class Checker final : public nlohmann::json_sax<Json> {
 public:
  Checker(int depth, std::string_view name) : limit_(depth), name_(name) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return Enter();
  }
  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    return Fail(Code::kInvalid, "it has the key " + Quote(key) + " twice in one object");
  }
  bool end_object() override {
    keys_.pop_back();
    return Leave();
  }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    return Fail(Code::kInvalid, "it is not JSON (error at byte " + std::to_string(position) + ")");
  }

  const std::optional<Error>& error() const { return error_; }

 private:
  bool Enter() {
    if (++depth_ <= limit_) return true;
    return Fail(Code::kLimit, "its JSON nests deeper than the limit of " + std::to_string(limit_));
  }
  bool Leave() {
    --depth_;
    return true;
  }
  bool Fail(Code code, const std::string& reason) {
    error_ = Error{code, std::string(name_) + ": " + reason};
    return false;
  }

  const int limit_;
  const std::string_view name_;
  int depth_ = 0;
  std::vector<std::set<std::string>> keys_;  // of each object that is open
  std::optional<Error> error_;
};

}  // namespace

Result<Json> ParseJson(std::string_view bytes, int depth, std::string_view name) {
  try {
    Checker checker(depth, name);
    const bool sound = Json::sax_parse(bytes.begin(), bytes.end(), &checker);
    if (checker.error()) return *checker.error();
    if (!sound) return Error{Code::kInvalid, std::string(name) + ": it is not JSON"};
    return Json::parse(bytes.begin(), bytes.end(), nullptr, /*allow_exceptions=*/false);
  } catch (const std::exception& failure) {
    return Error{Code::kInternal,
                 std::string(name) + ": cannot be read as JSON: " + failure.what()};
  }
}

Result<JsonObject> JsonObject::Of(const Json& value, std::initializer_list<std::string_view> known,
                                  std::string where) {
  if (!value.is_object()) return Error{Code::kInvalid, where + ": it is not a JSON object"};
  for (const auto& member : value.items()) {
    const std::string& key = member.key();
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string folded = FoldJsonKey(key);
    for (const std::string_view name : known)
      if (folded == FoldJsonKey(name))
        return Error{Code::kInvalid, where + ": key " + Quote(key) + " stands where '" +
                                         std::string(name) + "' is meant"};
  }
  return JsonObject(&value, std::move(where));
}

Error JsonObject::Bad(std::string_view key, std::string_view problem) const {
  return Error{Code::kInvalid, where_ + ": '" + std::string(key) + "' " + std::string(problem)};
}

bool JsonObject::Has(std::string_view key) const { return value_->find(key) != value_->end(); }

const Json* JsonObject::Find(std::string_view key) const {
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

Result<const Json*> JsonObject::FindArray(std::string_view key) const {
  const Json* value = Find(key);
  if (value != nullptr && !value->is_array()) return Bad(key, "is not an array");
  return value;
}

Result<std::optional<std::string>> JsonObject::FindString(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return Bad(key, "is not a string");
  return std::optional<std::string>(value->get_ref<const std::string&>());
}

Result<std::vector<std::string>> JsonObject::FindStrings(std::string_view key) const {
  ASSIGN_OR_RETURN(const Json* array, FindArray(key));
  std::vector<std::string> out;
  if (array == nullptr) return out;
  for (const Json& value : *array) {
    if (!value.is_string()) return Bad(key, "holds something else than strings");
    out.push_back(value.get_ref<const std::string&>());
  }
  return out;
}

Result<std::map<std::string, std::string>> JsonObject::FindStringMap(std::string_view key) const {
  std::map<std::string, std::string> out;
  const Json* object = Find(key);
  if (object == nullptr) return out;
  if (!object->is_object()) return Bad(key, "is not an object");
  for (const auto& member : object->items()) {
    if (!member.value().is_string()) return Bad(key, "holds something else than strings");
    out.emplace(member.key(), member.value().get_ref<const std::string&>());
  }
  return out;
}

Result<std::string> JsonObject::String(std::string_view key) const {
  ASSIGN_OR_RETURN(std::optional<std::string> value, FindString(key));
  if (!value) return Bad(key, "is missing");
  return *std::move(value);
}

Result<uint64_t> JsonObject::Size(std::string_view key) const {
  const Json* value = Find(key);
  if (value == nullptr) return Bad(key, "is missing");
  if (!value->is_number_unsigned()) return Bad(key, "is not an integer of at least 0");
  const auto size = value->get<uint64_t>();
  if (size > uint64_t{std::numeric_limits<int64_t>::max()}) return Bad(key, "is too large");
  return size;
}

}  // namespace lamina
