#include "index/sqlite.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/errno.h"
#include "base/file.h"

namespace lamina {
namespace {

constexpr int kBusyTimeoutMs = 10'000;

Code CodeOf(int sqlite_code) {
  switch (sqlite_code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Code::kCorrupt;
    case SQLITE_FULL:
      return Code::kNoSpace;
    case SQLITE_BUSY:
    case SQLITE_NOMEM:
    case SQLITE_LOCKED:
      return Code::kUnavailable;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return Code::kIo;
    case SQLITE_TOOBIG:
      return Code::kLimit;
    default:
      return Code::kInternal;
  }
}

// kCorrupt where something that is no file stands in its place. A link to one is a user's choice.
Status CheckPlace(const std::string& path) {
  struct stat st {};
  const bool there = ::stat(path.c_str(), &st) == 0;
  if (there ? S_ISREG(st.st_mode) : errno != ELOOP) return {};
  return Error{Code::kCorrupt, path + " is no regular file"};
}

// https://www.sqlite.org/uri.html
std::string UriOf(const std::string& path) {
  std::string uri = path.starts_with("/") ? "file://" : "file:";
  for (const char c : path)
    if (c == '%' || c == '?' || c == '#')
      uri += fmt::format("%{:02X}", c);
    else
      uri += c;
  return uri;
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_),
      statement_(std::exchange(other.statement_, nullptr)),
      bound_(other.bound_),
      failure_(other.failure_) {}

Statement::~Statement() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Statement& Statement::Bind(std::string_view text) {
  // An empty view may have no address, which SQLite would take for NULL.
  const char* data = text.data() != nullptr ? text.data() : "";
  const int code =
      sqlite3_bind_text64(statement_, ++bound_, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
  if (failure_ == 0) failure_ = code;
  return *this;
}

Statement& Statement::Bind(int64_t number) {
  const int code = sqlite3_bind_int64(statement_, ++bound_, number);
  if (failure_ == 0) failure_ = code;
  return *this;
}

Statement& Statement::BindBlob(std::string_view bytes) {
  const char* data = bytes.data() != nullptr ? bytes.data() : "";
  const int code = sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(), SQLITE_STATIC);
  if (failure_ == 0) failure_ = code;
  return *this;
}

Result<bool> Statement::Step() {
  if (failure_ != 0) return database_->Failure(failure_);
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->Failure(code);
}

Status Statement::Run() {
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) return {};
  }
}

int64_t Statement::Integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Statement::Text(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (data == nullptr || size <= 0) return {};
  return std::string(static_cast<const char*>(data), static_cast<size_t>(size));
}

Result<std::unique_ptr<Database>> Database::OpenAs(const std::string& name, int flags,
                                                   const char* vfs, const std::string& path) {
  sqlite3* handle = nullptr;
  // NOMUTEX: the owner's lock is the only one needed.
  const int code = sqlite3_open_v2(name.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, vfs);
  if (handle == nullptr) return Error{Code::kUnavailable, path + ": out of memory"};
  std::unique_ptr<Database> database(new Database(handle, path));
  if (code != SQLITE_OK) return database->Failure(code);
  return database;
}

Result<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  RETURN_IF_ERROR(CheckPlace(path));
  // Made here for its mode; SQLite gives the same to the files beside it.
  ASSIGN_OR_RETURN(UniqueFd made, OpenFile(path, O_RDWR | O_CREAT));
  made.reset();
  ASSIGN_OR_RETURN(auto database, OpenAs(path, SQLITE_OPEN_READWRITE, nullptr, path));
  RETURN_IF_ERROR(database->Configure());
  return database;
}

Result<std::unique_ptr<Database>> Database::InMemory(const std::string& path) {
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  ASSIGN_OR_RETURN(auto database, OpenAs(":memory:", kFlags, nullptr, path));
  RETURN_IF_ERROR(database->Configure());
  return database;
}

Result<std::unique_ptr<Database>> Database::OpenCopy(const std::string& path) {
  RETURN_IF_ERROR(CheckPlace(path));
  ASSIGN_OR_RETURN(auto copy, InMemory(path));
  if (!FileExists(path)) return copy;
  // Without locks and in the exclusive mode SQLite keeps the index of the write-ahead log, which
  // is else a file beside it, in its own memory. Where there is no log it would make one.
  const bool has_log = FileExists(path + "-wal");
  const std::string name = UriOf(path) + (has_log ? "" : "?immutable=1");
  constexpr int kFlags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
  ASSIGN_OR_RETURN(const auto disk, OpenAs(name, kFlags, "unix-none", path));
  RETURN_IF_ERROR(disk->Execute("PRAGMA locking_mode=EXCLUSIVE"));
  RETURN_IF_ERROR(copy->CopyFrom(*disk));
  return copy;
}

Status Database::CopyFrom(Database& other) {
  sqlite3_backup* backup = sqlite3_backup_init(handle_, "main", other.handle_, "main");
  if (backup == nullptr) return Failure(sqlite3_errcode(handle_));
  (void)sqlite3_backup_step(backup, -1);  // the end tells how it went
  const int code = sqlite3_backup_finish(backup);
  if (code != SQLITE_OK) return Failure(code);
  return {};
}

Database::~Database() {
  for (const auto& [sql, statement] : prepared_) sqlite3_finalize(statement);
  sqlite3_close_v2(handle_);
}

Status Database::Configure() {
  sqlite3_extended_result_codes(handle_, 1);
  sqlite3_busy_timeout(handle_, kBusyTimeoutMs);
  sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  return Execute(
      "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON;"
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;");
}

Error Database::Failure(int code) const {
  // The connection's message belongs to its last failure; the code's own words serve where that is
  // another.
  const bool current = (sqlite3_errcode(handle_) & 0xFF) == (code & 0xFF);
  Code kind = CodeOf(code);
  // A file beside the database that does not fit is an I/O error to SQLite.
  if (kind == Code::kIo && ErrnoError(sqlite3_system_errno(handle_), "").code == Code::kNoSpace)
    kind = Code::kNoSpace;
  return Error{kind, path_ + ": " + (current ? sqlite3_errmsg(handle_) : sqlite3_errstr(code))};
}

Result<Statement> Database::Prepare(std::string_view sql) {
  const auto found = prepared_.find(sql);
  if (found != prepared_.end()) return Statement(this, found->second);
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return Failure(code);
  prepared_.emplace(sql, statement);
  return Statement(this, statement);
}

Status Database::Execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return Failure(code);
  return {};
}

Result<int64_t> Database::QueryInteger(std::string_view sql) {
  ASSIGN_OR_RETURN(Statement query, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, query.Step());
  return row ? query.Integer(0) : 0;
}

int64_t Database::TotalChanges() const { return sqlite3_total_changes64(handle_); }
int64_t Database::LastInsertId() const { return sqlite3_last_insert_rowid(handle_); }

Result<Transaction> Transaction::Begin(Database& database) {
  RETURN_IF_ERROR(database.Execute("BEGIN IMMEDIATE"));
  return Transaction(&database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
  // Fails where SQLite has rolled back by itself, as after a full disk; then there is nothing to
  // do.
  if (database_ != nullptr) (void)database_->Execute("ROLLBACK").has_value();
}

Status Transaction::Commit() {
  RETURN_IF_ERROR(database_->Execute("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace lamina
