// The store's sources that were added by hand and the names that they give.

#include <set>

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

// The images that this tag was, unless another tag or a source names them.
constexpr const char* kForgetImagesOfTag =
    "DELETE FROM image WHERE repository=?1 AND digest IN"
    " (SELECT digest FROM tag_history WHERE repository=?1 AND tag=?2)"
    " AND NOT EXISTS (SELECT 1 FROM tag_history h WHERE h.repository=image.repository"
    " AND h.digest=image.digest AND h.tag<>?2)"
    " AND NOT EXISTS (SELECT 1 FROM local_name n WHERE n.repository=image.repository"
    " AND n.digest=image.digest)";

constexpr const char* kForgetImage =
    "DELETE FROM image WHERE repository=?1 AND digest=?2"
    " AND NOT EXISTS (SELECT 1 FROM tag_history WHERE repository=?1 AND digest=?2)"
    " AND NOT EXISTS (SELECT 1 FROM local_name WHERE repository=?1 AND digest=?2)";

Status ForgetName(Database& database, const LocalNameRow& name, const std::string& origin) {
  ASSIGN_OR_RETURN(Statement tags, database.Prepare("DELETE FROM tag_history"
                                                    " WHERE repository=? AND tag=? AND origin=?"));
  RETURN_IF_ERROR(tags.Bind(name.repository).Bind(name.tag).Bind(origin).Run());
  ASSIGN_OR_RETURN(Statement image,
                   database.Prepare(std::string(kForgetImage) + kImageIsNotPinned));
  const std::string digest = name.digest.ToString();
  return image.Bind(name.repository).Bind(digest).Run();
}

// What is left of a repository that only sources can give.
Status ForgetEmpty(Database& database, const std::string& repository) {
  for (const std::string table : {"tag_history", "image"}) {
    ASSIGN_OR_RETURN(Statement remove,
                     database.Prepare("DELETE FROM " + table +
                                      " WHERE repository=?1 AND NOT EXISTS"
                                      " (SELECT 1 FROM local_name WHERE repository=?1)" +
                                      (table == "image" ? kImageIsNotPinned : "")));
    RETURN_IF_ERROR(remove.Bind(repository).Run());
  }
  return {};
}

// The id of the row, which is kept where the source was there before.
Result<int64_t> UpsertSource(Database& database, const SourceRow& row) {
  ASSIGN_OR_RETURN(
      Statement upsert,
      database.Prepare("INSERT INTO source(kind, location, selected, as_name, added_ns, layer)"
                       " VALUES(?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT(location, selected, as_name) DO UPDATE"
                       " SET kind=excluded.kind, added_ns=excluded.added_ns, layer=excluded.layer"
                       " RETURNING id"));
  const std::string layer = row.layer ? row.layer->ToString() : "";
  upsert.Bind(row.kind).Bind(row.location).Bind(row.selected).Bind(row.as_name).Bind(row.added_ns);
  upsert.Bind(layer);
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
    ++impl_->namings;
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
    RETURN_IF_ERROR(transaction.Commit());
    ++impl_->namings;
    return {};
  });
}

Status Store::RecordLayerOfSource(int64_t id, const Digest& layer) {
  const std::string name = layer.ToString();
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement update, database.Prepare("UPDATE source SET layer=? WHERE id=?"));
    return update.Bind(name).Bind(id).Run();
  });
}

Status Store::RemoveSource(int64_t id) {
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement remove, database.Prepare("DELETE FROM source WHERE id=?"));
    return remove.Bind(id).Run();  // its names go with it
  });
}

Status Store::ForgetNames(const std::vector<LocalNameRow>& names, const std::string& origin) {
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    std::set<std::string> repositories;
    for (const LocalNameRow& name : names) {
      RETURN_IF_ERROR(ForgetName(database, name, origin));
      repositories.insert(name.repository);
    }
    for (const std::string& repository : repositories)
      if (repository.starts_with("localhost/")) RETURN_IF_ERROR(ForgetEmpty(database, repository));
    return transaction.Commit();
  });
}

Result<bool> Store::ForgetTags(const std::string& repository,
                               const std::optional<std::string>& tag) {
  return impl_->With([&](Database& database) -> Result<bool> {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    const int64_t before = database.TotalChanges();
    if (tag) {
      ASSIGN_OR_RETURN(Statement images,
                       database.Prepare(std::string(kForgetImagesOfTag) + kImageIsNotPinned));
      RETURN_IF_ERROR(images.Bind(repository).Bind(*tag).Run());
      ASSIGN_OR_RETURN(Statement tags, database.Prepare("DELETE FROM tag_history"
                                                        " WHERE repository=? AND tag=?"));
      RETURN_IF_ERROR(tags.Bind(repository).Bind(*tag).Run());
    } else {
      for (const std::string& statement :
           {std::string("DELETE FROM tag_history WHERE repository=?"),
            std::string("DELETE FROM image WHERE repository=?") + kImageIsNotPinned}) {
        ASSIGN_OR_RETURN(Statement remove, database.Prepare(statement));
        RETURN_IF_ERROR(remove.Bind(repository).Run());
      }
    }
    const bool any = database.TotalChanges() != before;
    RETURN_IF_ERROR(transaction.Commit());
    return any;
  });
}

Result<std::vector<SourceRow>> Store::Sources() {
  return impl_->With([](Database& database) -> Result<std::vector<SourceRow>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT id, kind, location, selected, as_name, added_ns,"
                                      " layer FROM source ORDER BY id"));
    return CollectRows<SourceRow>(select, [](const Statement& row) {
      const auto layer = Digest::Parse(row.Text(6));
      return std::optional(SourceRow{row.Integer(0), row.Text(1), row.Text(2), row.Text(3),
                                     row.Text(4), row.Integer(5),
                                     layer ? std::optional(*layer) : std::nullopt});
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
