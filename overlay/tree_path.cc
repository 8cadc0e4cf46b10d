#include "overlay/tree_path.h"

#include <string>
#include <vector>

#include "base/text.h"

namespace lamina {
namespace {

constexpr int kMostLinks = 40;          // as the kernel's MAXSYMLINKS
constexpr size_t kMostSteps = 1 << 16;  // names on the way, those of links included

class PathFinder {
 public:
  PathFinder(const Tree& tree, std::string_view path, bool follow_last)
      : tree_(tree), path_(path), follow_last_(follow_last), folders_{tree.root()} {
    Push(path);
  }

  Result<Nid> Find() {
    size_t steps = 0;
    while (!ahead_.empty()) {
      if (++steps > kMostSteps) return Wrong(Code::kLimit, "it is too long");
      const std::string name = std::move(ahead_.back());
      ahead_.pop_back();
      RETURN_IF_ERROR(Step(name));
    }
    return found_ ? *found_ : folders_.back();
  }

 private:
  // What is still to be walked: the next name last. A slash at the end asks for a directory, which
  // "." does too.
  void Push(std::string_view path) {
    if (path.ends_with('/')) ahead_.emplace_back(".");
    const std::vector<std::string_view> names = Split(path, '/');
    for (auto name = names.rbegin(); name != names.rend(); ++name)
      if (!name->empty()) ahead_.emplace_back(*name);
  }

  Status Step(const std::string& name) {
    if (found_)
      return Wrong(Code::kInvalid, "what comes before " + Quote(name) + " is no directory");
    if (name == ".") return {};
    if (name == "..") {
      if (folders_.size() > 1) folders_.pop_back();
      return {};
    }
    ASSIGN_OR_RETURN(const auto entry, tree_.Lookup(folders_.back(), name));
    if (!entry) return Wrong(Code::kNotFound, "there is no " + Quote(name));
    if (entry->type == EntryType::kDirectory) {
      folders_.push_back(entry->nid);
      return {};
    }
    if (entry->type == EntryType::kSymlink && (follow_last_ || !ahead_.empty()))
      return Follow(entry->nid);
    found_ = entry->nid;
    return {};
  }

  Status Follow(Nid link) {
    if (++links_ > kMostLinks) return Wrong(Code::kLimit, "too many symbolic links follow another");
    ASSIGN_OR_RETURN(const std::string target, tree_.ReadLink(link));
    if (target.starts_with('/')) folders_.resize(1);
    Push(target);
    return {};
  }

  Error Wrong(Code code, const std::string& reason) const {
    return Error{code, Quote(path_) + ": " + reason};
  }

  const Tree& tree_;
  const std::string_view path_;
  const bool follow_last_;
  std::vector<Nid> folders_;  // from the root to where the walk is
  std::vector<std::string> ahead_;
  std::optional<Nid> found_;  // what is no directory
  int links_ = 0;
};

}  // namespace

Result<Nid> FindInTree(const Tree& tree, std::string_view path, bool follow_last) {
  return PathFinder(tree, path, follow_last).Find();
}

}  // namespace lamina
