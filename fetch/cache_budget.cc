#include "fetch/cache_budget.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <new>
#include <optional>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

namespace lamina {
namespace {

constexpr std::string_view kData = ".data";
constexpr std::string_view kMap = ".map";
// So much goes at once at least, so that not every chunk that comes has to look for another.
constexpr uint64_t kLeastEvicted = 4u << 20;
// So often is every open layer asked before the cache counts as full: each time what was read has
// cooled down by a step.
constexpr int kRounds = 5;
constexpr uint64_t kMostByDefault = uint64_t{20} << 30;

// All zeros where it is not there.
struct stat StatOf(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return {};
  return st;
}

uint64_t BlocksOf(const struct stat& st) { return static_cast<uint64_t>(st.st_blocks) * 512; }

std::optional<uint64_t> DiskBytes(std::string folder) {
  struct statvfs disk {};
  while (::statvfs(folder.c_str(), &disk) != 0) {
    if (folder == "/" || folder.empty()) return std::nullopt;
    folder = std::filesystem::path(folder).parent_path().string();
  }
  return disk.f_blocks * disk.f_frsize;
}

}  // namespace

// --- what is there

std::shared_ptr<CacheBudget> CacheBudget::Open(std::string folder, uint64_t limit) {
  std::shared_ptr<CacheBudget> budget(new CacheBudget(std::move(folder), limit));
  budget->Scan();
  return budget;
}

void CacheBudget::Trim() {
  if (Status room = MakeRoom(); !room) LogWarning(room.error().message);
}

// Whatever else lies in the folder is not ours.
void CacheBudget::Scan() {
  struct Found {
    int64_t modified_ns = 0;
    uint64_t bytes = 0;
    uint64_t inode = 0;
    std::string name;
  };
  std::vector<Found> found;
  std::error_code ignored;
  for (const auto& item : std::filesystem::directory_iterator(folder_, ignored)) {
    const std::string path = item.path().string();
    if (!path.ends_with(kData)) continue;
    const std::string stem = path.substr(0, path.size() - kData.size());
    const struct stat data = StatOf(path);
    const struct stat map = StatOf(stem + std::string(kMap));
    found.push_back({.modified_ns = data.st_mtim.tv_sec * 1'000'000'000 + data.st_mtim.tv_nsec,
                     .bytes = BlocksOf(data) + BlocksOf(map),
                     .inode = data.st_ino,
                     .name = stem.substr(stem.rfind('/') + 1)});
  }
  std::ranges::sort(found, {}, &Found::modified_ns);
  MutexLock lock(mutex_);
  for (Found& files : found) {
    used_ += files.bytes;
    closed_[std::move(files.name)] = {files.bytes, Now(), files.inode};
  }
}

void CacheBudget::SetPinned(std::set<std::string> layers) {
  MutexLock lock(mutex_);
  pinned_ = std::move(layers);
}

bool CacheBudget::IsPinned(const std::string& layer) const {
  MutexLock lock(mutex_);
  return pinned_.contains(layer);
}

// --- what goes

Status CacheBudget::MakeRoom() {
  while (used_.load() > limit_) {
    MutexLock lock(evicting_);
    const uint64_t used = used_.load();  // others may have made room meanwhile
    if (used <= limit_) return {};
    if (!EvictClosed() && !EvictOpen(std::max(kLeastEvicted, used - limit_)) &&
        used_.load() > limit_)
      return Error{
          Code::kLimit,
          fmt::format(
              "the cache has its limit of {}, and what is in it is pinned, in use or cannot "
              "be removed",
              HumanSize(limit_))};
  }
  return {};
}

std::string CacheBudget::DataPath(const std::string& name) const {
  return fmt::format("{}/{}{}", folder_, name, kData);
}

std::vector<std::string> CacheBudget::ClosedColdestFirst() {
  std::vector<std::pair<uint64_t, std::string>> found;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, files] : closed_)
      if (!pinned_.contains(name)) found.emplace_back(files.used_at, name);
  }
  std::ranges::sort(found);
  std::vector<std::string> names;
  for (auto& item : found) names.push_back(std::move(item.second));
  return names;
}

// Its files may be opened meanwhile: whoever opens them finds none, or files without a name, which
// serve until they are closed. Files that took the place of those that were counted stay. What the
// disk does not let go stays counted, and the next one goes.
bool CacheBudget::EvictClosed() {
  for (const std::string& name : ClosedColdestFirst()) {
    const std::optional<uint64_t> freed = Remove(name);
    if (!freed) continue;
    evicted_ += *freed;
    return true;
  }
  return false;
}

