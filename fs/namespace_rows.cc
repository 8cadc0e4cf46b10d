#include "fs/namespace_rows.h"

#include "base/text.h"

namespace lamina {
namespace {

// More keys than this are dropped together and learnt again.
constexpr size_t kMostKeys = 200'000;

}  // namespace

// --- RowTable

std::optional<uint32_t> RowTable::KnownRow(const std::string& key) const {
  MutexLock lock(mutex_);
  const auto at = rows_.find(key);
  if (at == rows_.end()) return std::nullopt;
  return at->second;
}

Result<uint32_t> RowTable::Row(const std::string& key) {
  if (auto known = KnownRow(key)) return *known;
  ASSIGN_OR_RETURN(const int64_t id, store_.NodeId(kind_, key));
  const auto row = CheckedRow(id);
  if (!row) return Error{Code::kLimit, "no node ids are left for " + Quote(key)};
  Remember(*row, key);
  return *row;
}

std::shared_ptr<const std::string> RowTable::KnownKey(uint32_t row) const {
  MutexLock lock(mutex_);
  const auto at = keys_.find(row);
  return at == keys_.end() ? nullptr : at->second;
}

Result<std::shared_ptr<const std::string>> RowTable::Key(uint32_t row) {
  if (auto known = KnownKey(row)) return known;
  ASSIGN_OR_RETURN(const std::string key, store_.NodeKey(kind_, row));
  return Remember(row, key);
}

std::shared_ptr<const std::string> RowTable::Remember(uint32_t row, const std::string& key) {
  auto shared = std::make_shared<const std::string>(key);
  MutexLock lock(mutex_);
  if (keys_.size() >= kMostKeys) {
    keys_.clear();
    rows_.clear();
  }
  rows_[key] = row;
  keys_[row] = shared;
  return shared;
}

// --- ImageTable

std::shared_ptr<const ImageRow> ImageTable::Find(uint32_t row) const {
  const Shard& shard = shards_[row % kShards];
  MutexLock lock(shard.mutex);
  const auto at = shard.rows.find(row);
  if (at == shard.rows.end()) return nullptr;
  // Written only when it changes, so that readers on several CPUs share the cache line.
  if (!at->second->used.load(std::memory_order_relaxed))
    at->second->used.store(true, std::memory_order_relaxed);
  return at->second;
}

void ImageTable::Put(uint32_t row, std::shared_ptr<const ImageRow> image) {
  Shard& shard = shards_[row % kShards];
  std::vector<std::shared_ptr<const ImageRow>> dropped;  // destroyed after the lock
  MutexLock lock(shard.mutex);
  if (shard.rows.size() >= kMostPerShard) {
    // Second chance: what nobody used since the last sweep goes.
    for (auto at = shard.rows.begin(); at != shard.rows.end();) {
      if (at->second->used.exchange(false)) {
        ++at;
      } else {
        dropped.push_back(std::move(at->second));
        at = shard.rows.erase(at);
      }
    }
  }
  auto& place = shard.rows[row];
  dropped.push_back(std::move(place));
  place = std::move(image);
}

void ImageTable::Remove(const Image& image) {
  std::vector<std::shared_ptr<const ImageRow>> dropped;  // destroyed after the locks
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (auto at = shard.rows.begin(); at != shard.rows.end();) {
      if (at->second->image.get() != &image) {
        ++at;
      } else {
        dropped.push_back(std::move(at->second));
        at = shard.rows.erase(at);
      }
    }
  }
}

// --- TextShelf

void TextShelf::Put(NodeId node, std::string text) {
  auto shared = std::make_shared<const std::string>(std::move(text));
  MutexLock lock(mutex_);
  if (!texts_.emplace(node, shared).second) return;
  order_.push_back(node);
  bytes_ += shared->size();
  while (bytes_ > kMostBytes && order_.size() > 1) {
    const auto oldest = texts_.find(order_.front());
    bytes_ -= oldest->second->size();
    texts_.erase(oldest);
    order_.pop_front();
  }
}

std::shared_ptr<const std::string> TextShelf::Find(NodeId node) const {
  MutexLock lock(mutex_);
  const auto at = texts_.find(node);
  return at == texts_.end() ? nullptr : at->second;
}

// --- ListingShelf

void ListingShelf::Put(NodeId directory, std::shared_ptr<const Listing> listing) {
  MutexLock lock(mutex_);
  std::erase_if(listings_, [&](const auto& kept) { return kept.first == directory; });
  if (listings_.size() >= kMost) listings_.pop_front();
  listings_.emplace_back(directory, std::move(listing));
}

std::shared_ptr<const Listing> ListingShelf::Find(NodeId directory) const {
  MutexLock lock(mutex_);
  for (const auto& [node, listing] : listings_)
    if (node == directory) return listing;
  return nullptr;
}

// --- HandedOut

void HandedOut::NoteEntry(NodeId parent, std::string_view name) {
  MutexLock lock(mutex_);
  // What is forgotten here ends with its time to live.
  if (entry_count_ >= kMost) {
    entries_.clear();
    entry_count_ = 0;
  }
  if (entries_[parent].emplace(name).second) ++entry_count_;
}

void HandedOut::DropEntry(NodeId parent, std::string_view name) {
  MutexLock lock(mutex_);
  const auto at = entries_.find(parent);
  if (at == entries_.end()) return;
  entry_count_ -= at->second.erase(std::string(name));
  if (at->second.empty()) entries_.erase(at);
}

void HandedOut::NoteDirectory(NodeId directory) {
  MutexLock lock(mutex_);
  if (directories_.size() >= kMost) directories_.clear();
  directories_.insert(directory);
}

HandedOut::Names HandedOut::Take() {
  Names names;
  MutexLock lock(mutex_);
  for (auto& [parent, entries] : entries_)
    for (const std::string& name : entries) names.entries.emplace_back(parent, name);
  names.directories.assign(directories_.begin(), directories_.end());
  entries_.clear();
  entry_count_ = 0;
  return names;
}

}  // namespace lamina
