#include "fs/garbage_keeper.h"

#include <fmt/core.h>

#include <exception>

#include "base/log.h"
#include "base/text.h"

namespace lamina {
namespace {

Result<GarbageCollector::Collected> CollectOnce(GarbageCollector& collector,
                                                std::chrono::seconds after) try {
  return collector.Collect({.after = after});
} catch (const std::exception& failure) {
  return Error{Code::kInternal, failure.what()};
}

}  // namespace

GarbageKeeper::GarbageKeeper(GarbageCollector& collector, Times times)
    : collector_(collector), times_(times), thread_([this] { Keep(); }) {}

GarbageKeeper::~GarbageKeeper() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
    ended_.NotifyAll();
  }
  thread_.join();
}

bool GarbageKeeper::Wait(std::chrono::milliseconds wait) {
  const Deadline until = Deadline::After(wait);
  MutexLock lock(mutex_);
  while (!ending_ && !until.passed()) ended_.WaitUntil(mutex_, until);
  return !ending_;
}

void GarbageKeeper::Keep() {
  for (bool on = Wait(times_.first); on; on = Wait(times_.every)) {
    const auto collected = CollectOnce(collector_, times_.after);
    if (!collected && collected.error().code != Code::kCancelled)
      LogWarning("garbage cannot be collected: " + collected.error().message);
    else if (collected && collected->bytes > 0)
      LogInfo("garbage: " + TextOf(*collected));
  }
}

std::string TextOf(const GarbageCollector::Collected& collected) {
  return fmt::format("{} layers, {} trees, {} documents, {} databases that were set aside: {}",
                     collected.layers, collected.trees, collected.documents, collected.databases,
                     HumanSize(collected.bytes));
}

}  // namespace lamina
