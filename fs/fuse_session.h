#pragma once

// FuseSession: one mount: options, threads, signals, unmounting. Mount() and Run() belong to one
// thread; Stop() and the counters to any.
//
// The namespace and the pool outlive the session, and the pool's jobs are at an end
// (KeyedPool::Stop) before the namespace goes.

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/keyed_pool.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "fs/namespace.h"

struct fuse_session;

namespace lamina {

class FuseAdapter;

struct MountOptions {
  std::string mountpoint;   // made where it is missing
  bool allow_other = true;  // as root; others may not have it without user_allow_other in fuse.conf
  bool link_aliases = false;  // aliases are made by symlink(2): the kernel takes it for writable
  size_t threads = 0;         // 0: one for each CPU, at least two
  uint32_t read_ahead_kb = 4096;   // set where we may (root)
  bool handle_signals = true;      // SIGTERM, SIGINT and SIGHUP end Run()
  std::function<void()> on_ready;  // called once, from another thread, when the tree answers
};

class FuseSession {
 public:
  static Result<std::unique_ptr<FuseSession>> Mount(Namespace& tree, KeyedPool& pool,
                                                    MountOptions options);
  // The libfuse that is loaded: "3.14.0".
  static std::string LibraryVersion();
  // Unmounts where Run() has not.
  ~FuseSession();

  // Serves until unmounted, stopped or signalled; unmounts (lazily where in use).
  Status Run();
  void Stop();

  const std::string& mountpoint() const { return options_.mountpoint; }
  // Messages of the kernel by kind, exact.
  std::vector<std::pair<std::string, uint64_t>> counters() const;

 private:
  class WakeUp;
  class Changes;
  FuseSession(Namespace& tree, MountOptions options, std::shared_ptr<FuseAdapter> adapter);
  Status Connect();
  int Loop();
  void Control(pthread_t loop);
  void Invalidate();
  void AnnounceReady();
  void InvalidateChanged(uint64_t number, KeyedPool& tellers);
  void ExpireEntry(NodeId parent, const std::string& name);
  void Unmount();

  Namespace& tree_;
  MountOptions options_;
  std::shared_ptr<FuseAdapter> adapter_;
  fuse_session* session_ = nullptr;
  bool mounted_ = false;
  std::shared_ptr<WakeUp> stop_;      // signals, Stop() and the end of the loop
  std::shared_ptr<Changes> changes_;  // also held by the catalog's callback
  std::atomic<bool> ended_{false};    // the loop has returned
};

}  // namespace lamina
