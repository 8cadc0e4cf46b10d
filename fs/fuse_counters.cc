#include "fs/fuse_counters.h"

#include <fmt/core.h>
#include <linux/fuse.h>

#include <iterator>

namespace lamina {
namespace {

std::string NameOf(uint32_t opcode) {
  switch (opcode) {
    case FUSE_LOOKUP:
      return "lookup";
    case FUSE_FORGET:
      return "forget";
    case FUSE_GETATTR:
      return "getattr";
    case FUSE_SETATTR:
      return "setattr";
    case FUSE_READLINK:
      return "readlink";
    case FUSE_OPEN:
      return "open";
    case FUSE_READ:
      return "read";
    case FUSE_WRITE:
      return "write";
    case FUSE_STATFS:
      return "statfs";
    case FUSE_RELEASE:
      return "release";
    case FUSE_GETXATTR:
      return "getxattr";
    case FUSE_LISTXATTR:
      return "listxattr";
    case FUSE_FLUSH:
      return "flush";
    case FUSE_INIT:
      return "init";
    case FUSE_OPENDIR:
      return "opendir";
    case FUSE_READDIR:
      return "readdir";
    case FUSE_RELEASEDIR:
      return "releasedir";
    case FUSE_ACCESS:
      return "access";
    case FUSE_INTERRUPT:
      return "interrupt";
    case FUSE_DESTROY:
      return "destroy";
    case FUSE_IOCTL:
      return "ioctl";
    case FUSE_POLL:
      return "poll";
    case FUSE_BATCH_FORGET:
      return "batch_forget";
    case FUSE_READDIRPLUS:
      return "readdirplus";
    case FUSE_LSEEK:
      return "lseek";
    default:
      return fmt::format("op{}", opcode);
  }
}

}  // namespace

std::vector<std::pair<std::string, uint64_t>> FuseCounters::Values() const {
  std::vector<std::pair<std::string, uint64_t>> values;
  for (uint32_t opcode = 0; opcode < counts_.size(); ++opcode) {
    const uint64_t count = counts_[opcode].load(std::memory_order_relaxed);
    if (count > 0) values.emplace_back(NameOf(opcode), count);
  }
  return values;
}

uint64_t FuseCounters::Value(const std::string& name) const {
  for (const auto& [known, count] : Values())
    if (known == name) return count;
  return 0;
}

std::string FuseCounters::Metrics() const {
  std::string out = "# TYPE lamina_fuse_messages_total counter\n";
  for (const auto& [name, count] : Values())
    fmt::format_to(std::back_inserter(out), "lamina_fuse_messages_total{{op=\"{}\"}} {}\n", name,
                   count);
  return out;
}

}  // namespace lamina
