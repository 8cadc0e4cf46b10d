#pragma once

// One class per kind of request that asks the namespace. Fast() answers without waiting, Slow()
// blocks, Send() replies. A call lives on the stack while it is answered at once; Keep() makes it
// own what it points to before it is parked. One thread at a time.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/errno.h"
#include "fs/fuse_waits.h"
#include "fs/namespace.h"

struct fuse_req;

namespace lamina {

class FuseCall {
 public:
  virtual ~FuseCall() = default;
  virtual NodeWait WaitOf(const Namespace& tree) const = 0;
  virtual NodeId node() const = 0;
  // False: it would wait.
  virtual bool Try(Namespace& tree) = 0;
  virtual void Do(Namespace& tree, const Deadline& deadline) = 0;
  virtual void Fail(const Error& error) = 0;
  // What the last of the above found, where it is an error.
  virtual const Error* failure() const = 0;
  // Replies with an error while another thread may be in one of the above.
  virtual void Refuse(fuse_req* request, const Error& error) const = 0;
  // nullopt: nothing that the kernel asks for again by itself.
  virtual std::optional<Question> Asked() const = 0;
  // Sends what the last of the above found: one reply, nothing thrown after it.
  virtual void Reply(fuse_req* request) = 0;
};

// Sends the errno of an error; `errno_of` is one of the tables of base/errno.h.
void ReplyError(fuse_req* request, const Error& error, int (*errno_of)(Code));

template <typename Op>
class CallOf final : public FuseCall {
 public:
  explicit CallOf(Op op) : op_(std::move(op)) {}
  Op&& TakeOp() { return std::move(op_); }

  NodeWait WaitOf(const Namespace& tree) const override {
    return tree.WaitOf(op_.node, op_.WaitName());
  }
  NodeId node() const override { return op_.node; }
  bool Try(Namespace& tree) override {
    answer_ = op_.Fast(tree);
    return answer_.has_value();
  }
  void Do(Namespace& tree, const Deadline& deadline) override {
    answer_ = op_.Slow(tree, deadline);
  }
  void Fail(const Error& error) override { answer_ = error; }
  const Error* failure() const override {
    return answer_ && !answer_->has_value() ? &answer_->error() : nullptr;
  }
  void Refuse(fuse_req* request, const Error& error) const override {
    ReplyError(request, error, Op::kErrno);
  }
  std::optional<Question> Asked() const override { return op_.Asked(); }
  void Reply(fuse_req* request) override {
    if (answer_->has_value()) return op_.Send(request, **answer_);
    ReplyError(request, answer_->error(), Op::kErrno);
  }

 private:
  Op op_;
  Attempt<typename Op::Answer> answer_;
};

// What all operations share.
struct FuseOp {
  NodeId node = 0;
  std::string_view WaitName() const { return {}; }
  std::optional<Question> Asked() const { return std::nullopt; }
  void Keep() {}
};

struct LookupOp : FuseOp {
  using Answer = NodeEntry;
  static constexpr auto kErrno = ToNameErrno;
  LookupOp(NodeId parent, std::string_view child) : FuseOp{parent}, name(child) {}
  std::string_view WaitName() const { return kept.empty() ? name : std::string_view(kept); }
  void Keep() { kept = std::string(name); }
  Question Asked() const { return {node, std::string(WaitName()), 0, 0}; }
  Attempt<Answer> Fast(Namespace& tree) {
    asked = &tree;
    return tree.TryLookup(node, WaitName());
  }
  Result<Answer> Slow(Namespace& tree, const Deadline&) {
    asked = &tree;
    return tree.Lookup(node, WaitName());
  }
  void Send(fuse_req* request, const Answer& answer) const;

  std::string_view name;  // libfuse's, while the call is on the stack
  std::string kept;
  Namespace* asked = nullptr;  // once it has been
};

struct GetAttrOp : FuseOp {
  using Answer = NodeAttributes;
  static constexpr auto kErrno = ToNameErrno;
  explicit GetAttrOp(NodeId id) : FuseOp{id} {}
  Attempt<Answer> Fast(Namespace& tree) { return tree.TryGetAttr(node); }
  Result<Answer> Slow(Namespace& tree, const Deadline&) { return tree.GetAttr(node); }
  void Send(fuse_req* request, const Answer& answer) const;
};

struct ReadLinkOp : FuseOp {
  using Answer = std::string;
  static constexpr auto kErrno = ToNameErrno;
  explicit ReadLinkOp(NodeId id) : FuseOp{id} {}
  Attempt<Answer> Fast(Namespace& tree) { return tree.TryReadLink(node); }
  Result<Answer> Slow(Namespace& tree, const Deadline&) { return tree.ReadLink(node); }
  void Send(fuse_req* request, const Answer& answer) const;
};

// A buffer that is the thread's own while the call is on its stack, and the call's own afterwards,
// made when something is put into it: what waits in line takes no memory.
class CallBuffer {
 public:
  explicit CallBuffer(size_t size) : size_(size) {}
  void Keep() { own_ = true; }
  size_t size() const { return size_; }
  MutableByteSpan span();

