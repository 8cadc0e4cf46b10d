#include "index/store_schema.h"

#include <fmt/format.h>

namespace lamina {
namespace {

constexpr int64_t kApplicationId = 0x4C614D69;  // "LaMi"
constexpr int64_t kVersion = 2;

// AUTOINCREMENT where an id must never come to mean something else.
constexpr const char* kSchema = R"sql(
CREATE TABLE node(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind INTEGER NOT NULL,
  key TEXT NOT NULL,
  UNIQUE(kind, key));
CREATE TABLE source(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  location TEXT NOT NULL,
  selected TEXT NOT NULL,
  as_name TEXT NOT NULL,
  added_ns INTEGER NOT NULL,
  UNIQUE(location, selected, as_name));
CREATE TABLE local_name(
  source_id INTEGER NOT NULL REFERENCES source(id) ON DELETE CASCADE,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY(source_id, repository, tag, digest)) WITHOUT ROWID;
CREATE TABLE tag_history(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  digest TEXT NOT NULL,
  origin TEXT NOT NULL,
  first_ns INTEGER NOT NULL,
  seen_ns INTEGER NOT NULL);
CREATE INDEX tag_history_by_name ON tag_history(repository, tag, id);
CREATE TABLE image(
  repository TEXT NOT NULL,
  digest TEXT NOT NULL,
  first_ns INTEGER NOT NULL,
  PRIMARY KEY(repository, digest)) WITHOUT ROWID;
CREATE TABLE document(
  digest TEXT PRIMARY KEY,
  media_type TEXT NOT NULL,
  bytes BLOB NOT NULL);
)sql";

// What schema 2 has more. Either a tag or a digest is the target.
constexpr const char* kAliasTable = R"sql(
CREATE TABLE alias(
  repository TEXT NOT NULL,
  name TEXT NOT NULL,
  target_repository TEXT NOT NULL,
  target_tag TEXT NOT NULL,
  target_digest TEXT NOT NULL,
  platform TEXT NOT NULL,
  made_ns INTEGER NOT NULL,
  PRIMARY KEY(repository, name)) WITHOUT ROWID;
)sql";

constexpr const char* kCountTables =
    "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name IN"
    " ('node','source','local_name','tag_history','image','document','alias')";

int64_t TablesOf(int64_t version) { return version == 1 ? 6 : 7; }

Status SetVersion(Database& database) {
  return database.Execute(
      fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId, kVersion));
}

// From schema 1; wholly or not at all.
Status Migrate(Database& database) {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
  RETURN_IF_ERROR(database.Execute(kAliasTable));
  RETURN_IF_ERROR(SetVersion(database));
  return transaction.Commit();
}

Status MakeTables(Database& database) {
  ASSIGN_OR_RETURN(const int64_t tables,
                   database.QueryInteger("SELECT count(*) FROM sqlite_schema"));
  if (tables != 0) return Error{Code::kInvalid, database.path() + " is no store of lamina"};
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
  RETURN_IF_ERROR(database.Execute(kSchema));
  RETURN_IF_ERROR(database.Execute(kAliasTable));
  RETURN_IF_ERROR(SetVersion(database));
  return transaction.Commit();
}

}  // namespace

Status PrepareSchema(Database& database) {
  ASSIGN_OR_RETURN(const int64_t application, database.QueryInteger("PRAGMA application_id"));
  if (application == 0) return MakeTables(database);
  if (application != kApplicationId)
    return Error{Code::kInvalid, database.path() + " is no store of lamina"};
  ASSIGN_OR_RETURN(const int64_t version, database.QueryInteger("PRAGMA user_version"));
  if (version > kVersion)
    return Error{
        Code::kUnsupported,
        fmt::format("{} was written by a newer lamina: its schema is {}, this one knows {}",
                    database.path(), version, kVersion)};
  ASSIGN_OR_RETURN(const int64_t tables, database.QueryInteger(kCountTables));
  if (version < 1 || tables != TablesOf(version))
    return Error{Code::kCorrupt, database.path() + ": tables are missing"};
  return version == kVersion ? Status() : Migrate(database);
}

}  // namespace lamina
