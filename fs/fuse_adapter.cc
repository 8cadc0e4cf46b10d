#include "fs/fuse_adapter.h"

#define FUSE_USE_VERSION 312
#include <fcntl.h>
#include <fmt/core.h>
#include <fuse_lowlevel.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <exception>

#include "base/log.h"
#include "fs/fuse_calls.h"

namespace lamina {
namespace {

// A call waits for a row, an image and a tree at most; beyond that (all three forgotten meanwhile)
// it blocks.
constexpr int kMostRounds = 4;

// How deep this thread is in answering requests.
int& ServingDepth() {
  thread_local int depth = 0;
  return depth;
}

class ServingScope {
 public:
  ServingScope() { ++ServingDepth(); }
  ~ServingScope() { --ServingDepth(); }
  ServingScope(const ServingScope&) = delete;
  ServingScope& operator=(const ServingScope&) = delete;
};

// A bound passes so much before a request is answered by others than by its job.
constexpr std::chrono::seconds kGrace{1};
// A failure that took a fourth of the bound was long waited for.
constexpr int kLongPart = 4;

Error TooLate(const Namespace& tree) {
  return {
      Code::kTimeout,
      fmt::format("nothing came within {} s; the registry is slow or hangs, or others wait for it",
                  std::chrono::duration_cast<std::chrono::seconds>(tree.wait_bound()).count())};
}

Error Thrown(const char* what) {
  return {Code::kInternal, fmt::format("a file operation threw: {}", what)};
}

}  // namespace

template <typename Op>
void FuseAdapter::Serve(fuse_req* request, Op op) noexcept {
  const ServingScope serving;
  bool parked = false;  // then the request is no longer ours
  try {
    CallOf<Op> call(std::move(op));
    if (call.Try(tree_)) return call.Reply(request);
    if (const auto asked = call.Asked()) {
      if (const auto failure = recent_.Find(*asked)) return call.Refuse(request, *failure);
    }
    Op kept = call.TakeOp();
    kept.Keep();
    auto owned = std::make_unique<CallOf<Op>>(std::move(kept));
    parked = true;
    Park(request, std::move(owned));
  } catch (const std::exception& failure) {
    LogError(Thrown(failure.what()).message);
    if (!parked) fuse_reply_err(request, EIO);
  } catch (...) {
    LogError(Thrown("something that is no exception").message);
    if (!parked) fuse_reply_err(request, EIO);
  }
}

// --- waiting

bool FuseAdapter::IsServing() { return ServingDepth() > 0; }

void FuseAdapter::Park(fuse_req* request, std::unique_ptr<FuseCall> call) {
  auto parked = std::make_shared<ParkedCall>();
  parked->call = std::move(call);
  parked->user = fuse_req_ctx(request)->uid;
  parked->pending = pending_.Park(request);
  if (parked->pending != nullptr) Wait(parked);
}

void FuseAdapter::Wait(const ParkedPtr& parked) {
  try {
    const NodeWait wait = parked->call->WaitOf(tree_);
    BoundWait(parked, wait.bounded);
    if (++parked->rounds <= kMostRounds && wait.gate != 0)
      return JoinGate(wait, parked->call->node(), parked);
    Post(wait, *parked, [self = shared_from_this(), parked] { self->RunBlocking(parked); });
  } catch (const std::exception& failure) {
    Fail(parked, Thrown(failure.what()));
  }
}

void FuseAdapter::StopWaiting() {
  bounds_.Stop();
  pending_.Stop();
}

void FuseAdapter::KeepBounds() {
  bounds_.Run([this](const ParkedPtr& parked) { Expire(parked); });
}

// The bound counts from when the request came, or from when a wait without a bound was over.
void FuseAdapter::BoundWait(const ParkedPtr& parked, bool bounded) {
  constexpr auto kNever = Deadline::Clock::time_point::max();
  if (!bounded) parked->until = kNever;
  if (!bounded || parked->until.load() != kNever) return;
  parked->until = Deadline::After(tree_.wait_bound()).at();
  // Who is at work on it knows better what is wrong, and is let speak first.
  bounds_.Watch(Deadline(parked->until.load() + kGrace), parked);
}

// A job may be at work on the call, which is therefore only looked at.
void FuseAdapter::Expire(const ParkedPtr& parked) {
  if (!parked->deadline().passed()) return;
  if (!parked->pending->Claim()) return parked->pending->Forget();
  const Error error = TooLate(tree_);
  const auto asked = parked->call->Asked();
  tree_.NoteFailure(parked->call->node(), asked ? asked->name : "", error);
  Remember(*parked, error);
  parked->call->Refuse(parked->pending->request(), error);
  parked->pending->Answered();
}

void FuseAdapter::Remember(const ParkedCall& parked, const Error& error) {
  const auto waited = Deadline::Clock::now() - parked.asked;
  if (waited * kLongPart < tree_.wait_bound() || error.code == Code::kCancelled) return;
  if (auto asked = parked.call->Asked()) recent_.Put(*std::move(asked), error);
}

void FuseAdapter::Post(const NodeWait& wait, const ParkedCall& parked, std::function<void()> job) {
  std::string key = wait.pool_key;
  // Who names dead registries waits behind them himself, and nobody else does.
  if (wait.share == PoolShare::kStranger) key += fmt::format(" of user {}", parked.user);
  pool_.Post(key, std::move(job), wait.share);
}

void FuseAdapter::JoinGate(const NodeWait& wait, NodeId node, const ParkedPtr& parked) {
  {
    MutexLock lock(gates_mutex_);
    auto& waiting = gates_[wait.gate];
    waiting.push_back(parked);
    if (waiting.size() > 1) return;  // the first one's job serves all
  }
  Post(wait, *parked,
       [self = shared_from_this(), gate = wait.gate, node] { self->PassGate(gate, node); });
}

void FuseAdapter::PassGate(NodeId gate, NodeId node) {
  const ServingScope serving;
  if (AllAnswered(gate)) return;
  Status prepared;
  try {
    prepared = tree_.Prepare(node);
  } catch (const std::exception& failure) {
    prepared = Thrown(failure.what());
  }
  std::vector<ParkedPtr> waiting;
  {
    MutexLock lock(gates_mutex_);
    waiting = std::move(gates_[gate]);
    gates_.erase(gate);
  }
  for (const ParkedPtr& parked : waiting) {
    if (prepared) {
      Resume(parked);
    } else {
      Fail(parked, prepared.error());
    }
  }
}

// Nobody waits at the gate any more: then it is gone.
bool FuseAdapter::AllAnswered(NodeId gate) {
  std::vector<ParkedPtr> gone;
  {
    MutexLock lock(gates_mutex_);
    const auto at = gates_.find(gate);
    const auto answered = [](const ParkedPtr& parked) { return parked->pending->claimed(); };
    if (at == gates_.end() || !std::all_of(at->second.begin(), at->second.end(), answered))
      return false;
    gone = std::move(at->second);
    gates_.erase(at);
  }
  for (const ParkedPtr& parked : gone) parked->pending->Forget();
  return true;
}

void FuseAdapter::Resume(const ParkedPtr& parked) {
  if (parked->pending->claimed()) return parked->pending->Forget();
  bool done = false;
  try {
    done = parked->call->Try(tree_);
  } catch (const std::exception& failure) {
    return Fail(parked, Thrown(failure.what()));
  }
  if (done) return Reply(parked);
  Wait(parked);
}

void FuseAdapter::RunBlocking(const ParkedPtr& parked) {
  const ServingScope serving;
  if (parked->pending->claimed()) return parked->pending->Forget();
  if (parked->deadline().passed()) return Expire(parked);
  try {
    // Where all that it waited for was forgotten again and again, it waits for that here.
    const Deadline latest = Deadline::After(tree_.wait_bound());
    parked->call->Do(tree_, Deadline(std::min(latest.at(), parked->until.load())));
  } catch (const std::exception& failure) {
    return Fail(parked, Thrown(failure.what()));
  }
  Reply(parked);
}

void FuseAdapter::Reply(const ParkedPtr& parked) {
  if (!parked->pending->Claim()) return parked->pending->Forget();
  if (const Error* failure = parked->call->failure()) Remember(*parked, *failure);
  parked->call->Reply(parked->pending->request());
  parked->pending->Answered();
}

void FuseAdapter::Fail(const ParkedPtr& parked, const Error& error) {
  if (error.code == Code::kInternal) LogError(error.message);
  parked->call->Fail(error);
  Reply(parked);
}

// --- libfuse's callbacks

namespace {

FuseAdapter& AdapterOf(fuse_req_t request) {
  return *static_cast<FuseAdapter*>(fuse_req_userdata(request));
}

// How the connection is set up, and why, is in docs/design.md: data never changes, so that nothing
// is invalidated by itself, symbolic links are kept, and directories always come with attributes.
void Init(void*, fuse_conn_info* connection) {
  const auto want = [&](unsigned flag) {
    if (connection->capable & flag) connection->want |= flag;
  };
  want(FUSE_CAP_ASYNC_READ);
  want(FUSE_CAP_PARALLEL_DIROPS);
  want(FUSE_CAP_CACHE_SYMLINKS);
  want(FUSE_CAP_READDIRPLUS);
  want(FUSE_CAP_EXPORT_SUPPORT);  // ids never change their meaning, so that file handles work
  connection->want &=
      ~static_cast<unsigned>(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA |
                             FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  // As many as can be: reads that wait for one registry count here, and beyond it all others wait.
  connection->max_background = 65535;
  connection->congestion_threshold = 49151;
}

void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  AdapterOf(request).Serve(request, LookupOp(parent, name));
}
// Node ids are functions of what they name: counted is only what tells which images are in use.
void Forget(fuse_req_t request, fuse_ino_t node, uint64_t times) {
  AdapterOf(request).tree().NoteForgotten(node, times);
  fuse_reply_none(request);
}
void ForgetMany(fuse_req_t request, size_t count, fuse_forget_data* nodes) {
  for (size_t i = 0; i < count; ++i)
    AdapterOf(request).tree().NoteForgotten(nodes[i].ino, nodes[i].nlookup);
  fuse_reply_none(request);
}
void GetAttr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  AdapterOf(request).Serve(request, GetAttrOp(node));
}
void ReadLink(fuse_req_t request, fuse_ino_t node) {
  AdapterOf(request).Serve(request, ReadLinkOp(node));
}
void Read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
  AdapterOf(request).Serve(request, ReadOp(node, size, static_cast<uint64_t>(offset)));
}
void ReadDir(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
  AdapterOf(request).Serve(request,
                           ReadDirectoryOp(node, size, static_cast<uint64_t>(offset), false));
}
void ReadDirPlus(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, fuse_file_info*) {
  AdapterOf(request).Serve(request,
                           ReadDirectoryOp(node, size, static_cast<uint64_t>(offset), true));
}
void Seek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence, fuse_file_info*) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) {
    fuse_reply_err(request, EINVAL);
  } else if (offset < 0) {
    fuse_reply_err(request, ENXIO);
  } else {
    AdapterOf(request).Serve(request,
                             SeekOp(node, static_cast<uint64_t>(offset), whence == SEEK_HOLE));
  }
}
void GetXattr(fuse_req_t request, fuse_ino_t node, const char* name, size_t size) {
  AdapterOf(request).Serve(request, XattrOp(node, name, size));
}
void ListXattr(fuse_req_t request, fuse_ino_t node, size_t size) {
  AdapterOf(request).Serve(request, ListXattrOp(node, size));
}
void StatFs(fuse_req_t request, fuse_ino_t node) {
  const FileSystemFacts facts = AdapterOf(request).tree().Facts(node);
  struct statvfs out {};
  out.f_bsize = 4096;
  out.f_frsize = 4096;
  out.f_blocks = facts.blocks;
  out.f_files = facts.files;
  out.f_namemax = 255;
  fuse_reply_statfs(request, &out);
}
// "No such call" to OPEN and OPENDIR is for ever: the kernel never sends one again, and keeps pages
// and directories.
void OpenDir(fuse_req_t request, fuse_ino_t, fuse_file_info*) { fuse_reply_err(request, ENOSYS); }
// A mount that takes links is writable to the kernel, which would let files be mapped for writing
// and show what was written: there each OPEN is answered.
void Open(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  if (!AdapterOf(request).tree().links_allowed()) {
    fuse_reply_err(request, ENOSYS);
  } else if ((file->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
  } else {
    file->keep_cache = 1;
    file->noflush = 1;
    fuse_reply_open(request, file);
  }
}

// Whoever may write to the folder by its mode (the kernel has checked that), and is root or the one
// who has mounted.
bool MayChange(fuse_req_t request) {
  const uid_t user = fuse_req_ctx(request)->uid;
  return user == 0 || user == ::geteuid();
}
void Symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  if (!MayChange(request)) {
    fuse_reply_err(request, EPERM);
  } else {
    AdapterOf(request).Serve(request, MakeLinkOp(parent, name, target));
  }
}
void Unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  if (!MayChange(request)) {
    fuse_reply_err(request, EPERM);
  } else {
    AdapterOf(request).Serve(request, RemoveLinkOp(parent, name));
  }
}
void Rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
            const char* new_name, unsigned flags) {
  if (!MayChange(request)) {
    fuse_reply_err(request, EPERM);
  } else if ((flags & ~unsigned{RENAME_NOREPLACE}) != 0) {
    fuse_reply_err(request, EINVAL);
  } else {
    AdapterOf(request).Serve(request, RenameLinkOp(parent, name, new_parent, new_name));
  }
}

