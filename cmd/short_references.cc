#include "cmd/short_references.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include "base/text.h"
#include "fetch/short_names.h"

namespace lamina {

Status ExpandReference(ReferenceCommand* command) {
  if (command->reference.empty() || !ShortNames::IsShort(command->reference)) return {};
  ASSIGN_OR_RETURN(const ShortNames names, ShortNames::Read(ShortNames::FilesOfUser()));
  ASSIGN_OR_RETURN(const std::vector<Reference> candidates, names.Candidates(command->reference));
  if (candidates.size() == 1) {
    command->reference = candidates.front().ToString();
    return {};
  }
  for (const Reference& candidate : candidates) command->candidates.push_back(candidate.ToString());
  return {};
}

Result<std::string> FullName(const std::string& text) {
  ReferenceCommand command;
  command.reference = text;
  RETURN_IF_ERROR(ExpandReference(&command));
  return FullName(command);
}

Result<std::string> FullName(const ReferenceCommand& command) {
  if (command.candidates.empty()) return command.reference;
  return Error{Code::kInvalid,
               fmt::format("{} may mean {}: write it in full", Quote(command.reference),
                           fmt::join(command.candidates, " or "))};
}

}  // namespace lamina
