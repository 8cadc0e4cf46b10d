#pragma once

// Small text helpers for messages and paths. Pure functions; any thread.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

// Control characters and invalid bytes as \xNN, so that a hostile name cannot forge a log line.
std::string EscapeControl(std::string_view text);
// Two lower-case hexadecimal digits for each byte, and back; kInvalid where the text is none.
std::string ToHex(std::string_view bytes);
Result<std::string> FromHex(std::string_view text);
// In single quotes, escaped, cut to `limit` bytes with an ellipsis.
std::string Quote(std::string_view text, size_t limit = 200);
// 1.5 MiB, 734 B.
std::string HumanSize(uint64_t bytes);
std::vector<std::string_view> Split(std::string_view text, char separator);
// 2026-11-21T10:11:12Z of nanoseconds since 1970.
std::string Rfc3339(int64_t ns);
// Nanoseconds since 1970 of an RFC 3339 time with any offset; false where it is none.
bool ParseRfc3339(std::string_view text, int64_t* ns);
// The same in two parts, which hold every such time; the nanoseconds count upwards also before
// 1970.
bool ParseRfc3339(std::string_view text, int64_t* seconds, uint32_t* nanoseconds);
// Lower case as Go's encoding/json folds keys: ASCII, and the two characters beyond it whose case
// mapping leads into it (long s and the Kelvin sign). Keys that fold to the same are one to Go.
std::string FoldJsonKey(std::string_view key);

}  // namespace lamina