// All else is read-only, also where the kernel takes the mount for writable.
void RefuseSetAttr(fuse_req_t request, fuse_ino_t, struct stat*, int, fuse_file_info*) {
  fuse_reply_err(request, EROFS);
}
void RefuseMknod(fuse_req_t request, fuse_ino_t, const char*, mode_t, dev_t) {
  fuse_reply_err(request, EROFS);
}
void RefuseMkdir(fuse_req_t request, fuse_ino_t, const char*, mode_t) {
  fuse_reply_err(request, EROFS);
}
void RefuseName(fuse_req_t request, fuse_ino_t, const char*) { fuse_reply_err(request, EROFS); }
void RefuseLink(fuse_req_t request, fuse_ino_t, fuse_ino_t, const char*) {
  fuse_reply_err(request, EROFS);
}
void RefuseWrite(fuse_req_t request, fuse_ino_t, const char*, size_t, off_t, fuse_file_info*) {
  fuse_reply_err(request, EROFS);
}
void RefuseCreate(fuse_req_t request, fuse_ino_t, const char*, mode_t, fuse_file_info*) {
  fuse_reply_err(request, EROFS);
}
void RefuseSetXattr(fuse_req_t request, fuse_ino_t, const char*, const char*, size_t, int) {
  fuse_reply_err(request, EROFS);
}

