#pragma once

// The options of the commands as plain structs, filled by cmd/main.cc and read by the commands.
// Values.

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "fetch/chunk_codec.h"
#include "fetch/registry.h"
#include "fetch/registry_hosts.h"
#include "fs/catalog.h"

namespace lamina {

inline constexpr long kMostConnections = 64;

// What every command has.
struct CommonOptions {
  std::string store;     // folder
  bool json = false;     // print data as JSON
  std::string platform;  // "linux/arm64"; empty: the host's
  int tag_ttl_seconds = 60;
  int negative_ttl_seconds = 5;
  std::vector<std::string> registry_tag_ttls;  // "docker.io=300"; the last of a registry counts
  std::vector<std::string> registry_negative_ttls;
  bool strict = false;
  std::vector<std::string> strict_registries;
  std::vector<std::string> insecure_registries;
  std::string cache_size;                  // see CacheLimit()
  std::string cache_compression = "none";  // see CompressionOf()
  std::string ca_file;                     // additional CA certificates, PEM
  // Folders of HOST/hosts.toml and of HOST[:PORT]/*.crt; where they are empty, those of the host.
  std::vector<std::string> hosts_folders;
  std::vector<std::string> certs_folders;
  size_t connections = 8;  // with one registry at a time, 1 to kMostConnections
  std::vector<std::string> registry_connections;  // "docker.io=4"; the last of a registry counts
  std::string log_level = "info";
  // Of the command line's options, those that only a daemon's own command line can set:
  // "--ca-file".
  std::vector<std::string> daemon_options;
};

struct MountCommand {
  std::string mountpoint = "/mnt/images";
  bool foreground = false;
  bool private_mount = false;   // no allow_other
  bool link_aliases = false;    // `ln -s` makes aliases
  std::string gc_after = "7d";  // see ParseAge()
};

struct UmountCommand {
  std::string mountpoint = "/mnt/images";
  bool lazy = false;
  int wait_seconds = 60;  // for the daemon's end
};

struct AddCommand {
  std::vector<std::string> sources;
  std::string as_name;
};

struct ForgetCommand {
  std::vector<std::string> names;  // sources and references
};

struct AliasCommand {
  std::string name;    // NAME:ALIAS, or NAME for a list
  std::string target;  // empty: list
  bool remove = false;
  std::string export_file;
  std::string import_file;
};

struct ReferenceCommand {
  std::string reference;
  bool index_only = false;  // fetch
};

struct CacheCommand {
  std::string reference;    // empty: all
  std::string after = "0";  // gc; see ParseAge()
  bool dry_run = false;     // gc
  bool pinned = false;      // clear: pinned layers too
  bool fetch = false;       // pin
};

struct CatCommand {
  std::string reference;
  std::string path;
};

struct TreeCommand {
  std::string reference;
  std::string path = "/";
  int depth = -1;          // levels below the path; all where negative
  bool long_form = false;  // with mode, owner, size and time
};

struct CopyCommand {
  std::string source;       // "REF:PATH"
  std::string destination;  // "-": a tar to standard output
  bool follow = false;      // a symbolic link at the end of PATH
};

// Below the current folder where it is relative.
Result<std::string> AbsolutePath(const std::string& path);
// "docker.io=300": a registry and a time to live; kInvalid where it is none.
Result<std::pair<std::string, std::chrono::seconds>> ParseRegistryTtl(const std::string& text);
// Where it is said which hosts are asked for a name.
RegistryPlaces RegistryPlacesOf(const CommonOptions& common);
RegistryOptions RegistryOptionsOf(const CommonOptions& common);
// Of "7d", "12h", "30m", "90s" or "90" (seconds); nullopt for "none"; kInvalid where it is no time.
Result<std::optional<std::chrono::seconds>> ParseAge(const std::string& text);
// "HOST=N"
Result<std::pair<std::string, size_t>> ParseRegistryConnections(const std::string& text);
Result<CatalogOptions> CatalogOptionsOf(const CommonOptions& common);
CacheCompression CompressionOf(const CommonOptions& common);
Result<LogLevel> LogLevelOf(const CommonOptions& common);

}  // namespace lamina
