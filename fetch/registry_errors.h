#pragma once

// What the status and the body of an answer mean for the caller. Pure functions; any thread.

#include <string>
#include <string_view>

#include "base/result.h"
#include "fetch/http.h"

namespace lamina {

// Code and words, the registry's own code and message quoted among them. Whatever repeats `secret`
// (the Authorization value that was sent) is left out. The message has no context yet.
Error ErrorOfStatus(const HttpResponse& response, std::string_view secret);

// 408, 429 and what failed inside the server.
bool IsWorthRepeating(int status);

bool IsRedirect(int status);

}  // namespace lamina
