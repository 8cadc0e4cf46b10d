#pragma once

// What the namespace answers: attributes, entries and directory items, with how long the kernel may
// keep them. Values; any thread.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/keyed_pool.h"
#include "base/result.h"
#include "fs/node_id.h"
#include "index/tar.h"

namespace lamina {

// Seconds that stand for "without limit"; the largest that libfuse and the kernel take without
// wrapping.
constexpr double kForever = 1e15;
// A directory of names is asked for again after this long, and at once when names change
// (OnChange).
constexpr double kDirectorySeconds = 1;

struct NodeAttr {
  NodeId id = 0;  // 0: there is no such node
  EntryType type = EntryType::kDirectory;
  uint32_t mode = 0;  // permission bits, 07777
  uint32_t nlink = 1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;  // bytes
  int64_t mtime_s = 0;
  uint32_t mtime_ns = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
};

// The answer to a lookup. A negative one has attr.id 0 and is kept for entry_seconds.
struct NodeEntry {
  NodeAttr attr;
  double entry_seconds = 0;
  double attr_seconds = 0;
};

struct NodeAttributes {
  NodeAttr attr;
  double seconds = 0;
};

// One item of a directory. `entry` is null where only the name is known; then the kernel looks it
// up when it has to.
struct DirectoryItem {
  std::string_view name;
  NodeId id = 0;  // 0: not known yet
  EntryType type = EntryType::kRegular;
  const NodeEntry* entry = nullptr;
  uint64_t next_cookie = 0;
};
// False stops the walk; the item was not taken.
using DirectoryVisitor = std::function<bool(const DirectoryItem&)>;

struct FileSystemFacts {
  uint64_t blocks = 0;  // of 4096 bytes
  uint64_t files = 0;
};

// nullopt: this would have to wait. Nothing has happened then.
template <typename T>
using Attempt = std::optional<Result<T>>;

// What a request that would have to wait waits for.
struct NodeWait {
  std::string pool_key;                 // where the blocking work runs
  PoolShare share = PoolShare::kLocal;  // of strangers each user has a lane of his own
  NodeId gate = 0;  // not 0: Prepare() has to run first, once for all requests with the same gate
  bool bounded = true;  // false: goes on for as long as it gets on (layers are streamed)
};

}  // namespace lamina

// ATTEMPT(auto x, expr): x is the value of an Attempt; a wait or an error leaves the function.
#define ATTEMPT_CONCAT_INNER(a, b) a##b
#define ATTEMPT_CONCAT(a, b) ATTEMPT_CONCAT_INNER(a, b)
#define ATTEMPT(lhs, expr) ATTEMPT_IMPL(ATTEMPT_CONCAT(lamina_attempt_, __LINE__), lhs, expr)
#define ATTEMPT_IMPL(tmp, lhs, expr)                     \
  auto tmp = (expr);                                     \
  if (!tmp.has_value()) return std::nullopt;             \
  if (!tmp->has_value()) return std::move(*tmp).error(); \
  lhs = std::move(*tmp).value()
