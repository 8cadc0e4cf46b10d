#pragma once

// The one place where errno and Code meet. Pure functions; any thread.

#include <string_view>

#include "base/result.h"

namespace lamina {

// For data: every failure to deliver verified bytes is EIO, except what the user can act on.
int ToErrno(Code code);

// For names (lookup, readdir): a source that cannot be reached is ETIMEDOUT, a missing name ENOENT.
int ToNameErrno(Code code);

// For changes of names: what breaks a rule is EINVAL, what nobody may change EROFS, a circle ELOOP,
// and the rest as for names.
int ToChangeErrno(Code code);

// An Error of a failed system call: "<what>: <strerror>", with the code that fits `err`.
Error ErrnoError(int err, std::string_view what);

}  // namespace lamina
