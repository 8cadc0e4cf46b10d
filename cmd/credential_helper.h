#pragma once

// Credential helpers of docker and podman: programs named docker-credential-NAME that keep a user's
// passwords (https://github.com/docker/docker-credential-helpers, the `get` command). Any thread;
// blocks until the helper has answered, ten seconds at most.

#include <string>
#include <vector>

#include "base/result.h"
#include "cmd/helper_process.h"
#include "fetch/registry.h"

namespace lamina {

struct HelperPlaces {
  // Where helpers are looked for, and their PATH: never what the caller's environment says.
  std::vector<std::string> folders = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                      "/usr/bin",        "/sbin",          "/bin"};
  HelperBounds bounds = {};
};

// What the helper NAME keeps for `server`; empty where it keeps nothing. Otherwise an error, which
// never has a word of the helper's answer: kInvalid for a name that is none or an answer of another
// form, kNotFound where there is no such program.
Result<RegistryCredentials> AskCredentialHelper(const std::string& name, const std::string& server,
                                                const HelperPlaces& places = {});

}  // namespace lamina
