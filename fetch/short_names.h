#pragma once

// ShortNames: which images a name without a registry may mean, by containers-registries.conf(5):
// the aliases of short names and the list of registries to search. Without either Docker's rule
// holds, docker.io. A value; any thread. Reading blocks on local disk.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fetch/reference.h"

namespace lamina {

class ShortNames {
 public:
  // The files in the order in which they are read (RegistriesConf::FilesOfUser(),
  // AliasFileOfUser()), each before those that win over it; those that are not there are left out.
  // A file that is wrong is an error that names it.
  static Result<ShortNames> Read(const std::vector<std::string>& files);

  // Takes over what one file says; `name` is for messages.
  Status Add(std::string_view toml, const std::string& name);

  // Has it no registry? Then it may mean several images.
  static bool IsShort(std::string_view text);
  // What a reference may mean, in the order in which to ask: itself, or of a short name its alias,
  // or one of each registry to search.
  Result<std::vector<Reference>> Candidates(std::string_view text) const;

 private:
  std::map<std::string, std::string> aliases_;  // "fedora" -> "registry.fedoraproject.org/fedora"
  std::vector<std::string> search_;             // registries
};

}  // namespace lamina
