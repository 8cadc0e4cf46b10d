// The store's aliases.

#include "index/store_impl.h"
#include "index/store_rows.h"

namespace lamina {
namespace {

Status PutAlias(Database& database, const AliasRow& row) {
  ASSIGN_OR_RETURN(Statement insert,
                   database.Prepare("INSERT OR REPLACE INTO alias(repository, name,"
                                    " target_repository, target_tag, target_digest, platform,"
                                    " made_ns) VALUES(?, ?, ?, ?, ?, ?, ?)"));
  const std::string digest = row.target_digest ? row.target_digest->ToString() : "";
  insert.Bind(row.repository).Bind(row.name).Bind(row.target_repository).Bind(row.target_tag);
  return insert.Bind(digest).Bind(row.platform).Bind(row.made_ns).Run();
}

// Nothing for a row that has rotted: neither a tag nor a digest.
std::optional<AliasRow> ReadAlias(const Statement& row) {
  AliasRow alias{row.Text(0),  row.Text(1), row.Text(2),   row.Text(3),
                 std::nullopt, row.Text(5), row.Integer(6)};
  if (!alias.target_tag.empty()) return alias;
  const auto digest = Digest::Parse(row.Text(4));
  if (!digest) return std::nullopt;
  alias.target_digest = *digest;
  return alias;
}

Status DropAlias(Database& database, const std::string& repository, const std::string& name) {
  ASSIGN_OR_RETURN(Statement remove,
                   database.Prepare("DELETE FROM alias WHERE repository=? AND name=?"
                                    " RETURNING 1"));
  ASSIGN_OR_RETURN(const bool found, remove.Bind(repository).Bind(name).Step());
  if (!found) return Error{Code::kNotFound, repository + ":" + name + " is no alias"};
  return remove.Run();
}

Result<std::vector<AliasRow>> ReadAliases(Database& database) {
  ASSIGN_OR_RETURN(Statement select,
                   database.Prepare("SELECT repository, name, target_repository, target_tag,"
                                    " target_digest, platform, made_ns FROM alias"
                                    " ORDER BY repository, name"));
  return CollectRows<AliasRow>(select, ReadAlias);
}

}  // namespace

Result<Store::AliasState> Store::ChangeAliases(
    const AliasChange& change,
    const std::function<Status(const std::vector<AliasRow>& all)>& check) {
  return impl_->With([&](Database& database) -> Result<AliasState> {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    for (const auto& [repository, name] : change.remove)
      RETURN_IF_ERROR(DropAlias(database, repository, name));
    for (const AliasRow& row : change.put) RETURN_IF_ERROR(PutAlias(database, row));
    AliasState after;
    ASSIGN_OR_RETURN(after.rows, ReadAliases(database));
    RETURN_IF_ERROR(check(after.rows));
    RETURN_IF_ERROR(transaction.Commit());
    after.change = ++impl_->alias_changes;
    ++impl_->namings;
    return after;
  });
}

Result<std::vector<AliasRow>> Store::Aliases() {
  return impl_->With([](Database& database) { return ReadAliases(database); });
}

}  // namespace lamina
