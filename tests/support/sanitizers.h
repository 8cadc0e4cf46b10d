#pragma once

// What this program was built with, for tests whose work must be less, or whose times longer, where
// every memory access costs ten.

namespace lamina::testing {

#ifdef __SANITIZE_THREAD__
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

}  // namespace lamina::testing
