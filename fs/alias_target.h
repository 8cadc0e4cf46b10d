#pragma once

// AliasTarget: what an alias leads to, as users write it in a command and as a symbolic link says
// it. Pure functions; any thread.

#include <string>
#include <string_view>

#include "base/result.h"
#include "index/store.h"

namespace lamina {

// kInvalid unless it is "registry/path" by the grammar, and may hold tags.
Status CheckRepositoryName(const std::string& name);

// Fills in the target of an alias of `row.repository` from TARGET as a command has it: a tag or
// digest of the same repository ("bookworm", "sha256:…", "sha256-…"), or a full reference
// ("docker.io/library/nginx:1.27", "nginx@sha256:…").
Status SetAliasTarget(std::string_view text, AliasRow* row);
// The same from the text of a symbolic link in the folder of `row.repository`: a name beside it, or
// a relative path to one.
Status SetAliasLink(std::string_view text, AliasRow* row);

// As SetAliasTarget() takes it; `full` names the repository in any case.
std::string AliasTargetText(const AliasRow& row, bool full);
// As SetAliasLink() takes it: what readlink shows. `name` is the last component, a tag or the
// folder of an image.
std::string AliasLinkText(const std::string& repository, const std::string& target_repository,
                          const std::string& name);

}  // namespace lamina
