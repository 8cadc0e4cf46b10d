#include "fetch/local_source.h"

#include <algorithm>

#include "base/text.h"
#include "fetch/reference.h"

namespace lamina {
namespace {

constexpr size_t kMaxListed = 20;  // tags in a message

}  // namespace

std::string TagOfRefName(std::string_view ref_name) {
  if (IsValidTag(ref_name)) return std::string(ref_name);
  const auto reference = Reference::Parse(ref_name);
  return reference ? reference->tag_or_latest() : "";
}

Error AmbiguousName(const std::string& source, std::string_view name, const Digest& one,
                    const Digest& other) {
  return Error{Code::kInvalid, source + ": " + Quote(name) + " stands for both " + one.ToString() +
                                   " and " + other.ToString()};
}

Error NoSuchTag(const std::string& source, std::string_view tag,
                const std::vector<std::string>& tags) {
  std::string known;
  for (size_t i = 0; i < std::min(tags.size(), kMaxListed); ++i)
    known += (i == 0 ? "" : ", ") + EscapeControl(tags[i]);
  if (tags.size() > kMaxListed) known += ", …";
  return Error{Code::kNotFound,
               source + " has no tag " + Quote(tag) + (tags.empty() ? "" : "; it has " + known)};
}

}  // namespace lamina
