#include "base/errno.h"

#include <cerrno>
#include <string>
#include <system_error>

namespace lamina {

int ToErrno(Code code) {
  switch (code) {
    case Code::kNotFound:
      return ENOENT;
    case Code::kCancelled:
      return EINTR;
    case Code::kNoSpace:
      return ENOSPC;
    default:
      return EIO;
  }
}

int ToNameErrno(Code code) {
  switch (code) {
    case Code::kUnavailable:
    case Code::kTimeout:
      return ETIMEDOUT;
    case Code::kDenied:
      return EACCES;
    default:
      return ToErrno(code);
  }
}

int ToChangeErrno(Code code) {
  switch (code) {
    case Code::kInvalid:
      return EINVAL;
    case Code::kUnsupported:
      return EROFS;
    case Code::kLimit:
      return ELOOP;
    default:
      return ToNameErrno(code);
  }
}

Error ErrnoError(int err, std::string_view what) {
  Code code = Code::kIo;
  if (err == ENOENT || err == ENOTDIR) code = Code::kNotFound;
  if (err == ENOSPC || err == EDQUOT || err == EROFS) code = Code::kNoSpace;
  return Error{code, std::string(what) + ": " + std::generic_category().message(err)};
}

}  // namespace lamina
