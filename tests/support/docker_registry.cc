#include "tests/support/docker_registry.h"

#include <utility>

namespace lamina {

Result<std::unique_ptr<DockerRegistry>> DockerRegistry::Start(Options options) {
  ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::Create("lamina-registry"));
  std::unique_ptr<DockerRegistry> registry(
      new DockerRegistry(std::move(options), std::move(folder)));
  if (registry->options_.tls) RETURN_IF_ERROR(registry->MakeCertificate());
  for (int attempt = 0; attempt < 5; ++attempt) {
    ASSIGN_OR_RETURN(const bool listens, registry->Listen(UnusedPort()));
    if (listens) return registry;
  }
  return Error{Code::kUnavailable, "docker-registry does not start"};
}

Result<bool> DockerRegistry::Listen(uint16_t port) {
  ASSIGN_OR_RETURN(const std::string config, Config(port));
  const std::string path = folder_.path() + "/config.yml";
  RETURN_IF_ERROR(WriteFileAtomically(path, AsBytes(config)));
  ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::Start({"docker-registry", "serve", path},
                                                           folder_.path() + "/log"));
  child_ = std::make_unique<ChildProcess>(std::move(child));
  port_ = port;
  return WaitForPort(port, *child_);
}

Status DockerRegistry::MakeCertificate() {
  ca_file_ = folder_.path() + "/cert.pem";
  const auto made = RunCommand({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                                "/CN=lamina test", "-addext", "subjectAltName=DNS:localhost",
                                "-keyout", key_file(), "-out", ca_file_});
  if (!made) return made.error();
  return {};
}

Result<std::string> DockerRegistry::Config(uint16_t port) {
  std::string out = "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: false\n";
  out += "storage:\n  filesystem:\n    rootdirectory: " + folder_.path() + "/storage\n";
  out += "http:\n  addr: 127.0.0.1:" + std::to_string(port) + "\n";
  if (options_.tls)
    out += "  tls:\n    certificate: " + ca_file_ + "\n    key: " + key_file() + "\n";
  if (options_.client_certs) out += "    clientcas:\n      - " + ca_file_ + "\n";
  if (options_.username.empty()) return out;
  ASSIGN_OR_RETURN(const std::string entry,
                   RunCommand({"htpasswd", "-Bbn", options_.username, options_.password}));
  const std::string path = folder_.path() + "/htpasswd";
  RETURN_IF_ERROR(WriteFileAtomically(path, AsBytes(entry)));
  return out + "auth:\n  htpasswd:\n    realm: test\n    path: " + path + "\n";
}

Status DockerRegistry::Push(const std::string& layout, const std::string& name) {
  std::vector<std::string> command = {"skopeo", "--insecure-policy", "copy",
                                      "--dest-tls-verify=false"};
  if (!options_.username.empty())
    command.push_back("--dest-creds=" + options_.username + ":" + options_.password);
  command.insert(command.end(), {layout, "docker://" + host() + "/" + name});
  const auto pushed = RunCommand(command);
  if (!pushed) return pushed.error();
  return {};
}

Result<std::string> DockerRegistry::Log() const {
  return ReadWholeFile(folder_.path() + "/log", 64u << 20);
}

}  // namespace lamina
