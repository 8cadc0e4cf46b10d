// The store's tags with their history, images, and the list of repositories.

#include "index/store_impl.h"
#include "index/store_rows.h"

namespace lamina {
namespace {

// The current row of a tag is its youngest, by id: clocks may step back.
constexpr const char* kSelectCurrent =
    "SELECT repository, tag, digest, origin, seen_ns, first_ns, id FROM tag_history"
    " WHERE repository=? AND tag=? ORDER BY id DESC LIMIT 1";
constexpr const char* kSelectCurrentOfRepository =
    "SELECT repository, tag, digest, origin, seen_ns, first_ns, answers FROM tag_history JOIN"
    " (SELECT max(id) AS last, count(*) AS answers FROM tag_history WHERE repository=? GROUP BY "
    "tag)"
    " ON id=last ORDER BY tag";
constexpr const char* kSelectCurrentOfAll =
    "SELECT repository, tag, digest, origin, seen_ns, first_ns, answers FROM tag_history JOIN"
    " (SELECT max(id) AS last, count(*) AS answers FROM tag_history GROUP BY repository, tag)"
    " ON id=last ORDER BY repository, tag";
constexpr const char* kSelectHistory =
    "SELECT repository, tag, digest, origin, seen_ns, first_ns FROM tag_history"
    " WHERE repository=? AND tag=? ORDER BY id";
constexpr const char* kSelectHistoryOfRepository =
    "SELECT repository, tag, digest, origin, seen_ns, first_ns FROM tag_history"
    " WHERE repository=? ORDER BY tag, id";
constexpr const char* kInsertTag =
    "INSERT INTO tag_history(repository, tag, digest, origin, seen_ns, first_ns)"
    " VALUES(?, ?, ?, ?, ?, ?)";

std::optional<TagRow> ReadTag(const Statement& row) {
  auto digest = Digest::Parse(row.Text(2));
  if (!digest) return std::nullopt;
  return TagRow{row.Text(0), row.Text(1), *digest, row.Text(3), row.Integer(4), row.Integer(5), 1};
}

std::optional<TagRow> ReadCurrentTag(const Statement& row) {
  auto tag = ReadTag(row);
  if (tag) tag->answers = row.Integer(6);
  return tag;
}

Status InsertTag(Database& database, const TagRow& row, const std::string& digest) {
  ASSIGN_OR_RETURN(Statement insert, database.Prepare(kInsertTag));
  insert.Bind(row.repository).Bind(row.tag).Bind(digest).Bind(row.origin);
  return insert.Bind(row.seen_ns).Bind(row.seen_ns).Run();
}

Status RefreshTag(Database& database, int64_t id, const TagRow& row) {
  ASSIGN_OR_RETURN(Statement update,
                   database.Prepare("UPDATE tag_history SET origin=?, seen_ns=? WHERE id=?"));
  return update.Bind(row.origin).Bind(row.seen_ns).Bind(id).Run();
}

}  // namespace

Result<bool> Store::RecordTag(const TagRow& row) {
  const std::string digest = row.digest.ToString();
  return impl_->With([&](Database& database) -> Result<bool> {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    bool known = false;
    bool same = false;
    int64_t id = 0;
    {
      ASSIGN_OR_RETURN(Statement current, database.Prepare(kSelectCurrent));
      ASSIGN_OR_RETURN(known, current.Bind(row.repository).Bind(row.tag).Step());
      same = known && current.Text(2) == digest;
      if (known) id = current.Integer(6);
    }
    RETURN_IF_ERROR(same ? RefreshTag(database, id, row) : InsertTag(database, row, digest));
    RETURN_IF_ERROR(transaction.Commit());
    if (!same) ++impl_->namings;
    return known && !same;
  });
}

Result<std::optional<TagRow>> Store::CurrentTag(const std::string& repository,
                                                const std::string& tag) {
  return impl_->With([&](Database& database) -> Result<std::optional<TagRow>> {
    ASSIGN_OR_RETURN(Statement select, database.Prepare(kSelectCurrent));
    ASSIGN_OR_RETURN(const bool found, select.Bind(repository).Bind(tag).Step());
    return found ? ReadTag(select) : std::nullopt;
  });
}

Result<std::vector<TagRow>> Store::CurrentTags(const std::string& repository) {
  return impl_->With([&](Database& database) -> Result<std::vector<TagRow>> {
    const bool all = repository.empty();
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare(all ? kSelectCurrentOfAll : kSelectCurrentOfRepository));
    if (!all) select.Bind(repository);
    return CollectRows<TagRow>(select, ReadCurrentTag);
  });
}

Result<std::vector<TagRow>> Store::TagHistory(const std::string& repository,
                                              const std::string& tag) {
  return impl_->With([&](Database& database) -> Result<std::vector<TagRow>> {
    const bool all = tag.empty();
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare(all ? kSelectHistoryOfRepository : kSelectHistory));
    select.Bind(repository);
    if (!all) select.Bind(tag);
    return CollectRows<TagRow>(select, ReadTag);
  });
}

Result<std::vector<Digest>> Store::Images(const std::string& repository) {
  return impl_->With([&](Database& database) -> Result<std::vector<Digest>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT digest FROM image WHERE repository=?"
                                      " ORDER BY first_ns, digest"));
    select.Bind(repository);
    return CollectRows<Digest>(select, [](const Statement& row) -> std::optional<Digest> {
      auto digest = Digest::Parse(row.Text(0));
      return digest ? std::optional(*digest) : std::nullopt;
    });
  });
}

Result<std::vector<std::string>> Store::Repositories() {
  return impl_->With([](Database& database) -> Result<std::vector<std::string>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT repository FROM tag_history"
                                      " UNION SELECT repository FROM local_name"
                                      " UNION SELECT repository FROM image"
                                      " UNION SELECT repository FROM pin"
                                      " UNION SELECT repository FROM alias ORDER BY repository"));
    return CollectRows<std::string>(
        select, [](const Statement& row) { return std::optional(row.Text(0)); });
  });
}

}  // namespace lamina
