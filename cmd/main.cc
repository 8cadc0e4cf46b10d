// lamina: the command line. Options and help are made here; the commands are in the other files of
// this folder.

#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>

#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/config_file.h"
#include "cmd/engine.h"
#include "fetch/cache_budget.h"

namespace lamina {
namespace {

constexpr int kWrongUsage = 2;

// The command line being built, and what was chosen.
struct CommandLine {
  CommonOptions common;
  MountCommand mount;
  UmountCommand umount;
  AddCommand add;
  ForgetCommand forget;
  CatCommand cat;
  TreeCommand tree;
  CopyCommand copy;
  ReferenceCommand reference;
  AliasCommand alias;
  CacheCommand cache;
  std::string repository;
  std::string doctor_subject = "/mnt/images";
  std::string config_file;
  CLI::App* command = nullptr;
  std::function<int()> run;
};

// A validator of CLI11: the reason why it is none, or nothing.
std::string CheckPlatform(const std::string& text) {
  const auto platform = Platform::Parse(text);
  return platform ? std::string() : platform.error().message;
}

std::string CheckRegistryTtl(const std::string& text) {
  const auto ttl = ParseRegistryTtl(text);
  return ttl ? std::string() : ttl.error().message;
}

std::string CheckRegistryConnections(const std::string& text) {
  const auto own = ParseRegistryConnections(text);
  return own ? std::string() : own.error().message;
}

std::string CheckCacheSize(const std::string& text) {
  const auto limit = CacheLimit(text, "/");
  return limit ? std::string() : limit.error().message;
}

std::string CheckAge(const std::string& text) {
  const auto age = ParseAge(text);
  return age ? std::string() : age.error().message;
}

std::string CheckNow(const std::string& text) {
  return text == "none" ? "none is no time: use 7d, 12h, 30m or 90s" : CheckAge(text);
}

void AddCommonOptions(CLI::App& command, CommandLine& line) {
  CommonOptions& common = line.common;
  command
      .add_option("--store", common.store,
                  "folder of lamina's state and cache (environment: LAMINA_STORE)")
      ->capture_default_str();
  command.add_option("--log-level", common.log_level, "how much is logged")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  command
      .add_option(
          "--config", line.config_file,
          "TOML file of options: store = \"/srv/lamina\"; those of one command in a section "
          "as [mount]; the command line wins (default: none is read)")
      ->check(CLI::ExistingFile);
  command
      .add_option("--cache-size", common.cache_size,
                  "disk for the bytes of layers: 20G, 512M, 10% of the disk, 0 to keep nothing, or "
                  "none for no limit (default: 20G, or a tenth of the disk where that is less; in "
                  "a file: size of [cache])")
      ->check(CheckCacheSize);
  command
      .add_option("--cache-compression", common.cache_compression,
                  "how new bytes of layers are kept: less disk, for the time of decoding them when "
                  "they are read (in a file: compression of [cache])")
      ->check(CLI::IsMember({"none", "lz4", "zstd"}))
      ->capture_default_str();
}

// Which hosts are asked, and how.
void AddHostOptions(CLI::App& command, CommonOptions& common) {
  command
      .add_option("--insecure-registry", common.insecure_registries,
                  "HOST[:PORT] that is asked over plain HTTP (loopback always may be)")
      ->allow_extra_args(false);
  command
      .add_option("--ca-file", common.ca_file,
                  "PEM file of CA certificates to trust besides the system's")
      ->check(CLI::ExistingFile);
  command
      .add_option("--hosts-dir", common.hosts_folders,
                  "folder of containerd's HOST/hosts.toml, which name mirrors (default: "
                  "/etc/containerd/certs.d)")
      ->allow_extra_args(false)
      ->check(CLI::ExistingDirectory);
  command
      .add_option("--certs-dir", common.certs_folders,
                  "folder of HOST[:PORT] with *.crt, *.cert and *.key (default: certs.d of "
                  "~/.config/containers, /etc/containers and /etc/docker)")
      ->allow_extra_args(false)
      ->check(CLI::ExistingDirectory);
}

void AddSourceOptions(CLI::App& command, CommonOptions& common) {
  command
      .add_option("--tag-ttl", common.tag_ttl_seconds,
                  "seconds for which a registry's answer about a tag holds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--negative-ttl", common.negative_ttl_seconds,
                  "seconds for which a registry's answer that a name is not there holds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--registry-tag-ttl", common.registry_tag_ttls,
                  "HOST=SECONDS: --tag-ttl of one registry (in a file: tag-ttl of "
                  "[registry.\"HOST\"])")
      ->allow_extra_args(false)
      ->check(CheckRegistryTtl);
  command
      .add_option("--registry-negative-ttl", common.registry_negative_ttls,
                  "HOST=SECONDS: --negative-ttl of one registry")
      ->allow_extra_args(false)
      ->check(CheckRegistryTtl);
  command
      .add_option("--connections", common.connections,
                  "connections to one registry at a time; a fourth of them is for reads that "
                  "somebody waits for")
      ->check(CLI::Range(1L, kMostConnections))
      ->capture_default_str();
  command
      .add_option("--registry-connections", common.registry_connections,
                  "HOST=N: --connections of one registry (in a file: connections of "
                  "[registry.\"HOST\"])")
      ->allow_extra_args(false)
      ->check(CheckRegistryConnections);
  command.add_flag("--strict", common.strict,
                   "show nothing of a layer before all of it has been verified; without it a layer "
                   "that carries an index is read at once, each piece verified by that");
  command
      .add_option("--strict-registry", common.strict_registries,
                  "HOST[:PORT] whose images are --strict (in a file: strict = true of "
                  "[registry.\"HOST\"])")
      ->allow_extra_args(false);
  AddHostOptions(command, common);
}

void AddPlatformOption(CLI::App& command, CommonOptions& common) {
  command
      .add_option("--platform", common.platform,
                  "platform to choose from an index, as linux/arm64 (default: this host's)")
      ->check(CheckPlatform);
}

CLI::App* NewCommand(CLI::App& app, CommandLine& line, const char* name, const char* what,
                     const char* example, std::function<int()> run) {
  CLI::App* command = app.add_subcommand(name, what);
  command->footer(std::string("Example:\n  ") + example);
  AddCommonOptions(*command, line);
  command->callback([&line, command, run = std::move(run)] {
    line.command = command;
    line.run = run;
  });
  return command;
}

void AddMounting(CLI::App& app, CommandLine& line) {
  CLI::App* mount =
      NewCommand(app, line, "mount", "Serve all images below a mount point",
                 "lamina mount /mnt/images", [&] { return RunMount(line.common, line.mount); });
  mount
      ->add_option("mountpoint", line.mount.mountpoint,
                   "folder to mount on; made where it is missing")
      ->capture_default_str();
  mount->add_flag("-f,--foreground", line.mount.foreground,
                  "stay in front and log to standard error");
  mount->add_flag("--private", line.mount.private_mount,
                  "let no other user in (leave out allow_other)");
  mount->add_flag("--link-aliases", line.mount.link_aliases,
                  "let root make aliases by `ln -s` in the folder of a repository, and remove them "
                  "by `rm`; lamina is then asked at each opening of a file");
  mount
      ->add_option("--gc-after", line.mount.gc_after,
                   "how long what nothing names any more is kept when nobody uses it: 7d, 12h, or "
                   "none for ever (in a file: gc-after of [cache])")
      ->check(CheckAge)
      ->capture_default_str();
  AddPlatformOption(*mount, line.common);
  AddSourceOptions(*mount, line.common);

  CLI::App* umount =
      NewCommand(app, line, "umount", "Take a mount away; its daemon ends",
                 "lamina umount /mnt/images", [&] { return RunUmount(line.umount); });
  umount->add_option("mountpoint", line.umount.mountpoint, "where lamina is mounted")
      ->capture_default_str();
  umount->add_flag("-l,--lazy", line.umount.lazy,
                   "detach now although something uses it; end when nothing does");
  umount->add_option("--wait", line.umount.wait_seconds, "seconds to wait for the daemon's end")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void AddData(CLI::App& app, CommandLine& line) {
  CLI::App* add =
      NewCommand(app, line, "add", "Add local images", "lamina add oci:/srv/images/base --as base",
                 [&] { return RunAdd(line.common, line.add); });
  add->add_option(
         "sources", line.add.sources,
         "oci:DIR, oci-archive:FILE or docker-archive:FILE; with :REF, :@N or :@DIGEST one "
         "image of it")
      ->required();
  add->add_option("--as", line.add.as_name,
                  "name to put the images under (localhost/NAME where it has no registry part)");

  CLI::App* forget = NewCommand(
      app, line, "forget", "Forget local images, or what is known of a name",
      "lamina forget oci:/srv/images/base", [&] { return RunForget(line.common, line.forget); });
  forget
      ->add_option("names", line.forget.names,
                   "a source as it was added, a repository, or a reference with a tag")
      ->required();

  CLI::App* list = NewCommand(app, line, "ls", "List the images that are known",
                              "lamina ls docker.io/library/debian",
                              [&] { return RunList(line.common, line.repository); });
  list->add_option("repository", line.repository, "only this repository");

  CLI::App* resolve = NewCommand(app, line, "resolve", "Print NAME@DIGEST of a reference",
                                 "lamina resolve debian:bookworm",
                                 [&] { return RunResolve(line.common, line.reference); });
  CLI::App* inspect = NewCommand(
      app, line, "inspect", "Show an image: config, layers, how lazy and why",
      "lamina inspect debian:bookworm", [&] { return RunInspect(line.common, line.reference); });
  CLI::App* fetch = NewCommand(app, line, "fetch", "Make an image wholly local",
                               "lamina fetch --index-only debian:bookworm",
                               [&] { return RunFetch(line.common, line.reference); });
  fetch->add_flag("--index-only", line.reference.index_only,
                  "only index its layers, so that it is lazy from then on");
  for (CLI::App* command : {resolve, inspect, fetch}) {
    command
        ->add_option("reference", line.reference.reference,
                     "an image, as debian, debian:12 or host:5000/app@sha256:…")
        ->required();
    AddPlatformOption(*command, line.common);
  }
  for (CLI::App* command : {add, forget, list, resolve, inspect, fetch}) {
    AddSourceOptions(*command, line.common);
    command->add_flag("--json", line.common.json, "print JSON");
  }
}

// A command with commands of its own below `group`.
CLI::App* NewCommandOf(CLI::App& group, CommandLine& line, const char* name, const char* what,
                       const char* example, std::function<int()> run) {
  CLI::App* command = NewCommand(group, line, name, what, example, std::move(run));
  AddSourceOptions(*command, line.common);
  command->add_flag("--json", line.common.json, "print JSON");
  return command;
}

void AddTags(CLI::App& app, CommandLine& line) {
  CLI::App* tags = app.add_subcommand("tags", "Tags of a repository, and what they were");
  tags->require_subcommand(1);
  tags->footer("Example:\n  lamina tags ls docker.io/library/debian");
  CLI::App* list = NewCommandOf(
      *tags, line, "ls", "List the tags of a repository and their digests", "lamina tags ls debian",
      [&] { return RunTagsList(line.common, line.reference); });
  CLI::App* refresh =
      NewCommandOf(*tags, line, "refresh", "Ask for tags now, whatever their time to live",
                   "lamina tags refresh debian:bookworm",
                   [&] { return RunTagsRefresh(line.common, line.reference); });
  CLI::App* history = NewCommandOf(*tags, line, "history",
                                   "Every digest that a tag was seen at, when and from where",
                                   "lamina tags history debian:bookworm",
                                   [&] { return RunTagsHistory(line.common, line.reference); });
  for (CLI::App* command : {list, refresh, history})
    command
        ->add_option("reference", line.reference.reference,
                     "a repository, or one of its tags, as debian or debian:12")
        ->required();
}

void AddAlias(CLI::App& app, CommandLine& line) {
  CLI::App* alias = NewCommandOf(app, line, "alias", "Make, remove and list local names of images",
                                 "lamina alias debian:stable bookworm\n"
                                 "  lamina alias debian:tested sha256:1f2e…   (a pin)\n"
                                 "  lamina alias --rm debian:stable",
                                 [&] { return RunAlias(line.common, line.alias); });
  CLI::Option* name = alias->add_option(
      "name", line.alias.name, "NAME:ALIAS to make or remove; NAME or nothing lists what there is");
  CLI::Option* target = alias->add_option(
      "target", line.alias.target,
      "a tag or digest of the same repository, or any other image, as nginx:1.27");
  target->needs(name);
  CLI::Option* remove = alias->add_flag("--rm", line.alias.remove, "remove the alias");
  remove->needs(name)->excludes(target);
  CLI::Option* save = alias->add_option("--export", line.alias.export_file,
                                        "FILE to write all aliases to, as JSON");
  CLI::Option* load = alias->add_option("--import", line.alias.import_file,
                                        "FILE of --export to take aliases from");
  for (CLI::Option* option : {save, load}) option->excludes(name)->excludes(remove);
  save->excludes(load);
  AddPlatformOption(*alias, line.common);
}

void AddCache(CLI::App& app, CommandLine& line) {
  CLI::App* cache = app.add_subcommand("cache", "What is kept on disk: figures, checks, cleaning");
  cache->require_subcommand(1);
  cache->footer("Example:\n  lamina cache stat");
  NewCommandOf(*cache, line, "stat", "Show how much is kept, of what, and what may go",
               "lamina cache stat --json", [&] { return RunCacheStat(line.common); });
  CLI::App* collect = NewCommandOf(
      *cache, line, "gc", "Remove what no tag, alias, pin or source names and nobody uses",
      "lamina cache gc --dry-run", [&] { return RunCacheGc(line.common, line.cache); });
  collect->add_flag("--dry-run", line.cache.dry_run, "only tell what would go");
  collect
      ->add_option("--after", line.cache.after,
                   "keep what was named or used since: 7d, 12h, 30m, 90s; without it all goes that "
                   "nothing names or uses now")
      ->check(CheckNow);
  CLI::App* verify =
      NewCommandOf(*cache, line, "verify",
                   "Read what is kept, of one image or of all, and drop what has not its checksum",
                   "lamina cache verify debian:bookworm",
                   [&] { return RunCacheVerify(line.common, line.cache); });
  CLI::App* clear = NewCommandOf(
      *cache, line, "clear",
      "Remove the bytes of layers, of one image or of all; readers fetch them again",
      "lamina cache clear debian:bookworm", [&] { return RunCacheClear(line.common, line.cache); });
  clear->add_flag("--pinned", line.cache.pinned, "those of pinned images too");
  CLI::App* pin = NewCommandOf(*cache, line, "pin",
                               "Keep the image that a reference names now, whatever else goes",
                               "lamina cache pin --fetch debian:bookworm",
                               [&] { return RunCachePin(line.common, line.cache); });
  pin->add_flag("--fetch", line.cache.fetch, "and make it wholly local");
  CLI::App* unpin = NewCommandOf(*cache, line, "unpin", "Let a pinned image go as others do",
                                 "lamina cache unpin debian:bookworm",
                                 [&] { return RunCacheUnpin(line.common, line.cache); });
  for (CLI::App* command : {verify, clear, pin, unpin}) {
    const bool all = command == verify || command == clear;
    command
        ->add_option("reference", line.cache.reference,
                     std::string("an image, as debian:12 or app@sha256:…") +
                         (all ? "; where none is named, all that is kept is meant" : ""))
        ->required(!all);
  }
  for (CLI::App* command : {verify, clear, pin}) AddPlatformOption(*command, line.common);
}

// What comes out of an image without a mount.
void AddOutput(CLI::App& app, CommandLine& line) {
  CLI::App* cat = NewCommand(app, line, "cat", "Print a file of an image; needs no mount",
                             "lamina cat debian:bookworm /etc/os-release",
                             [&] { return RunCat(line.common, line.cat); });
  cat->add_option("reference", line.cat.reference, "an image, as debian:12")->required();
  cat->add_option("path", line.cat.path, "a file in it; symbolic links are followed")->required();

  CLI::App* tree = NewCommand(app, line, "tree", "List what is in an image; needs no mount",
                              "lamina tree --long --depth 1 debian:bookworm /etc",
                              [&] { return RunTree(line.common, line.tree); });
  tree->add_option("reference", line.tree.reference, "an image, as debian:12")->required();
  tree->add_option("path", line.tree.path, "where to begin")->capture_default_str();
  tree->add_option("--depth", line.tree.depth, "levels to show below it (default: all)")
      ->check(CLI::NonNegativeNumber);
  tree->add_flag("-l,--long", line.tree.long_form, "show mode, owner, size and time");
  tree->add_flag("--json", line.common.json, "print a line of JSON for each entry");

  CLI::App* copy = NewCommand(
      app, line, "cp", "Copy a file or a directory out of an image; needs no mount",
      "lamina cp debian:bookworm:/etc/apt .", [&] { return RunCopy(line.common, line.copy); });
  copy->add_option("source", line.copy.source,
                   "REF:PATH; PATH begins with '/', and ends with '/.' where only what is in a "
                   "directory is meant")
      ->required();
  copy->add_option("destination", line.copy.destination,
                   "a directory to copy into, or the name of the copy; '-': a tar to standard "
                   "output")
      ->required();
  copy->add_flag("-L,--follow-link", line.copy.follow,
                 "where PATH is a symbolic link, copy what it leads to");
  for (CLI::App* command : {cat, tree, copy}) {
    AddPlatformOption(*command, line.common);
    AddSourceOptions(*command, line.common);
  }
}

void AddAbout(CLI::App& app, CommandLine& line) {
  CLI::App* doctor = NewCommand(
      app, line, "doctor",
      "Tell what this machine has and lacks, or which hosts an image comes from",
      "lamina doctor\n  lamina doctor debian:bookworm", [&] {
        return line.doctor_subject.starts_with("/") ? RunDoctor(line.common, line.doctor_subject)
                                                    : RunDoctorOf(line.common, line.doctor_subject);
      });
  doctor
      ->add_option("subject", line.doctor_subject,
                   "where lamina is or will be mounted, from '/'; or an image: the hosts that are "
                   "asked for it are told, with credentials and certificates, and tried, by the "
                   "daemon that holds the store where one does and none of its options is given")
      ->capture_default_str();
  AddHostOptions(*doctor, line.common);
  CLI::App* version = NewCommand(app, line, "version", "Print the version", "lamina version",
                                 [&] { return RunVersion(line.common); });
  for (CLI::App* command : {doctor, version})
    command->add_flag("--json", line.common.json, "print JSON");
}

// Parses once more with what the file of --config says, which may not be given twice.
Status ApplyConfig(CLI::App& app, CommandLine& line, const std::vector<std::string>& arguments) {
  ASSIGN_OR_RETURN(const auto more, ConfigArguments(app, *line.command, line.config_file));
  std::vector<std::string> all = arguments;
  const std::string section = SectionOf(*line.command);
  auto command = all.begin();
  for (const std::string_view word : Split(section, '.'))
    command = std::find(command, all.end(), word);
  all.insert(command + 1, more.begin(), more.end());
  std::reverse(all.begin(), all.end());  // as CLI11 takes a vector
  try {
    app.parse(std::move(all));
  } catch (const CLI::ParseError& failure) {
    return Error{Code::kInvalid, failure.what()};
  }
  return {};
}

// The options that belong to the process that holds the store.
constexpr const char* kDaemonOptions[] = {"--tag-ttl",
                                          "--negative-ttl",
                                          "--registry-tag-ttl",
                                          "--registry-negative-ttl",
                                          "--strict",
                                          "--strict-registry",
                                          "--insecure-registry",
                                          "--ca-file",
                                          "--hosts-dir",
                                          "--certs-dir",
                                          "--cache-size",
                                          "--connections",
                                          "--registry-connections"};

// Those that the command line has.
std::vector<std::string> DaemonOptionsGiven(const CLI::App& command) {
  std::vector<std::string> given;
  for (const char* name : kDaemonOptions) {
    const CLI::Option* option = command.get_option_no_throw(name);
    if (option != nullptr && option->count() > 0) given.emplace_back(name);
  }
  return given;
}

// The help of all commands but mount tells them apart, since a daemon that runs has its own.
void GroupDaemonOptions(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    GroupDaemonOptions(*command);
    if (command->get_name() == "mount") continue;
    for (const char* name : kDaemonOptions)
      if (CLI::Option* option = command->get_option_no_throw(name); option != nullptr)
        option->group("Without a daemon");
  }
}

// A daemon has another current folder.
Status MakeAbsolute(CommonOptions& common) {
  ASSIGN_OR_RETURN(common.store, AbsolutePath(common.store));
  if (!common.ca_file.empty()) {
    ASSIGN_OR_RETURN(common.ca_file, AbsolutePath(common.ca_file));
  }
  for (auto* folders : {&common.hosts_folders, &common.certs_folders})
    for (std::string& folder : *folders) {
      ASSIGN_OR_RETURN(folder, AbsolutePath(folder));
    }
  return {};
}

// Credentials and tokens in memory get into no core dump and to no other process of the same user,
// unless somebody wants to look into lamina.
void KeepSecrets() {
  if (std::getenv("LAMINA_DEBUG_DUMPABLE") == nullptr) ::prctl(PR_SET_DUMPABLE, 0);
}

int Main(int argc, char** argv) {
  // libarchive takes names for text of the locale; ours are UTF-8 where they are text at all.
  std::setlocale(LC_CTYPE, "C.UTF-8");
  KeepSecrets();
  CommandLine line;
  line.common.store = DefaultStoreFolder();
  CLI::App app{"lamina mounts container images instead of unpacking them."};
  app.name("lamina");
  app.set_version_flag("--version", std::string("lamina ") + VersionText(), "print the version");
  app.require_subcommand(1);
  app.footer("Example:\n  lamina mount && ls /mnt/images/docker.io/library/debian/bookworm/rootfs");
  AddMounting(app, line);
  AddData(app, line);
  AddTags(app, line);
  AddAlias(app, line);
  AddCache(app, line);
  AddOutput(app, line);
  AddAbout(app, line);
  GroupDaemonOptions(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& stop) {
    return app.exit(stop) == 0 ? 0 : kWrongUsage;
  }
  line.common.daemon_options = DaemonOptionsGiven(*line.command);
  if (!line.config_file.empty()) {
    if (Status applied = ApplyConfig(app, line, {argv + 1, argv + argc}); !applied) {
      Fail(applied.error().Within(line.config_file));
      return kWrongUsage;
    }
  }
  if (Status absolute = MakeAbsolute(line.common); !absolute) return Fail(absolute.error());
  return line.run();
}

}  // namespace
}  // namespace lamina

int main(int argc, char** argv) {
  try {
    return lamina::Main(argc, argv);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "lamina: internal error: %s\n", failure.what());
    return 1;
  }
}
