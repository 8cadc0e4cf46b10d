#pragma once

// TakeUnused: keeps a map of shared objects from growing for ever. Any thread, under the lock of
// the map.

#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace lamina {

// Takes out what nobody else holds and `may_go` lets go. The caller destroys it without the lock:
// that may end threads and connections.
template <typename Key, typename Value, typename MayGo>
std::vector<std::shared_ptr<Value>> TakeUnused(std::map<Key, std::shared_ptr<Value>>& map,
                                               MayGo may_go) {
  std::vector<std::shared_ptr<Value>> taken;
  std::erase_if(map, [&](auto& item) {
    const bool goes = item.second.use_count() == 1 && may_go(*item.second);
    if (goes) taken.push_back(std::move(item.second));
    return goes;
  });
  return taken;
}

template <typename Key, typename Value>
std::vector<std::shared_ptr<Value>> TakeUnused(std::map<Key, std::shared_ptr<Value>>& map) {
  return TakeUnused(map, [](const Value&) { return true; });
}

}  // namespace lamina
