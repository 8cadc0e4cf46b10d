#include "index/store_schema.h"

#include <fmt/format.h>

#include "base/clock.h"

namespace lamina {
namespace {

constexpr int64_t kApplicationId = 0x4C614D69;  // "LaMi"
constexpr int64_t kVersion = 4;

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

// What schema 3 has more: what is pinned, and since when things lie about. The last table has one
// row.
constexpr const char* kGarbageTables = R"sql(
CREATE TABLE pin(
  repository TEXT NOT NULL,
  digest TEXT NOT NULL,
  reference TEXT NOT NULL,
  made_ns INTEGER NOT NULL,
  PRIMARY KEY(repository, digest)) WITHOUT ROWID;
CREATE TABLE began(began_ns INTEGER NOT NULL);
ALTER TABLE image ADD COLUMN used_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE document ADD COLUMN kept_ns INTEGER NOT NULL DEFAULT 0;
)sql";

// What schema 4 has more: what an archive was called as a layer when it was last seen.
constexpr const char* kLayerOfSource =
    "ALTER TABLE source ADD COLUMN layer TEXT NOT NULL DEFAULT ''";

constexpr const char* kCountTables =
    "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name IN"
    " ('node','source','local_name','tag_history','image','document','alias',"
    "'pin','began')";

int64_t TablesOf(int64_t version) {
  if (version == 1) return 6;
  return version == 2 ? 7 : 9;
}

Status SetVersion(Database& database) {
  return database.Execute(
      fmt::format("PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId, kVersion));
}

Status AddGarbageTables(Database& database) {
  RETURN_IF_ERROR(database.Execute(kGarbageTables));
  ASSIGN_OR_RETURN(Statement began, database.Prepare("INSERT INTO began(began_ns) VALUES(?)"));
  return began.Bind(WallClock::System().NowNs()).Run();
}

// From an older schema (0: none), in a transaction.
Status AddTables(Database& database, int64_t version) {
  if (version < 1) RETURN_IF_ERROR(database.Execute(kSchema));
  if (version < 2) RETURN_IF_ERROR(database.Execute(kAliasTable));
  if (version < 3) RETURN_IF_ERROR(AddGarbageTables(database));
  RETURN_IF_ERROR(database.Execute(kLayerOfSource));
  return SetVersion(database);
}

// Wholly or not at all.
Status Migrate(Database& database, int64_t version) {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
  RETURN_IF_ERROR(AddTables(database, version));
  return transaction.Commit();
}

Status MakeTables(Database& database) {
  ASSIGN_OR_RETURN(const int64_t tables,
                   database.QueryInteger("SELECT count(*) FROM sqlite_schema"));
  if (tables != 0) return Error{Code::kInvalid, database.path() + " is no store of lamina"};
  return Migrate(database, 0);
}

// All that SQLite was told to make, as it keeps it.
Result<std::string> SchemaOf(Database& database) {
  ASSIGN_OR_RETURN(Statement all,
                   database.Prepare("SELECT group_concat(sql, ';') FROM (SELECT sql FROM"
                                    " sqlite_schema WHERE sql IS NOT NULL ORDER BY name)"));
  ASSIGN_OR_RETURN(const bool row, all.Step());
  return row ? all.Text(0) : std::string();
}

// Where the tables are those of this schema to the letter, the numbers of the file's header are
// damaged: they are set right. False where the tables are others.
Result<bool> RepairHeader(Database& database) {
  ASSIGN_OR_RETURN(const auto model, Database::InMemory(database.path()));
  RETURN_IF_ERROR(AddTables(*model, 0));
  ASSIGN_OR_RETURN(const std::string ours, SchemaOf(*model));
  ASSIGN_OR_RETURN(const std::string found, SchemaOf(database));
  if (found != ours) return false;
  RETURN_IF_ERROR(SetVersion(database));
  return true;
}

Status UpdateSchema(Database& database) {
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
  return version == kVersion ? Status() : Migrate(database, version);
}

}  // namespace

Status PrepareSchema(Database& database, std::string* warning) {
  Status updated = UpdateSchema(database);
  if (updated || updated.error().code == Code::kNoSpace || updated.error().code == Code::kIo)
    return updated;
  ASSIGN_OR_RETURN(const bool repaired, RepairHeader(database));
  if (!repaired) return updated;
  *warning = fmt::format("the numbers in the header of {} were damaged and are set right",
                         database.path());
  return {};
}

}  // namespace lamina
