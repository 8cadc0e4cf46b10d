#include "fs/local_names.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "base/text.h"

namespace lamina {
namespace {

// A repository component made of a file name: lower case, and '-' for what the grammar does not
// allow.
std::string Component(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool plain = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (plain)
      out += lower;
    else if (!out.empty() && out.back() != '-')
      out += '-';
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "image" : out;
}

// The name of a folder, or that of an archive without what its ending says.
std::string StemOf(const SourceRow& row) {
  std::string name = row.location.substr(row.location.rfind('/') + 1);
  if (row.kind == "oci") return name;
  for (const std::string_view ending : {".gz", ".tgz", ".zst", ".tzst", ".zstd", ".tar"})
    if (name.size() > ending.size() && name.ends_with(ending))
      name.resize(name.size() - ending.size());
  return name;
}

// The repository that --as names: as it stands where it has a registry part, else below localhost.
Result<std::string> RepositoryOfAs(const std::string& as_name) {
  const size_t slash = as_name.find('/');
  const std::string first = as_name.substr(0, slash);
  const bool has_registry =
      slash != std::string::npos &&
      (first == "localhost" || first.find_first_of(".:") != std::string::npos);
  ASSIGN_OR_RETURN(const Reference parsed,
                   Reference::Parse(has_registry ? as_name : "localhost/" + as_name));
  if (parsed.tag || parsed.digest)
    return Error{
        Code::kInvalid,
        fmt::format("--as {}: tags come from the source; give a name without one", Quote(as_name))};
  return parsed.repository.ToString();
}

std::optional<Reference> FullReference(const std::string& name) {
  if (IsValidTag(name)) return std::nullopt;
  auto reference = Reference::Parse(name);
  if (!reference) return std::nullopt;
  return *std::move(reference);
}

// What the REF of a source means: a name as it is written before one of the same meaning, and that
// before a tag.
class Selection {
 public:
  explicit Selection(const std::string& wanted) : wanted_(wanted) {
    if (IsImageNumber(wanted)) number_ = wanted.substr(1);
    const bool at = wanted.starts_with('@');
    if (auto digest = Digest::Parse(at ? std::string_view(wanted).substr(1) : wanted))
      digest_ = *digest;
    if (auto reference = Reference::Parse(wanted)) reference_ = *std::move(reference);
  }

  bool all() const { return wanted_.empty(); }
  bool TakesImage(const LocalImage& image, size_t number) const {
    if (number_) return *number_ == std::to_string(number);
    if (!digest_) return false;
    return (image.descriptor && image.descriptor->digest == *digest_) || image.image_id == digest_;
  }
  bool by_image() const { return number_ || digest_; }
  // 0: not this one; larger is better.
  int Rank(const std::string& name) const {
    if (name == wanted_) return 3;
    const auto full = FullReference(name);
    if (full && reference_ && full->repository == reference_->repository &&
        full->tag_or_latest() == reference_->tag_or_latest() && !reference_->digest)
      return 2;
    return TagOfRefName(name) == wanted_ ? 1 : 0;
  }

 private:
  const std::string& wanted_;
  std::optional<std::string> number_;
  std::optional<Digest> digest_;
  std::optional<Reference> reference_;
};

class TableMaker {
 public:
  TableMaker(const SourceRow& row, std::shared_ptr<LocalSource> source, NameTable* table)
      : row_(row), source_(std::move(source)), selection_(row.selected), table_(*table) {}

  void Make() {
    auto nameless = RepositoryOfAs(row_.as_name.empty() ? Component(StemOf(row_)) : row_.as_name);
    if (!nameless) return table_.problems.push_back(std::move(nameless).error());
    nameless_ = *std::move(nameless);
    if (!selection_.all() && !selection_.by_image()) FindBestRank();
    for (size_t number = 0; number < table_.images->size(); ++number) TakeImage(number);
    table_.Sort();
    FindAmbiguous();
  }

 private:
  void FindBestRank() {
    for (const LocalImage& image : *table_.images)
      for (const std::string& name : image.names)
        best_rank_ = std::max(best_rank_, selection_.Rank(name));
  }

