#include "index/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/clock.h"
#include "base/errno.h"
#include "base/file.h"
#include "base/text.h"
#include "index/store_impl.h"
#include "index/store_schema.h"

namespace lamina {
namespace {

// Ids remembered in memory: enough for every image of a busy machine, a few MiB.
constexpr size_t kRememberedNodes = 65'536;

// 2023-11-14. A database that takes the place of a corrupt one begins its node ids at the seconds
// since then. The lost one began at least as low and did not hand out an id every second, so no id
// that the kernel may still hold from it comes to name something else.
constexpr int64_t kNodeEpochSeconds = 1'700'000'000;

constexpr const char* kSelectNode = "SELECT id FROM node WHERE kind=? AND key=?";
constexpr const char* kInsertNode = "INSERT INTO node(kind, key) VALUES(?, ?)";
constexpr const char* kSelectLastNode = "SELECT seq FROM sqlite_sequence WHERE name='node'";

}  // namespace

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::Open(const std::string& path) {
  return OpenAs(std::make_unique<Impl>(path, /*is_in_memory=*/false));
}

Result<std::unique_ptr<Store>> Store::OpenInMemory(const std::string& path) {
  return OpenAs(std::make_unique<Impl>(path, /*is_in_memory=*/true));
}

Result<std::unique_ptr<Store>> Store::OpenAs(std::unique_ptr<Impl> impl) {
  RETURN_IF_ERROR(impl->With([](Database&) -> Status { return {}; }));
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Status Store::Impl::OpenDatabase(std::string* warning) {
  ASSIGN_OR_RETURN(database, in_memory ? Database::OpenCopy(path) : Database::Open(path));
  Status prepared = Prepare(warning);
  if (prepared && restores) prepared = RestoreNodes();
  if (prepared) restores = false;
  if (!prepared) database.reset();
  return prepared;
}

Status Store::Impl::Prepare(std::string* warning) {
  RETURN_IF_ERROR(PrepareSchema(*database, warning));
  // What an earlier copy in memory handed out is lost.
  if (in_memory) RETURN_IF_ERROR(RaiseNodeIds(*database));
  ASSIGN_OR_RETURN(const int64_t last, database->QueryInteger(kSelectLastNode));
  largest_node = std::max(largest_node, last);
  return {};
}

Status Store::Impl::OpenOrRebuild(std::string* warning) {
  // The statements that open a store are always the same, so one that SQLite cannot run (kInternal:
  // "unsupported file format") tells of the file as well.
  const auto is_damage = [](const Status& opened) {
    return !opened &&
           (opened.error().code == Code::kCorrupt || opened.error().code == Code::kInternal);
  };
  Status opened = OpenDatabase(warning);
  if (is_damage(opened)) opened = OpenDatabase(warning);  // see WithLocked()
  if (!is_damage(opened)) return opened;
  return Rebuild(opened.error(), warning);
}

Status Store::Impl::Rebuild(const Error& reason, std::string* warning) {
  database.reset();
  if (in_memory) {
    *warning = fmt::format("the store is damaged and begun anew in memory: {}", reason.message);
    ASSIGN_OR_RETURN(database, Database::InMemory(path));
    RETURN_IF_ERROR(PrepareSchema(*database, warning));
    return RestoreNodes();
  }
  ASSIGN_OR_RETURN(const std::string aside, SetAside());
  *warning = fmt::format("the store is damaged, set aside as {} and begun anew: {}", aside,
                         reason.message);
  restores = true;
  return OpenDatabase(warning);
}

// Moves the database and the files beside it to <path>.corrupt-<time>[.N]. The write-ahead log goes
// first: a new database must never find the old one's.
Result<std::string> Store::Impl::SetAside() {
  const std::string stem = path + ".corrupt-" + Rfc3339(WallClock::System().NowNs());
  std::string aside = stem;
  for (int serial = 1; FileExists(aside); ++serial) aside = fmt::format("{}.{}", stem, serial);
  for (const char* suffix : {"-wal", "-shm", ""}) {
    const std::string from = path + suffix;
    if (std::rename(from.c_str(), (aside + suffix).c_str()) != 0 && errno != ENOENT)
      return ErrnoError(errno, "cannot set aside " + from);
  }
  return aside;
}

// --- nodes ---------------------------------------------------------------------------------------

// New ids are above all that were handed out and got lost.
Status Store::Impl::RaiseNodeIds(Database& of) const {
  const int64_t by_time = WallClock::System().NowNs() / 1'000'000'000 - kNodeEpochSeconds;
  const int64_t floor = std::max({by_time, largest_node, int64_t{0}});
  // The row is there as soon as a node was ever made.
  ASSIGN_OR_RETURN(Statement raise,
                   of.Prepare("UPDATE sqlite_sequence SET seq=max(seq, ?) WHERE name='node'"));
  RETURN_IF_ERROR(raise.Bind(floor).Run());
  ASSIGN_OR_RETURN(Statement sequence,
                   of.Prepare("INSERT INTO sqlite_sequence(name, seq) SELECT 'node', ?1"
                              " WHERE NOT EXISTS"
                              " (SELECT 1 FROM sqlite_sequence WHERE name='node')"));
  return sequence.Bind(floor).Run();
}

Status Store::Impl::RestoreNodes() {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database));
  RETURN_IF_ERROR(RaiseNodeIds(*database));
  for (const auto& [name, id] : nodes) RETURN_IF_ERROR(InsertNode(*database, name, id));
  return transaction.Commit();
}

