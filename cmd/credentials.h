#pragma once

// Credentials that the host already has, in the files of docker and podman
// (containers-auth.json(5)): the `credHelpers`, `credsStore` and `auths` of $REGISTRY_AUTH_FILE,
// $XDG_RUNTIME_DIR/containers/auth.json, /run/containers/UID/auth.json,
// $XDG_CONFIG_HOME/containers/auth.json, $DOCKER_CONFIG/config.json and ~/.docker/config.json, in
// this order. The files are read each time, so a new login needs no restart. Any thread; blocks on
// local disk and on the helpers that a file names.

#include <string>

#include "cmd/credential_helper.h"
#include "fetch/registry.h"

namespace lamina {

// `name` is a registry ("quay.io") or a repository of it ("quay.io/team/app"), for which the
// longest key of a file that is a prefix of it counts. In a file a helper comes before what the
// file has itself, one for this registry before the one for all. Empty where no file has any. A
// file that cannot be read and a helper that fails are warnings in the log.
RegistryCredentials CredentialsOfHost(const std::string& name, const HelperPlaces& places = {});

}  // namespace lamina