std::optional<uint64_t> CacheBudget::Remove(const std::string& name) {
  Files files;
  {
    MutexLock lock(mutex_);
    const auto at = closed_.find(name);
    if (at == closed_.end()) return 0;
    files = at->second;
  }
  const bool same = StatOf(DataPath(name)).st_ino == files.inode;
  if (same && !RemoveFiles(name)) return std::nullopt;
  MutexLock lock(mutex_);
  const auto at = closed_.find(name);
  if (at == closed_.end() || at->second.inode != files.inode) return 0;  // replaced
  used_ -= at->second.bytes;
  closed_.erase(at);
  return same ? files.bytes : 0;
}

// The map goes first, so that no map ever stands beside data of another making.
bool CacheBudget::RemoveFiles(const std::string& name) const {
  const auto is_gone = [](const std::string& path) {
    return ::unlink(path.c_str()) == 0 || errno == ENOENT;
  };
  return is_gone(fmt::format("{}/{}{}", folder_, name, kMap)) && is_gone(DataPath(name));
}

uint64_t CacheBudget::RemoveClosed(const std::string& layer) {
  MutexLock lock(evicting_);
  return Remove(layer).value_or(0);
}

std::shared_ptr<EvictableLayer> CacheBudget::OpenLayer(const std::string& name) {
  MutexLock lock(mutex_);
  for (const Account* account : open_)
    if (account->name_ == name && !account->shared_)
      if (auto layer = account->layer_.lock()) return layer;
  return nullptr;
}

void CacheBudget::Clear(const std::string& layer) {
  std::shared_ptr<EvictableLayer> open;  // may be the last to hold it: released without the lock
  MutexLock lock(evicting_);
  (void)Remove(layer).has_value();
  open = OpenLayer(layer);
  if (open) open->EvictAll();
}

bool CacheBudget::EvictOpen(uint64_t bytes) {
  for (int round = 0; round < kRounds; ++round)
    for (const auto& layer : ColdestFirst())
      if (layer->Evict(bytes)) return true;
  return false;
}

std::vector<std::shared_ptr<EvictableLayer>> CacheBudget::ColdestFirst() {
  std::vector<std::pair<uint64_t, std::shared_ptr<EvictableLayer>>> found;
  {
    MutexLock lock(mutex_);
    for (Account* account : open_) {
      if (account->shared_ || pinned_.contains(account->name_)) continue;
      // What is locked here outlives the lock: it may be the last to hold its layer.
      if (auto layer = account->layer_.lock())
        found.emplace_back(account->used_at_.load(), std::move(layer));
    }
  }
  std::ranges::sort(found, {}, [](const auto& item) { return item.first; });
  std::vector<std::shared_ptr<EvictableLayer>> layers;
  for (auto& item : found) layers.push_back(std::move(item.second));
  return layers;
}

// --- accounts

CacheBudget::Account::Account(std::shared_ptr<CacheBudget> budget, const Digest& layer)
    : budget_(std::move(budget)), name_(layer.PathName()), used_s_(::time(nullptr)) {
  used_at_ = budget_->Now();
  MutexLock lock(budget_->mutex_);
  budget_->open_.insert(this);
}

CacheBudget::Account::~Account() {
  uint64_t counted = 0;
  {
    MutexLock lock(mutex_);
    counted = counted_;
  }
  if (keep_) budget_->StampUse(name_, used_s_.load());
  MutexLock lock(budget_->mutex_);
  budget_->open_.erase(this);
  const bool others = std::ranges::any_of(
      budget_->open_, [this](const Account* other) { return other->inode_ == inode_; });
  if (!keep_ || others) {  // the others count the file themselves
    budget_->used_ -= counted;
    return;
  }
  try {
    Files& files = budget_->closed_[name_];
    budget_->used_ -= files.bytes;  // of files that these have replaced
    files = {counted, used_at_.load(), inode_};
  } catch (const std::bad_alloc&) {
    // Nothing knows of the files until the next start; their bytes stay counted.
  }
}

void CacheBudget::Account::SetFile(uint64_t inode, std::weak_ptr<EvictableLayer> layer) {
  MutexLock evicting(budget_->evicting_);
  MutexLock lock(budget_->mutex_);
  for (Account* other : budget_->open_) {
    if (other == this || other->inode_ != inode) continue;
    shared_ = true;
    other->shared_ = true;
  }
  inode_ = inode;
  layer_ = std::move(layer);
  budget_->ForgetClosed(*this);
}

