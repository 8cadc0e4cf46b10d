// What the store knows of what is kept and why: pins, when images were used, the documents.

#include "base/clock.h"
#include "index/store_impl.h"
#include "index/store_rows.h"

namespace lamina {
namespace {

// How exactly it is known when an image was used last.
constexpr int64_t kHourNs = int64_t{3600} * 1'000'000'000;

}  // namespace

Status Store::PutPin(const PinRow& row) {
  const std::string digest = row.digest.ToString();
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement insert,
                     database.Prepare("INSERT OR REPLACE INTO"
                                      " pin(repository, digest, reference, made_ns)"
                                      " VALUES(?, ?, ?, ?)"));
    insert.Bind(row.repository).Bind(digest).Bind(row.reference).Bind(row.made_ns);
    RETURN_IF_ERROR(insert.Run());
    ++impl_->namings;
    return {};
  });
}

Status Store::RemovePin(const std::string& repository, const Digest& digest) {
  const std::string name = digest.ToString();
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement remove,
                     database.Prepare("DELETE FROM pin WHERE repository=? AND digest=?"));
    return remove.Bind(repository).Bind(name).Run();
  });
}

Result<std::vector<Store::PinRow>> Store::Pins() {
  return impl_->With([](Database& database) -> Result<std::vector<PinRow>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT repository, digest, reference, made_ns FROM pin"
                                      " ORDER BY repository, made_ns, digest"));
    return CollectRows<PinRow>(select, [](const Statement& row) -> std::optional<PinRow> {
      const auto digest = Digest::Parse(row.Text(1));
      if (!digest) return std::nullopt;
      return PinRow{row.Text(0), *digest, row.Text(2), row.Integer(3)};
    });
  });
}

Result<std::vector<Store::PinnedImage>> Store::PinnedImages() {
  return impl_->With([](Database& database) -> Result<std::vector<PinnedImage>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT target_repository, target_digest FROM alias"
                                      " WHERE target_tag='' UNION"
                                      " SELECT repository, digest FROM pin ORDER BY 1, 2"));
    return CollectRows<PinnedImage>(select, [](const Statement& row) -> std::optional<PinnedImage> {
      const auto digest = Digest::Parse(row.Text(1));
      if (!digest) return std::nullopt;
      return PinnedImage{row.Text(0), *digest};
    });
  });
}

Status Store::RecordImage(const std::string& repository, const Digest& digest, int64_t now_ns) {
  const std::string name = digest.ToString();
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement insert,
                     database.Prepare("INSERT INTO image(repository, digest, first_ns, used_ns)"
                                      " VALUES(?1, ?2, ?3, ?3) ON CONFLICT DO UPDATE"
                                      " SET used_ns=?3 WHERE used_ns<?4"));
    const int64_t before = database.TotalChanges();
    RETURN_IF_ERROR(insert.Bind(repository).Bind(name).Bind(now_ns).Bind(now_ns - kHourNs).Run());
    if (database.TotalChanges() != before) ++impl_->namings;
    return {};
  });
}

Result<std::vector<Digest>> Store::NamedImages(int64_t since_ns) {
  return impl_->With([&](Database& database) -> Result<std::vector<Digest>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT digest FROM tag_history WHERE seen_ns>=?1"
                                      " OR id IN (SELECT max(id) FROM tag_history"
                                      " GROUP BY repository, tag)"
                                      " UNION SELECT digest FROM local_name"
                                      " UNION SELECT target_digest FROM alias WHERE target_tag=''"
                                      " UNION SELECT digest FROM pin"
                                      " UNION SELECT digest FROM image, began"
                                      " WHERE max(used_ns, began_ns)>=?1"));
    select.Bind(since_ns);
    return CollectRows<Digest>(select, [](const Statement& row) -> std::optional<Digest> {
      auto digest = Digest::Parse(row.Text(0));
      return digest ? std::optional(*digest) : std::nullopt;
    });
  });
}

Result<std::vector<Store::KnownImage>> Store::KnownImages() {
  return impl_->With([](Database& database) -> Result<std::vector<KnownImage>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT repository, digest, max(used_ns, began_ns)"
                                      " FROM image, began ORDER BY 1, 2"));
    return CollectRows<KnownImage>(select, [](const Statement& row) -> std::optional<KnownImage> {
      const auto digest = Digest::Parse(row.Text(1));
      if (!digest) return std::nullopt;
      return KnownImage{row.Text(0), *digest, row.Integer(2)};
    });
  });
}

Result<std::vector<Store::KnownDocument>> Store::KnownDocuments() {
  return impl_->With([](Database& database) -> Result<std::vector<KnownDocument>> {
    ASSIGN_OR_RETURN(Statement select,
                     database.Prepare("SELECT digest, length(bytes), max(kept_ns, began_ns)"
                                      " FROM document, began ORDER BY 1"));
    return CollectRows<KnownDocument>(
        select, [](const Statement& row) -> std::optional<KnownDocument> {
          const auto digest = Digest::Parse(row.Text(0));
          if (!digest) return std::nullopt;
          return KnownDocument{*digest, static_cast<uint64_t>(row.Integer(1)), row.Integer(2)};
        });
  });
}

Status Store::RemoveImage(const KnownImage& image) {
  const std::string digest = image.digest.ToString();
  return impl_->With([&](Database& database) -> Status {
    // Names may have come since the row was read.
    ASSIGN_OR_RETURN(
        Statement remove,
        database.Prepare(std::string("DELETE FROM image WHERE repository=? AND digest=?"
                                     " AND used_ns<=?"
                                     " AND NOT EXISTS (SELECT 1 FROM tag_history h"
                                     " WHERE h.repository=image.repository"
                                     " AND h.digest=image.digest AND h.id IN"
                                     " (SELECT max(id) FROM tag_history"
                                     " WHERE repository=image.repository GROUP BY tag))"
                                     " AND NOT EXISTS (SELECT 1 FROM local_name n"
                                     " WHERE n.repository=image.repository"
                                     " AND n.digest=image.digest)") +
                         kImageIsNotPinned));
    return remove.Bind(image.repository).Bind(digest).Bind(image.used_ns).Run();
  });
}

Status Store::RemoveDocument(const KnownDocument& document) {
  const std::string digest = document.digest.ToString();
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Statement remove,
                     database.Prepare("DELETE FROM document WHERE digest=? AND kept_ns<=?"
                                      " AND digest NOT IN (SELECT digest FROM pin"
                                      " UNION SELECT target_digest FROM alias"
                                      " WHERE target_tag='')"));
    return remove.Bind(digest).Bind(document.kept_ns).Run();
  });
}

Status Store::BoundTimes(int64_t now_ns, int64_t latest_ns) {
  return impl_->With([&](Database& database) -> Status {
    ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(database));
    for (const char* statement : {"UPDATE began SET began_ns=?1 WHERE began_ns>?2",
                                  "UPDATE image SET used_ns=?1 WHERE used_ns>?2",
                                  "UPDATE document SET kept_ns=?1 WHERE kept_ns>?2",
                                  "UPDATE tag_history SET seen_ns=?1 WHERE seen_ns>?2"}) {
      ASSIGN_OR_RETURN(Statement update, database.Prepare(statement));
      RETURN_IF_ERROR(update.Bind(now_ns).Bind(latest_ns).Run());
    }
    return transaction.Commit();
  });
}

uint64_t Store::Namings() const { return impl_->namings; }

Result<int64_t> Store::BeganNs() {
  return impl_->With([](Database& database) -> Result<int64_t> {
    return database.QueryInteger("SELECT max(began_ns) FROM began");
  });
}

}  // namespace lamina
