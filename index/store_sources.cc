// The store's sources that were added by hand and the names that they give.

#include "base/text.h"
#include "index/store_impl.h"
#include "index/store_rows.h"

namespace lamina {
namespace {

Status InsertNames(Database& database, int64_t source_id, const std::vector<LocalNameRow>& names) {
  for (const LocalNameRow& row : names) {
    ASSIGN_OR_RETURN(Statement insert,
                     database.Prepare("INSERT OR IGNORE INTO"
                                      " local_name(source_id, repository, tag, digest)"
                                      " VALUES(?, ?, ?, ?)"));
    const std::string digest = row.digest.ToString();
    RETURN_IF_ERROR(insert.Bind(source_id).Bind(row.repository).Bind(row.tag).Bind(digest).Run());
  }
  return {};
}

Status DeleteNames(Database& database, int64_t source_id) {
  ASSIGN_OR_RETURN(Statement remove, database.Prepare("DELETE FROM local_name WHERE source_id=?"));
  return remove.Bind(source_id).Run();
}

// The id of the row, which is kept where the source was there before.
Result<int64_t> UpsertSource(Database& database, const SourceRow& row) {
  ASSIGN_OR_RETURN(
      Statement upsert,
      database.Prepare("INSERT INTO source(kind, location, selected, as_name, added_ns)"
                       " VALUES(?, ?, ?, ?, ?)"
                       " ON CONFLICT(location, selected, as_name) DO UPDATE"
                       " SET kind=excluded.kind, added_ns=excluded.added_ns"
                       " RETURNING id"));
  upsert.Bind(row.kind).Bind(row.location).Bind(row.selected).Bind(row.as_name).Bind(row.added_ns);
  ASSIGN_OR_RETURN(const bool found, upsert.Step());
  if (!found) return Error{Code::kInternal, database.path() + ": no id for a new source"};
  const int64_t id = upsert.Integer(0);
  RETURN_IF_ERROR(upsert.Run());
  return id;
}

}  // namespace

Result<int64_t> Store::AddSource(const SourceRow& row, const std::vector<LocalNameRow>& names) {
  return impl_->With([&](Database& database) -> Result<int64_t> {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    ASSIGN_OR_RETURN(const int64_t id, UpsertSource(database, row));
    RETURN_IF_ERROR(DeleteNames(database, id));
    RETURN_IF_ERROR(InsertNames(database, id, names));
    RETURN_IF_ERROR(transaction.Commit());
    return id;
  });
}

Status Store::ReplaceLocalNames(int64_t source_id, const std::vector<LocalNameRow>& names) {
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    ASSIGN_OR_RETURN(Statement select, database.Prepare("SELECT 1 FROM source WHERE id=?"));
    ASSIGN_OR_RETURN(const bool found, select.Bind(source_id).Step());
    if (!found)
      return Error{Code::kNotFound, "the store has no source " + std::to_string(source_id)};
    RETURN_IF_ERROR(DeleteNames(database, source_id));
    RETURN_IF_ERROR(InsertNames(database, source_id, names));
    return transaction.Commit();
  });
}

Status Store::RemoveSource(int64_t id) {
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement remove, database.Prepare("DELETE FROM source WHERE id=?"));
    return remove.Bind(id).Run();  // its names go with it
  });
}

Result<std::vector<SourceRow>> Store::Sources() {
  return impl_->With([](Database& database) -> Result<std::vector<SourceRow>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT id, kind, location, selected, as_name, added_ns"
                                      " FROM source ORDER BY id"));
    return CollectRows<SourceRow>(select, [](const Statement& row) {
      return std::optional(SourceRow{row.Integer(0), row.Text(1), row.Text(2), row.Text(3),
                                     row.Text(4), row.Integer(5)});
    });
  });
}

Result<std::vector<LocalNameRow>> Store::LocalNames() {
  return impl_->With([](Database& database) -> Result<std::vector<LocalNameRow>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT source_id, repository, tag, digest FROM local_name"
                                      " ORDER BY source_id, repository, tag, digest"));
    return CollectRows<LocalNameRow>(
        select, [](const Statement& row) -> std::optional<LocalNameRow> {
          auto digest = Digest::Parse(row.Text(3));
          if (!digest) return std::nullopt;
          return LocalNameRow{row.Integer(0), row.Text(1), row.Text(2), *digest};
        });
  });
}

}  // namespace lamina
