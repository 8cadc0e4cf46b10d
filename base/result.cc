#include "base/result.h"

#include <string_view>

namespace lamina {

const char* CodeName(Code code) {
  switch (code) {
    case Code::kNotFound:
      return "not found";
    case Code::kInvalid:
      return "invalid";
    case Code::kLimit:
      return "limit exceeded";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kDenied:
      return "access denied";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kTimeout:
      return "timed out";
    case Code::kIo:
      return "I/O error";
    case Code::kNoSpace:
      return "no space";
    case Code::kCancelled:
      return "cancelled";
    case Code::kInternal:
      return "internal error";
  }
  return "unknown";
}

Error Error::Within(std::string_view context) const {
  return Error{code, std::string(context) + ": " + message};
}

}  // namespace lamina
