#include "fs/leases.h"

#include <utility>

namespace lamina {

struct Leases::Table {
  Mutex mutex;  // leaf
  CondVar collected;
  std::map<std::string, size_t> taken GUARDED_BY(mutex);
  std::set<std::string> collecting GUARDED_BY(mutex);
};

Leases::Leases() : table_(std::make_shared<Table>()) {}

Leases::Lease& Leases::Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Release();
  table_ = std::move(other.table_);
  names_ = std::move(other.names_);
  return *this;
}

void Leases::Lease::Release() {
  if (table_ == nullptr) return;
  MutexLock lock(table_->mutex);
  for (const std::string& name : names_) {
    const auto at = table_->taken.find(name);
    if (--at->second == 0) table_->taken.erase(at);
  }
  names_.clear();
}

Leases::Lease Leases::Take(std::vector<std::string> names) {
  Lease lease;
  lease.table_ = table_;
  MutexLock lock(table_->mutex);
  for (std::string& name : names) {
    while (table_->collecting.contains(name))
      table_->collected.WaitUntil(table_->mutex, Deadline::After(std::chrono::seconds(1)));
    lease.names_.push_back(name);
    ++table_->taken[std::move(name)];
  }
  return lease;
}

bool Leases::Collect(const std::string& name, const std::function<bool()>& may,
                     const std::function<void()>& collect) {
  {
    MutexLock lock(table_->mutex);
    if (table_->taken.contains(name) || !table_->collecting.insert(name).second) return false;
  }
  struct Ended {
    Table& table;
    const std::string& name;
    ~Ended() {
      MutexLock lock(table.mutex);
      table.collecting.erase(name);
      table.collected.NotifyAll();
    }
  };
  const Ended ended{*table_, name};
  if (!may()) return false;
  collect();
  return true;
}

}  // namespace lamina
