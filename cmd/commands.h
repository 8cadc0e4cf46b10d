#pragma once

// The sub-commands. Each returns the exit code of the process: 0 done, 1 failed (one sentence on
// standard error). Main thread only.

#include "cmd/options.h"

namespace lamina {

int RunMount(const CommonOptions& common, const MountCommand& command);
int RunUmount(const UmountCommand& command);
int RunAdd(const CommonOptions& common, const AddCommand& command);
int RunForget(const CommonOptions& common, const ForgetCommand& command);
int RunList(const CommonOptions& common, const std::string& repository);
int RunResolve(const CommonOptions& common, const ReferenceCommand& command);
int RunInspect(const CommonOptions& common, const ReferenceCommand& command);
int RunFetch(const CommonOptions& common, const ReferenceCommand& command);
int RunTagsList(const CommonOptions& common, const ReferenceCommand& command);
int RunTagsRefresh(const CommonOptions& common, const ReferenceCommand& command);
int RunTagsHistory(const CommonOptions& common, const ReferenceCommand& command);
int RunAlias(const CommonOptions& common, const AliasCommand& command);
int RunCacheStat(const CommonOptions& common);
int RunCacheGc(const CommonOptions& common, const CacheCommand& command);
int RunCacheVerify(const CommonOptions& common, const CacheCommand& command);
int RunCacheClear(const CommonOptions& common, const CacheCommand& command);
int RunCachePin(const CommonOptions& common, const CacheCommand& command);
int RunCacheUnpin(const CommonOptions& common, const CacheCommand& command);
int RunCat(const CommonOptions& common, const CatCommand& command);
int RunTree(const CommonOptions& common, const TreeCommand& command);
int RunCopy(const CommonOptions& common, const CopyCommand& command);
int RunDoctor(const CommonOptions& common, const std::string& mountpoint);
// The hosts of one reference: which, in what order, with what credentials, and whether they answer.
int RunDoctorOf(const CommonOptions& common, const std::string& reference);
int RunVersion(const CommonOptions& common);

// Prints "lamina: <message>" and gives 1.
int Fail(const Error& error);
const char* VersionText();

}  // namespace lamina
