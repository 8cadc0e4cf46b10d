#pragma once

// One file of docker or podman that has credentials (containers-auth.json(5), docker's
// config.json), and the helpers that keep them elsewhere. Any thread; blocks on local disk and on
// helpers.

#include <string>

#include "cmd/credential_helper.h"
#include "fetch/registry.h"

namespace lamina {

// What the file has for a registry ("quay.io") or a repository of it ("quay.io/team/app"): the
// helper of `credHelpers`, then that of `credsStore`, then the longest key of `auths` that is a
// prefix of the name; a key with a scheme ("https://quay.io/v1/") is one of its host. Empty where
// it has none or is not there. What is wrong in it costs that member alone and is a warning in the
// log.
RegistryCredentials CredentialsOfFile(const std::string& path, const std::string& name,
                                      const HelperPlaces& places);
// What one helper keeps for the registry of a name; `named_by` is the file that names the helper.
// Empty where it keeps nothing or fails, which is a warning.
RegistryCredentials CredentialsOfHelper(const std::string& helper, const std::string& named_by,
                                        const std::string& name, const HelperPlaces& places);

}  // namespace lamina