  void TakeImage(size_t number) {
    const LocalImage& image = (*table_.images)[number];
    std::vector<std::string> names = image.names;
    if (selection_.by_image()) {
      if (!selection_.TakesImage(image, number)) return;
    } else if (!selection_.all()) {
      std::erase_if(names, [&](const std::string& name) {
        return best_rank_ == 0 || selection_.Rank(name) != best_rank_;
      });
      if (names.empty()) return;
    }
    bool has_place = false;
    bool below_nameless = false;
    for (const std::string& name : names) TakeName(image, name, &has_place, &below_nameless);
    if (!image.descriptor) return table_.problems.push_back(image.descriptor.error());
    if (!has_place) Add(nameless_, "", image, std::nullopt);
    if (!has_place || below_nameless)
      Add(nameless_, "@" + std::to_string(number), image, std::nullopt);
    if (image.image_id) table_.by_image_id.emplace(*image.image_id, image.descriptor->digest);
  }

  void TakeName(const LocalImage& image, const std::string& name, bool* has_place,
                bool* below_nameless) {
    std::string repository = nameless_;
    std::string tag = name;
    std::optional<RepositoryName> registry_name;
    if (!IsValidTag(name)) {
      const auto reference = Reference::Parse(name);
      if (!reference) {
        table_.problems.push_back(reference.error().Within(
            source_->origin() + ": an image is reachable by digest and number only"));
        return;
      }
      if (row_.as_name.empty()) repository = reference->repository.ToString();
      tag = reference->digest && !reference->tag ? "" : reference->tag_or_latest();
      if (reference->repository.registry != "localhost") registry_name = reference->repository;
    }
    *has_place = true;
    *below_nameless = *below_nameless || repository == nameless_;
    if (image.descriptor)
      Add(repository, tag, image, std::move(registry_name));
    else
      table_.broken.try_emplace({repository, tag}, image.descriptor.error());
  }

  void Add(const std::string& repository, const std::string& tag, const LocalImage& image,
           std::optional<RepositoryName> registry_name) {
    table_.names.push_back(
        {repository, tag, image.descriptor->digest, source_, std::move(registry_name)});
  }

  // The names are sorted.
  void FindAmbiguous() {
    auto& names = table_.names;
    for (size_t i = 1; i < names.size(); ++i) {
      const LocalName& one = names[i - 1];
      const LocalName& other = names[i];
      if (one.tag.empty() || one.repository != other.repository || one.tag != other.tag ||
          one.digest == other.digest)
        continue;
      Error error = AmbiguousName(source_->origin(), one.repository + ":" + one.tag, one.digest,
                                  other.digest);
      error.message += "; one of them can be added alone, as :@N";
      if (table_.broken.try_emplace({one.repository, one.tag}, error).second)
        table_.problems.push_back(std::move(error));
    }
    // Their images stay reachable in another way.
    for (LocalName& name : names)
      if (table_.broken.contains({name.repository, name.tag})) name.tag.clear();
    table_.Sort();
  }

  const SourceRow& row_;
  const std::shared_ptr<LocalSource> source_;
  const Selection selection_;
  NameTable& table_;
  std::string nameless_;
  int best_rank_ = 0;
};

bool IsBefore(const LocalName& a, const LocalName& b) {
  return std::tie(a.repository, a.tag, a.digest) < std::tie(b.repository, b.tag, b.digest);
}

}  // namespace

void NameTable::Sort() {
  std::stable_sort(names.begin(), names.end(), IsBefore);
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

std::pair<NameTable::Names::const_iterator, NameTable::Names::const_iterator> NameTable::Of(
    const std::string& repository) const {
  const auto begin =
      std::lower_bound(names.begin(), names.end(), repository,
                       [](const LocalName& a, const std::string& b) { return a.repository < b; });
  const auto end =
      std::upper_bound(begin, names.end(), repository,
                       [](const std::string& a, const LocalName& b) { return a < b.repository; });
  return {begin, end};
}

const LocalName* NameTable::Find(const std::string& repository, const std::string& tag) const {
  const auto [begin, end] = Of(repository);
  const auto at = std::lower_bound(
      begin, end, tag, [](const LocalName& a, const std::string& b) { return a.tag < b; });
  return at != end && at->tag == tag ? &*at : nullptr;
}

NameTable NamesOf(const SourceRow& row, const std::shared_ptr<LocalSource>& source,
                  std::shared_ptr<const LocalImages> images) {
  NameTable table;
  table.images = std::move(images);
  TableMaker(row, source, &table).Make();
  return table;
}

bool IsImageNumber(std::string_view name) {
  if (name.size() < 2 || name.size() > 6 || name[0] != '@') return false;
  if (name[1] == '0' && name.size() > 2) return false;
  return std::all_of(name.begin() + 1, name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace lamina
