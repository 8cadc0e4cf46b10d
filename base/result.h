#pragma once

// Result<T>: a value or an Error. The member names are those of std::expected, which the oldest
// compiler served (g++ 12 in C++20) does not have. Own code throws nothing; every function that can
// fail returns one of these. Immutable once returned; safe to read from any thread.

#include <cassert>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace lamina {

// Chosen by what the caller does next. ToErrno() in base/errno.h is the one table to errno.
enum class Code {
  kNotFound,     // the name does not exist: tell the user, do not retry
  kInvalid,      // the input breaks a rule or a specification: refuse it
  kLimit,        // the input exceeds a configured limit: refuse it, name limit and value
  kCorrupt,      // bytes do not match their digest or checksum: drop them, fetch again
  kUnsupported,  // a valid thing that lamina does not read: say what it is
  kDenied,       // credentials are missing, wrong or expired: ask for others
  kUnavailable,  // the source cannot be reached or failed: retry later or elsewhere
  kTimeout,      // a bound passed while waiting: retry later
  kIo,           // local disk or kernel failed
  kNoSpace,      // local disk takes no more: it is full, or read-only
  kCancelled,    // the caller went away or the daemon is stopping
  kInternal,     // a bug of ours
};

const char* CodeName(Code code);

struct Error {
  Code code = Code::kInternal;
  std::string message;  // one sentence without a full stop: names the thing and the reason

  // The same error with `context: ` in front, for callers that know more.
  Error Within(std::string_view context) const;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace lamina

// RETURN_IF_ERROR(expr): leaves the function with the error of a Result, if it has one.
#define RETURN_IF_ERROR(expr)                                    \
  do {                                                           \
    if (auto lamina_status = (expr); !lamina_status.has_value()) \
      return std::move(lamina_status).error();                   \
  } while (false)

#define LAMINA_CONCAT_INNER(a, b) a##b
#define LAMINA_CONCAT(a, b) LAMINA_CONCAT_INNER(a, b)

// ASSIGN_OR_RETURN(auto x, expr): x is the value, or the function is left with the error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(LAMINA_CONCAT(lamina_result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr)          \
  auto tmp = (expr);                                   \
  if (!tmp.has_value()) return std::move(tmp).error(); \
  lhs = std::move(tmp).value()
