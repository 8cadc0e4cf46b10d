#include "base/mapped_fault.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

namespace lamina {
namespace {

// A layer and a tree for each image in use, and the layers' own trees; 32 bytes each.
constexpr size_t kSlots = 16384;

// `begin` is 0 while the slot is free, kClaimed while it is being filled. `end` is written before
// `begin`, and a slot that the handler's own thread is reading from is not given back meanwhile:
// the mapping outlives the read.
struct Mapping {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> damaged{false};
};
constexpr uintptr_t kClaimed = 1;  // no address of a page

struct Table {
  std::array<Mapping, kSlots> mappings{};
  std::atomic<size_t> used{0};  // slots from here on have never been taken
  uintptr_t page = 0;           // bytes
  struct sigaction before {};
};

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "the signal handler must not lock");

// The handler has no other way to it. No destructor: faults may come until the very end.
constinit Table table;

void PassOn(int signal, siginfo_t* info, void* context) {
  const struct sigaction& before = table.before;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
    return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN && before.sa_handler != nullptr)
    return before.sa_handler(signal);
  const bool fault = info->si_code > 0;
  if (before.sa_handler == SIG_IGN && !fault) return;
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, nullptr);
  // A fault comes again when this returns, and ends the process with its address in the core.
  if (!fault) ::raise(signal);
}

// Async-signal-safe: atomics and system calls.
void OnBusError(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  // Faults have positive codes; what kill() sent names no address.
  const size_t used = info->si_code > 0 ? table.used.load(std::memory_order_acquire) : 0;
  for (size_t i = 0; i < used && i < kSlots; ++i) {
    Mapping& mapping = table.mappings[i];
    const uintptr_t begin = mapping.begin.load(std::memory_order_acquire);
    if (begin <= kClaimed || address < begin ||
        address >= mapping.end.load(std::memory_order_acquire))
      continue;
    // Before the zeros are there to be read.
    mapping.damaged.store(true, std::memory_order_seq_cst);
    void* page = reinterpret_cast<void*>(address & ~(table.page - 1));
    const bool patched = ::mmap(page, table.page, PROT_READ,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    errno = saved_errno;
    if (patched) return;
    break;
  }
  errno = saved_errno;
  PassOn(signal, info, context);
}

bool Install() {
  table.page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ::sigemptyset(&action.sa_mask);
  return ::sigaction(SIGBUS, &action, &table.before) == 0;
}

}  // namespace

MappedFault::Slot MappedFault::Register(const uint8_t* data, size_t size) {
  static const bool installed = Install();
  if (!installed || size == 0) return kNone;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  for (size_t i = 0; i < kSlots; ++i) {
    Mapping& mapping = table.mappings[i];
    uintptr_t free = 0;
    if (mapping.begin.load(std::memory_order_relaxed) != 0 ||
        !mapping.begin.compare_exchange_strong(free, kClaimed, std::memory_order_acq_rel))
      continue;
    mapping.damaged.store(false, std::memory_order_relaxed);
    mapping.end.store(begin + size, std::memory_order_relaxed);
    mapping.begin.store(begin, std::memory_order_release);
    size_t used = table.used.load(std::memory_order_relaxed);
    while (used < i + 1 &&
           !table.used.compare_exchange_weak(used, i + 1, std::memory_order_acq_rel)) {
    }
    return static_cast<Slot>(i);
  }
  return kNone;
}

void MappedFault::Unregister(Slot slot) {
  if (slot != kNone) table.mappings[slot].begin.store(0, std::memory_order_release);
}

bool MappedFault::Damaged(Slot slot) {
  return slot != kNone && table.mappings[slot].damaged.load(std::memory_order_acquire);
}

}  // namespace lamina