fuse_lowlevel_ops MakeOperations() {
  fuse_lowlevel_ops ops{};
  ops.init = Init;
  ops.lookup = Lookup;
  ops.forget = Forget;
  ops.forget_multi = ForgetMany;
  ops.getattr = GetAttr;
  ops.readlink = ReadLink;
  ops.open = Open;
  ops.opendir = OpenDir;
  ops.read = Read;
  ops.readdir = ReadDir;
  ops.readdirplus = ReadDirPlus;
  ops.lseek = Seek;
  ops.getxattr = GetXattr;
  ops.listxattr = ListXattr;
  ops.statfs = StatFs;
  ops.setattr = RefuseSetAttr;
  ops.mknod = RefuseMknod;
  ops.mkdir = RefuseMkdir;
  ops.unlink = Unlink;
  ops.rmdir = RefuseName;
  ops.symlink = Symlink;
  ops.rename = Rename;
  ops.link = RefuseLink;
  ops.write = RefuseWrite;
  ops.create = RefuseCreate;
  ops.setxattr = RefuseSetXattr;
  ops.removexattr = RefuseName;
  return ops;
}

}  // namespace

const fuse_lowlevel_ops& FuseAdapter::Operations() {
  static const fuse_lowlevel_ops kOperations = MakeOperations();
  return kOperations;
}

}  // namespace lamina
