#include "fetch/cache_budget.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
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

uint64_t BlocksOf(const std::string& path, int64_t* modified_ns) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return 0;
  if (modified_ns != nullptr) *modified_ns = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
  return static_cast<uint64_t>(st.st_blocks) * 512;
}

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
    std::string name;
  };
  std::vector<Found> found;
  std::error_code ignored;
  for (const auto& item : std::filesystem::directory_iterator(folder_, ignored)) {
    const std::string path = item.path().string();
    if (!path.ends_with(kData)) continue;
    const std::string stem = path.substr(0, path.size() - kData.size());
    Found files{.name = stem.substr(stem.rfind('/') + 1)};
    files.bytes = BlocksOf(path, &files.modified_ns) + BlocksOf(stem + std::string(kMap), nullptr);
    found.push_back(std::move(files));
  }
  std::ranges::sort(found, {}, &Found::modified_ns);
  MutexLock lock(mutex_);
  for (Found& files : found) {
    used_ += files.bytes;
    closed_[std::move(files.name)] = {files.bytes, Now()};
  }
}

void CacheBudget::SetPinned(std::set<std::string> layers) {
  MutexLock lock(mutex_);
  pinned_ = std::move(layers);
}

// --- what goes

Status CacheBudget::MakeRoom() {
  while (true) {
    const uint64_t used = used_.load();
    if (used <= limit_) return {};
    if (!EvictClosed() && !EvictOpen(std::max(kLeastEvicted, used - limit_)) &&
        used_.load() > limit_)
      return Error{
          Code::kLimit,
          fmt::format("the cache has its limit of {}, and what is in it is pinned or in use",
                      HumanSize(limit_))};
  }
}

// Its files may be opened meanwhile: whoever opens them finds none, or files without a name, which
// serve until they are closed.
bool CacheBudget::EvictClosed() {
  std::string name;
  uint64_t bytes = 0;
  {
    MutexLock lock(mutex_);
    auto coldest = closed_.end();
    for (auto at = closed_.begin(); at != closed_.end(); ++at)
      if (!pinned_.contains(at->first) &&
          (coldest == closed_.end() || at->second.used_at < coldest->second.used_at))
        coldest = at;
    if (coldest == closed_.end()) return false;
    name = coldest->first;
    bytes = coldest->second.bytes;
    closed_.erase(coldest);
  }
  // The map goes first, so that no map ever stands beside data of another making.
  ::unlink(fmt::format("{}/{}{}", folder_, name, kMap).c_str());
  ::unlink(fmt::format("{}/{}{}", folder_, name, kData).c_str());
  used_ -= bytes;
  evicted_ += bytes;
  return true;
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
    for (Account* account : open_)
      if (auto layer = account->layer_.lock(); layer && !pinned_.contains(account->name_))
        found.emplace_back(account->used_at_.load(), std::move(layer));
  }
  std::ranges::sort(found, {}, [](const auto& item) { return item.first; });
  std::vector<std::shared_ptr<EvictableLayer>> layers;
  for (auto& item : found) layers.push_back(std::move(item.second));
  return layers;
}

// --- accounts

CacheBudget::Account::Account(std::shared_ptr<CacheBudget> budget, const Digest& layer, Of of)
    : budget_(std::move(budget)), name_(layer.PathName()) {
  used_at_ = budget_->Now();
  MutexLock lock(budget_->mutex_);
  budget_->open_.insert(this);
  if (of == Of::kNewFiles) return;
  const auto at = budget_->closed_.find(name_);
  if (at == budget_->closed_.end()) return;
  budget_->used_ -= at->second.bytes;
  budget_->closed_.erase(at);
}

CacheBudget::Account::~Account() {
  uint64_t counted = 0;
  {
    MutexLock lock(mutex_);
    counted = counted_;
  }
  MutexLock lock(budget_->mutex_);
  budget_->open_.erase(this);
  if (!keep_) {
    budget_->used_ -= counted;
    return;
  }
  Files& files = budget_->closed_[name_];
  budget_->used_ -= files.bytes;  // of files that these have replaced
  files = {counted, used_at_.load()};
}

Status CacheBudget::Account::Reserve(uint64_t bytes) {
  budget_->used_ += bytes;
  used_at_.store(budget_->Now(), std::memory_order_relaxed);
  Status room = budget_->MakeRoom();
  if (!room) budget_->used_ -= bytes;
  return room;
}

// Measured under the lock, or one who measured earlier could settle later.
void CacheBudget::Account::Settle(uint64_t reserved, const std::function<uint64_t()>& measure) {
  MutexLock lock(mutex_);
  const uint64_t now = measure();
  if (now < counted_) budget_->evicted_ += counted_ - now;
  budget_->used_ += now;
  budget_->used_ -= counted_ + reserved;
  counted_ = now;
}

void CacheBudget::Account::Touch() {
  const uint64_t now = budget_->clock_.load(std::memory_order_relaxed);
  if (used_at_.load(std::memory_order_relaxed) != now)
    used_at_.store(now, std::memory_order_relaxed);
}

void CacheBudget::Account::SetLayer(std::weak_ptr<EvictableLayer> layer) {
  MutexLock lock(budget_->mutex_);
  layer_ = std::move(layer);
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
