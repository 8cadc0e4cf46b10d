#pragma once

// Credentials that the host already has, in the files of docker and podman (auth_file.h):
// $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, /run/containers/UID/auth.json,
// $XDG_CONFIG_HOME/containers/auth.json, $DOCKER_CONFIG/config.json and ~/.docker/config.json, in
// this order; and in the helpers that registries.conf names, before or after the files as it says.
// All is read each time, so a new login needs no restart. Any thread; blocks on local disk and on
// helpers.

#include <string>

#include "cmd/credential_helper.h"
#include "fetch/registry.h"

namespace lamina {

// `name` is a registry ("quay.io") or a repository of it ("quay.io/team/app"). Empty where nobody
// has any. A file that cannot be read and a helper that fails are warnings in the log.
RegistryCredentials CredentialsOfHost(const std::string& name, const HelperPlaces& places = {});

}  // namespace lamina