// An entry of the file that the account counts now, or of one that is not there any more.
void CacheBudget::ForgetClosed(const Account& account) {
  const auto at = closed_.find(account.name_);
  if (at == closed_.end()) return;
  const uint64_t inode = at->second.inode;
  if (inode != account.inode_ && inode == StatOf(DataPath(account.name_)).st_ino) return;
  used_ -= at->second.bytes;
  closed_.erase(at);
}

bool CacheBudget::Account::HasFileAlone() const {
  MutexLock lock(budget_->mutex_);
  return !shared_;
}

Result<CacheBudget::Account::Reservation> CacheBudget::Account::Reserve(uint64_t bytes) {
  if (bytes > budget_->limit_)  // nothing that went would help
    return Error{Code::kLimit, fmt::format("{} do not fit in the cache's limit of {}",
                                           HumanSize(bytes), HumanSize(budget_->limit_))};
  budget_->used_ += bytes;
  used_at_.store(budget_->Now(), std::memory_order_relaxed);
  Reservation room(this, bytes);
  RETURN_IF_ERROR(budget_->MakeRoom());
  return room;
}

CacheBudget::Account::Reservation::~Reservation() {
  if (account_ != nullptr) account_->budget_->used_ -= bytes_;
}

void CacheBudget::Account::Reservation::Settle(const std::function<uint64_t()>& measure) {
  account_->Recount(bytes_, measure);
  account_ = nullptr;
}

// Measured under the lock, or one who measured earlier could settle later.
uint64_t CacheBudget::Account::Recount(uint64_t reserved,
                                       const std::function<uint64_t()>& measure) {
  MutexLock lock(mutex_);
  const uint64_t now = measure();
  const uint64_t before = std::exchange(counted_, now);
  budget_->used_ += now;
  budget_->used_ -= before + reserved;
  return before > now ? before - now : 0;
}

void CacheBudget::Account::Touch() {
  const uint64_t now = budget_->clock_.load(std::memory_order_relaxed);
  if (used_at_.load(std::memory_order_relaxed) != now)
    used_at_.store(now, std::memory_order_relaxed);
  const int64_t second = ::time(nullptr);
  if (used_s_.load(std::memory_order_relaxed) != second)
    used_s_.store(second, std::memory_order_relaxed);
}

// Writing and punching holes change the time as well, so that it is set although nobody has read.
void CacheBudget::StampUse(const std::string& name, int64_t second) const {
  const timespec times[2] = {{0, UTIME_OMIT}, {second, 0}};
  (void)::utimensat(AT_FDCWD, DataPath(name).c_str(), times, AT_SYMLINK_NOFOLLOW);
}

void CacheBudget::StampUses() {
  std::vector<std::pair<std::string, int64_t>> used;
  {
    MutexLock lock(mutex_);
    for (const Account* account : open_)
      if (account->inode_ != 0) used.emplace_back(account->name_, account->used_s_.load());
  }
  for (const auto& [name, second] : used) StampUse(name, second);
}

// --- the limit

Result<uint64_t> CacheLimit(const std::string& text, const std::string& folder) {
  const std::optional<uint64_t> disk = DiskBytes(folder);
  if (text.empty()) return std::min(kMostByDefault, disk.value_or(kMostByDefault * 10) / 10);
  if (text == "none") return CacheBudget::kUnlimited;
  const Error wrong{Code::kInvalid, Quote(text) + " is no size: use 20G, 512M, 10% or none"};
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number) || number < 0) return wrong;
  std::string unit(rest, text.data() + text.size());
  std::ranges::transform(unit, unit.begin(), [](unsigned char c) { return std::tolower(c); });
  if (unit == "%") {
    if (number > 100 || !disk) return wrong;
    return static_cast<uint64_t>(static_cast<double>(*disk) * number / 100);
  }
  static const std::map<std::string, int> kShifts = {
      {"", 0},     {"b", 0},  {"k", 10},  {"kb", 10},  {"kib", 10}, {"m", 20},  {"mb", 20},
      {"mib", 20}, {"g", 30}, {"gb", 30}, {"gib", 30}, {"t", 40},   {"tb", 40}, {"tib", 40}};
  const auto shift = kShifts.find(unit);
  if (shift == kShifts.end()) return wrong;
  const double bytes = std::ldexp(number, shift->second);
  if (bytes >= std::ldexp(1.0, 60)) return wrong;
  return static_cast<uint64_t>(bytes);
}

std::string CacheLimitText(uint64_t limit) {
  return limit == CacheBudget::kUnlimited ? "none" : HumanSize(limit);
}

}  // namespace lamina
