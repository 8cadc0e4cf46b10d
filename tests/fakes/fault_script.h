#pragma once

// The faults that a scripted registry plays, one an answer: what servers, proxies and object stores
// do to clients. Pure functions on values; any thread.

#include <array>
#include <optional>
#include <string_view>

#include "tests/fakes/http_server.h"

namespace lamina::fakes {

enum class Fault {
  // Odd, and right all the same.
  kChunked,
  kCloseAfter,
  kContinueFirst,
  kGzipLabel,
  kWholeForRange,
  kMultipart,
  kRelativeRedirect,
  kForeignRedirect,
  // The server or the network fails.
  k408,
  k429,
  k429Seconds,
  k500,
  k502,
  k503,
  k503Date,
  k504,
  kCloseBefore,
  kReset,
  kCutInHead,
  kCutInBody,
  kResetInBody,
  kChunkedCut,
  kSilent,
  kSilentInBody,
  kDribble,
  // The bytes are not the ones that were asked for.
  kWrongByte,
  kShortBody,
  kLongBody,
  kEmpty200,
  kLengthTooSmall,
  kLengthTooLarge,
  kWrongDigestHeader,
  kRangeStart,
  kRangeEnd,
  kRangeTotal,
  kRangeUnit,
  kRangeStar,
  kRangeMissing,
  kOtherRange,
  kMultipartBroken,
  // Authorisation ends on the way.
  kTokenEnded,
  kSignatureEnded,
  kGarbage,
  // Nothing that is said again is said otherwise.
  kHugeHeaders,
  kRedirectLoop,
  kRedirectToPlain,
  k304,
  k404,
  k416,
};
constexpr size_t kFaults = static_cast<size_t>(Fault::k416) + 1;

std::string_view FaultName(Fault fault);

// What a request is for.
enum class Asked {
  kToken,
  kDocument,    // a manifest or config
  kLayer,       // bytes of a layer, from the registry or from where it redirects to
  kLayerPlace,  // the registry redirects layers elsewhere
};

// Can this fault be played on such a request? `elsewhere`: on the server that is redirected to.
bool Applies(Fault fault, Asked asked, const FakeRequest& request, bool elsewhere);

// How a client is to take it, by the specification and the project's promises.
enum class Effect {
  kNone,     // the answer is right
  kAgain,    // asking again helps
  kLasting,  // the client may give up at once, with an error
};
Effect EffectOf(Fault fault);

// `good` with this fault, for all faults that need to know no more than the answer. `elsewhere` is
// the URL of the same content on another server.
FakeResponse WithFault(Fault fault, const FakeRequest& request, FakeResponse good,
                       const std::string& elsewhere);

}  // namespace lamina::fakes