 private:
  size_t size_;  // bytes
  bool own_ = false;
  std::vector<uint8_t> kept_;
};

struct ReadOp : FuseOp {
  using Answer = size_t;
  static constexpr auto kErrno = ToErrno;
  ReadOp(NodeId id, size_t size, uint64_t from) : FuseOp{id}, offset(from), buffer(size) {}
  void Keep() { buffer.Keep(); }
  Attempt<Answer> Fast(Namespace& tree) { return tree.TryRead(node, offset, buffer.span()); }
  Result<Answer> Slow(Namespace& tree, const Deadline& deadline) {
    return tree.Read(node, offset, buffer.span(), deadline);
  }
  Question Asked() const { return {node, {}, offset, offset + buffer.size()}; }
  void Send(fuse_req* request, const Answer& count);

  uint64_t offset;  // bytes in the file
  CallBuffer buffer;
};

struct ReadDirectoryOp : FuseOp {
  using Answer = size_t;  // bytes in the buffer
  static constexpr auto kErrno = ToNameErrno;
  ReadDirectoryOp(NodeId id, size_t size, uint64_t from, bool with_attributes)
      : FuseOp{id}, cookie(from), plus(with_attributes), buffer(size) {}
  void Keep() { buffer.Keep(); }
  Attempt<Answer> Fast(Namespace& tree);
  Result<Answer> Slow(Namespace& tree, const Deadline&);
  void Send(fuse_req* request, const Answer& count);

  uint64_t cookie;
  bool plus;  // READDIRPLUS
  CallBuffer buffer;

 private:
  bool Add(const DirectoryItem& item, size_t* used);
};

struct SeekOp : FuseOp {
  using Answer = std::optional<uint64_t>;
  static constexpr auto kErrno = ToErrno;
  SeekOp(NodeId id, uint64_t from, bool to_hole) : FuseOp{id}, offset(from), hole(to_hole) {}
  Attempt<Answer> Fast(Namespace& tree) { return tree.TrySeek(node, offset, hole); }
  Result<Answer> Slow(Namespace& tree, const Deadline&) { return tree.Seek(node, offset, hole); }
  void Send(fuse_req* request, const Answer& answer) const;

  uint64_t offset;
  bool hole;
};

struct XattrOp : FuseOp {
  using Answer = std::optional<std::string>;
  static constexpr auto kErrno = ToErrno;
  XattrOp(NodeId id, std::string_view attribute, size_t space)
      : FuseOp{id}, name(attribute), size(space) {}
  void Keep() { kept = std::string(name); }
  std::string_view Name() const { return kept.empty() ? name : std::string_view(kept); }
  Attempt<Answer> Fast(Namespace& tree) { return tree.TryXattr(node, Name()); }
  Result<Answer> Slow(Namespace& tree, const Deadline&) { return tree.Xattr(node, Name()); }
  void Send(fuse_req* request, const Answer& answer) const;

  std::string_view name;  // libfuse's, while the call is on the stack
  std::string kept;
  size_t size;  // bytes that the caller has room for; 0 asks for the length
};

struct ListXattrOp : FuseOp {
  using Answer = std::string;
  static constexpr auto kErrno = ToErrno;
  ListXattrOp(NodeId id, size_t space) : FuseOp{id}, size(space) {}
  Attempt<Answer> Fast(Namespace& tree) { return tree.TryListXattr(node); }
  Result<Answer> Slow(Namespace& tree, const Deadline&) { return tree.ListXattr(node); }
  void Send(fuse_req* request, const Answer& answer) const;

  size_t size;  // as in XattrOp
};

// What changes an alias always blocks: it writes to the store.
struct ChangeOp : FuseOp {
  static constexpr auto kErrno = ToChangeErrno;
};

struct MakeLinkOp : ChangeOp {
  using Answer = NodeEntry;
  MakeLinkOp(NodeId parent, std::string_view child, std::string_view to)
      : ChangeOp{{parent}}, name(child), target(to) {}
  Attempt<Answer> Fast(Namespace&) { return std::nullopt; }
  Result<Answer> Slow(Namespace& tree, const Deadline&) {
    return tree.MakeLink(node, name, target);
  }
  void Send(fuse_req* request, const Answer& answer) const;

  std::string name;
  std::string target;
};

struct RemoveLinkOp : ChangeOp {
  using Answer = bool;
  RemoveLinkOp(NodeId parent, std::string_view child) : ChangeOp{{parent}}, name(child) {}
  Attempt<Answer> Fast(Namespace&) { return std::nullopt; }
  Result<Answer> Slow(Namespace& tree, const Deadline&);
  void Send(fuse_req* request, const Answer&) const;

  std::string name;
};

struct RenameLinkOp : ChangeOp {
  using Answer = bool;
  RenameLinkOp(NodeId parent, std::string_view child, NodeId to_parent, std::string_view to)
      : ChangeOp{{parent}}, name(child), new_parent(to_parent), new_name(to) {}
  Attempt<Answer> Fast(Namespace&) { return std::nullopt; }
  Result<Answer> Slow(Namespace& tree, const Deadline&);
  void Send(fuse_req* request, const Answer&) const;

  std::string name;
  NodeId new_parent;
  std::string new_name;
};

}  // namespace lamina
