#pragma once

// CacheBudget: how many bytes of disk the cache folder may take, in real blocks, and what goes when
// more is wanted: first whole layers that nobody has open, the one that was used longest ago first;
// then chunks of open layers, of the layer that was used longest ago those that were read least.
// Layers of pinned images stay. Whoever is about to write asks first, so that the folder never
// grows beyond its limit. Any thread; Reserve() works on local disk.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

// A layer that is open, of which single chunks can go.
class EvictableLayer {
 public:
  virtual ~EvictableLayer() = default;
  // Drops chunks of about `bytes`, or what there is, and tells its account. Chunks that were read
  // since the last call cool down by one step and stay. True where something was dropped.
  virtual bool Evict(uint64_t bytes) = 0;
  // Drops all chunks but those that somebody is getting at this moment, and tells its account.
  virtual void EvictAll() = 0;
};

class CacheBudget : public std::enable_shared_from_this<CacheBudget> {
 public:
  static constexpr uint64_t kUnlimited = ~uint64_t{0};

  // Measures what is in the folder, which may be absent. Nothing goes before Trim() or a Reserve().
  static std::shared_ptr<CacheBudget> Open(std::string folder, uint64_t limit);

  // What one layer's files take on disk, while somebody has them open.
  class Account {
   public:
    Account(std::shared_ptr<CacheBudget> budget, const Digest& layer);
    // The files stay behind with `kept` bytes (see Keep), or nothing does.
    ~Account();
    Account(const Account&) = delete;
    Account& operator=(const Account&) = delete;

    // Room for bytes that are about to be written; what is not settled is given back at the end.
    class Reservation {
     public:
      Reservation(Reservation&& other) noexcept
          : account_(std::exchange(other.account_, nullptr)), bytes_(other.bytes_) {}
      Reservation& operator=(Reservation&&) = delete;
      ~Reservation();
      // They are written, or are not going to be: `measure` tells what the files take now.
      void Settle(const std::function<uint64_t()>& measure);

     private:
      friend class Account;
      Reservation(Account* account, uint64_t bytes) : account_(account), bytes_(bytes) {}
      Account* account_;  // null once settled
      uint64_t bytes_;
    };
    // Makes room for `bytes` more and counts them. kLimit where nothing can go.
    Result<Reservation> Reserve(uint64_t bytes);
    // The files have changed: `measure` tells what they take now.
    void Settle(const std::function<uint64_t()>& measure) { Recount(0, measure); }
    // They have, by an eviction.
    void SettleEvicted(const std::function<uint64_t()>& measure) {
      budget_->evicted_ += Recount(0, measure);
    }
    // What was counted is still there when the account ends.
    void Keep() { keep_ = true; }
    // The layer was read.
    void Touch();
    // The data file that is counted here, by its inode. `layer` (may be absent) counts as evictable
    // from now on, as long as it lives; not where another account has the same file: what one of
    // them punched would be served by the other as zeros.
    void SetFile(uint64_t inode, std::weak_ptr<EvictableLayer> layer = {});

    // Nobody else had the same file open when it was told.
    bool HasFileAlone() const;

   private:
    friend class CacheBudget;
    // Bytes that there are less.
    uint64_t Recount(uint64_t reserved, const std::function<uint64_t()>& measure);

    const std::shared_ptr<CacheBudget> budget_;
    const std::string name_;  // of the layer's files
    Mutex mutex_;             // leaf
    uint64_t counted_ GUARDED_BY(mutex_) = 0;
    bool keep_ = false;
    std::atomic<uint64_t> used_at_{0};  // on the budget's clock
    std::atomic<int64_t> used_s_;       // wall clock
    // Under the budget's locks.
    uint64_t inode_ = 0;
    bool shared_ = false;  // another account has, or had, the same file
    std::weak_ptr<EvictableLayer> layer_;
  };

  // Down to the limit, for what an earlier process has left.
  void Trim();
  // Writes the times of the last reads to the data files that are open, for the order in which a
  // later process finds them; called now and then, for a process that is killed.
  void StampUses();

  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(); }  // with what is reserved
  uint64_t evicted_bytes() const { return evicted_.load(); }
  // Of the layers, by Digest::PathName(), nothing goes.
  void SetPinned(std::set<std::string> layers);
  bool IsPinned(const std::string& layer) const;
  // Removes what is kept of a layer, by Digest::PathName(), whether it is open or not; of an open
  // one the chunks, so that its readers go on. Pinned ones too.
  void Clear(const std::string& layer);
  // Removes the files of a layer that nobody has open. The bytes that were freed.
  uint64_t RemoveClosed(const std::string& layer);

 private:
  struct Files {
    uint64_t bytes = 0;
    uint64_t used_at = 0;
    uint64_t inode = 0;  // of the data file
  };

  CacheBudget(std::string folder, uint64_t limit) : folder_(std::move(folder)), limit_(limit) {}
  void Scan();
  void StampUse(const std::string& name, int64_t second) const;
  Status MakeRoom() EXCLUDES(evicting_);
  bool EvictClosed() REQUIRES(evicting_);
  std::vector<std::string> ClosedColdestFirst();
  // Takes it out of what is counted; 0 where it was not there or has other files by now, nothing
  // where the disk does not let the files go.
  std::optional<uint64_t> Remove(const std::string& name) REQUIRES(evicting_);
  bool RemoveFiles(const std::string& name) const;
  std::shared_ptr<EvictableLayer> OpenLayer(const std::string& name);
  bool EvictOpen(uint64_t bytes) REQUIRES(evicting_);
  std::vector<std::shared_ptr<EvictableLayer>> ColdestFirst();
  std::string DataPath(const std::string& name) const;
  void ForgetClosed(const Account& account) REQUIRES(mutex_);
  uint64_t Now() { return clock_.fetch_add(1, std::memory_order_relaxed); }

  const std::string folder_;
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> evicted_{0};
  std::atomic<uint64_t> clock_{1};  // counts what is written: time does not pass for an idle cache
  // One evicts at a time, or each would for all. Held over local I/O, taken before mutex_, and not
  // by what an eviction may set free.
  Mutex evicting_;
  mutable Mutex mutex_;  // leaf
  std::map<std::string, Files> closed_ GUARDED_BY(mutex_);
  std::set<Account*> open_ GUARDED_BY(mutex_);
  std::set<std::string> pinned_ GUARDED_BY(mutex_);
};

// Bytes of "20G", "512M", "1.5GiB" (powers of 1024), "10%" of the disk that holds `folder`, or
// "none" for no limit; kInvalid otherwise. Empty: the smaller of 20 GiB and a tenth of the disk.
Result<uint64_t> CacheLimit(const std::string& text, const std::string& folder);
// "20.0 GiB", or "none".
std::string CacheLimitText(uint64_t limit);

}  // namespace lamina
