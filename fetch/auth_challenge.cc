#include "fetch/auth_challenge.h"

#include <optional>

#include "fetch/http_headers.h"

namespace lamina {
namespace {

// Reads the header from left to right; every step consumes something or fails.
class ChallengeReader {
 public:
  explicit ChallengeReader(std::string_view text) : rest_(text) {}

  void SkipSeparators() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == ','))
      rest_.remove_prefix(1);
  }
  void SkipBlanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t')) rest_.remove_prefix(1);
  }
  std::string_view Token() {
    const size_t end = rest_.find_first_of(" \t,=\"");
    const std::string_view token = rest_.substr(0, end);
    rest_.remove_prefix(token.size());
    return token;
  }
  bool Take(char wanted) {
    if (rest_.empty() || rest_[0] != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool done() const { return rest_.empty(); }

  // A token or a quoted string.
  std::optional<std::string> Value() {
    if (!Take('"')) {
      const size_t end = rest_.find_first_of(" \t,");
      std::string out(rest_.substr(0, end));
      rest_.remove_prefix(out.size());
      return out;
    }
    std::string out;
    for (size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        rest_.remove_prefix(i + 1);
        return out;
      }
      if (rest_[i] == '\\' && i + 1 < rest_.size()) ++i;
      out += rest_[i];
    }
    return std::nullopt;
  }

 private:
  std::string_view rest_;
};

void SetParameter(AuthChallenge& challenge, std::string_view name, std::string value) {
  if (EqualsIgnoringCase(name, "realm"))
    challenge.realm = std::move(value);
  else if (EqualsIgnoringCase(name, "service"))
    challenge.service = std::move(value);
  else if (EqualsIgnoringCase(name, "scope"))
    challenge.scope = std::move(value);
  else if (EqualsIgnoringCase(name, "error"))
    challenge.error = std::move(value);
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

}  // namespace

std::vector<AuthChallenge> ParseChallenges(std::string_view value) {
  std::vector<AuthChallenge> out;
  ChallengeReader reader(value);
  while (true) {
    reader.SkipSeparators();
    const std::string_view word = reader.Token();
    if (word.empty()) return out;
    reader.SkipBlanks();
    // A word is a parameter when '=' follows, and else the scheme of the next challenge.
    if (!reader.Take('=')) {
      out.push_back({.scheme = Lower(word), .realm = {}, .service = {}, .scope = {}, .error = {}});
      continue;
    }
    reader.SkipBlanks();
    std::optional<std::string> parameter = reader.Value();
    if (!parameter || out.empty()) return out;
    SetParameter(out.back(), word, std::move(*parameter));
  }
}

}  // namespace lamina
