#pragma once

// DockerRegistry: a real docker-registry on loopback, with its storage and log in a folder of its
// own. It ends with the object. One thread.

#include <cstdint>
#include <memory>
#include <string>

#include "base/file.h"
#include "tests/support/child_process.h"

namespace lamina {

class DockerRegistry {
 public:
  struct Options {
    bool tls = false;      // a certificate of its own for localhost, made by openssl
    std::string username;  // with the password: Basic by htpasswd
    std::string password;
    bool client_certs = false;  // with tls: speaks only to who shows its own certificate
  };
  static Result<std::unique_ptr<DockerRegistry>> Start(Options options);

  std::string host() const { return "localhost:" + std::to_string(port_); }
  uint16_t port() const { return port_; }
  const std::string& ca_file() const { return ca_file_; }
  std::string key_file() const { return folder_.path() + "/key.pem"; }
  // Pushes `layout` ("oci:/path:tag") as `name` ("team/app:1") with skopeo, blobs as they are.
  Status Push(const std::string& layout, const std::string& name);
  // What it logged; one line for each request.
  Result<std::string> Log() const;

 private:
  explicit DockerRegistry(Options options, TemporaryFolder folder)
      : options_(std::move(options)), folder_(std::move(folder)) {}
  Status MakeCertificate();
  Result<std::string> Config(uint16_t port);
  Result<bool> Listen(uint16_t port);

  const Options options_;
  const TemporaryFolder folder_;
  std::string ca_file_;
  uint16_t port_ = 0;
  std::unique_ptr<ChildProcess> child_;  // goes before the folder
};

}  // namespace lamina