Status Store::Impl::InsertNode(Database& into, const NodeName& name, int64_t id) {
  ASSIGN_OR_RETURN(Statement insert,
                   into.Prepare("INSERT OR IGNORE INTO node(id, kind, key) VALUES(?, ?, ?)"));
  return insert.Bind(id).Bind(int64_t{name.first}).Bind(name.second).Run();
}

// With those that the disk did not take before.
Result<int64_t> Store::Impl::MakeNode(Database& in, const NodeName& name) {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(in));
  for (const auto& [earlier, id] : unsaved) RETURN_IF_ERROR(InsertNode(in, earlier, id));
  ASSIGN_OR_RETURN(Statement insert, in.Prepare(kInsertNode));
  RETURN_IF_ERROR(insert.Bind(int64_t{name.first}).Bind(name.second).Run());
  const int64_t id = in.LastInsertId();
  RETURN_IF_ERROR(transaction.Commit());
  unsaved.clear();
  return id;
}

Result<int64_t> Store::Impl::NodeInMemory(const NodeName& name, const Error& reason) {
  if (const auto known = unsaved.find(name); known != unsaved.end()) return known->second;
  const bool refused = reason.code == Code::kNoSpace || reason.code == Code::kIo;
  if (!refused || unsaved.size() >= kRememberedNodes) return reason;
  return unsaved.emplace(name, largest_node + 1).first->second;
}

void Store::Impl::RememberNode(const NodeName& name, int64_t id) {
  if (nodes.size() >= kRememberedNodes) nodes.clear();
  nodes.emplace(name, id);
  largest_node = std::max(largest_node, id);
}

Result<int64_t> Store::NodeId(NodeKind kind, const std::string& key) {
  const Impl::NodeName name(static_cast<int>(kind), key);
  {
    MutexLock lock(impl_->mutex);
    const auto known = impl_->nodes.find(name);
    if (known != impl_->nodes.end()) return known->second;
  }
  const auto find_or_make = [&](Database& database) -> Result<int64_t> {
    ASSIGN_OR_RETURN(Statement select, database.Prepare(kSelectNode));
    ASSIGN_OR_RETURN(const bool found, select.Bind(int64_t{name.first}).Bind(key).Step());
    const int64_t known = found ? select.Integer(0) : 0;
    impl_->mutex.AssertHeld();
    ASSIGN_OR_RETURN(const int64_t id, found ? known : impl_->MakeNode(database, name));
    // At once, or somebody who finds the disk full meanwhile would give the same id to another.
    impl_->RememberNode(name, id);
    return id;
  };
  auto id = impl_->With(find_or_make);
  if (id) return id;
  MutexLock lock(impl_->mutex);
  if (const auto known = impl_->nodes.find(name); known != impl_->nodes.end()) return known->second;
  id = impl_->NodeInMemory(name, id.error());
  if (id) impl_->RememberNode(name, *id);
  return id;
}

Result<std::string> Store::NodeKey(NodeKind kind, int64_t id) {
  {
    MutexLock lock(impl_->mutex);
    for (const auto& [name, unsaved] : impl_->unsaved)
      if (unsaved == id && name.first == static_cast<int>(kind)) return name.second;
  }
  return impl_->With([&](Database& database) -> Result<std::string> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT key FROM node WHERE id=? AND kind=?"));
    ASSIGN_OR_RETURN(const bool found, select.Bind(id).Bind(static_cast<int64_t>(kind)).Step());
    if (!found) return Error{Code::kNotFound, fmt::format("the store has no node {}", id)};
    return select.Text(0);
  });
}

Status Store::PutDocument(const Digest& digest, const std::string& media_type,
                          const std::string& bytes) {
  if (Digest::Of(AsBytes(bytes), digest.algorithm()) != digest)
    return Error{Code::kCorrupt, "a document of " + HumanSize(bytes.size()) +
                                     " is not what its digest names: " + digest.ToString()};
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement insert,
                     database.Prepare("INSERT INTO document(digest, media_type, bytes, kept_ns)"
                                      " VALUES(?1, ?2, ?3, ?4) ON CONFLICT(digest) DO UPDATE SET"
                                      " bytes=excluded.bytes, kept_ns=excluded.kept_ns,"
                                      " media_type=CASE media_type"
                                      " WHEN excluded.media_type THEN media_type ELSE '' END"));
    const std::string name = digest.ToString();
    insert.Bind(name).Bind(media_type).BindBlob(bytes);
    return insert.Bind(WallClock::System().NowNs()).Run();
  });
}

Result<std::optional<Store::StoredDocument>> Store::GetDocument(const Digest& digest) {
  using Found = std::optional<StoredDocument>;
  const std::string name = digest.ToString();
  const auto select_document = [&](Database& database) -> Result<Found> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT media_type, bytes FROM document WHERE digest=?"));
    ASSIGN_OR_RETURN(const bool found, select.Bind(name).Step());
    if (!found) return Found();
    return Found(StoredDocument{select.Text(0), select.Text(1)});
  };
  ASSIGN_OR_RETURN(Found document, impl_->With(select_document));
  if (!document || Digest::Of(AsBytes(document->bytes), digest.algorithm()) == digest)
    return document;
  LogWarning("a document in the store is rotten and is dropped: " + name);
  const auto drop_document = [&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement remove, database.Prepare("DELETE FROM document WHERE digest=?"));
    RETURN_IF_ERROR(remove.Bind(name).Run());
    // What it named is not known any more: for the collector of garbage everything is new.
    ASSIGN_OR_RETURN(Statement began, database.Prepare("UPDATE began SET began_ns=?"));
    return began.Bind(WallClock::System().NowNs()).Run();
  };
  RETURN_IF_ERROR(impl_->With(drop_document));
  return Found();
}

}  // namespace lamina
