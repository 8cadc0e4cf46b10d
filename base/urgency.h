#pragma once

// Who waits for a transfer. Where there is not enough of something for all (connections, memory),
// those before are served first. A value.

#include <cstdint>

namespace lamina {

enum class Urgency : uint8_t {
  kReader,  // somebody waits for just this
  kAhead,   // somebody is likely to want it soon, or has asked for an image as a whole
  kStream,  // a whole layer passes by
};

}  // namespace lamina
