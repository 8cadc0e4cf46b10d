#pragma once

// Thin RAII over SQLite's C interface, whose header stays in sqlite.cc. A Database has one
// connection and belongs to whoever holds the lock around it: nothing here locks. Errors carry the
// path and SQLite's words; kCorrupt means exactly that the file is damaged or is no database.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace lamina {

class Database;

// One run of a prepared statement; the statement goes back to its database when this ends.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  // Binds the next parameters, in order. What is bound lives until the statement ends.
  Statement& Bind(std::string_view text);
  Statement& Bind(int64_t number);
  Statement& BindBlob(std::string_view bytes);

  // True: a row is there. False: done.
  Result<bool> Step();
  // Runs to the end, for statements whose rows do not matter.
  Status Run();

  // Columns of the row, from 0.
  int64_t Integer(int column) const;
  std::string Text(int column) const;  // of texts and blobs

 private:
  friend class Database;
  Statement(Database* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}
  Database* database_;
  sqlite3_stmt* statement_;
  int bound_ = 0;
  int failure_ = 0;  // the first result code of a failed bind, told by Step()
};

class Database {
 public:
  // Opens or makes the file, 0600, and sets the pragmas of docs/formats-store.md.
  static Result<std::unique_ptr<Database>> Open(const std::string& path);
  // What the file holds, with what its write-ahead log adds, copied into memory; empty where there
  // is no file. Neither is written, nor is anything beside them: they may lie on a read-only disk.
  // For who knows that nobody writes to them meanwhile. Changes end with the object.
  static Result<std::unique_ptr<Database>> OpenCopy(const std::string& path);
  // An empty one; `path` is for messages.
  static Result<std::unique_ptr<Database>> InMemory(const std::string& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // `sql` is one statement in a literal; it is prepared once and kept. Only one run of it at a
  // time.
  Result<Statement> Prepare(std::string_view sql);
  // Any number of statements without parameters; not kept.
  Status Execute(const std::string& sql);
  // The first column of the first row of `sql`; 0 where there is none.
  Result<int64_t> QueryInteger(std::string_view sql);
  // Rows that were changed since it was opened.
  int64_t TotalChanges() const;
  int64_t LastInsertId() const;
  const std::string& path() const { return path_; }

 private:
  friend class Statement;
  Database(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
  static Result<std::unique_ptr<Database>> OpenAs(const std::string& name, int flags,
                                                  const char* vfs, const std::string& path);
  Status Configure();
  Status CopyFrom(Database& other);
  Error Failure(int code) const;

  sqlite3* handle_;
  const std::string path_;
  std::map<std::string, sqlite3_stmt*, std::less<>> prepared_;
};

// BEGIN IMMEDIATE; rolls back unless committed.
class Transaction {
 public:
  static Result<Transaction> Begin(Database& database);
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Status Commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;  // null once committed or moved from
};

}  // namespace lamina
