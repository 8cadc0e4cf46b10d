#pragma once

// Running the real tools (umoci, skopeo) and writing layouts by hand, for the tests of fetch. A
// tool that is missing is a failure of the test, not a reason to skip it.

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/file.h"

namespace lamina {

// Runs a shell command; what it printed comes back. The test fails where it does not exit with 0.
inline std::string RunTool(const std::string& command) {
  auto folder = TemporaryFolder::Create("lamina-tool");
  if (!folder) {
    ADD_FAILURE() << folder.error().message;
    return "";
  }
  const std::string log = folder->path() + "/log";
  const int status = std::system(("{ " + command + "; } >" + log + " 2>&1").c_str());
  auto printed = ReadWholeFile(log, 1 << 20);
  EXPECT_EQ(status, 0) << command << "\n" << (printed ? *printed : printed.error().message);
  return printed ? *std::move(printed) : "";
}

inline void WriteText(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  ASSERT_TRUE(file.good()) << path;
}

// A layout written by hand, so that it can be wrong in any way.
class HandLayout {
 public:
  HandLayout() : folder_(TemporaryFolder::Create("lamina-layout")) {
    std::filesystem::create_directories(path() + "/blobs/sha256");
    WriteText(path() + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
    WriteIndex("");
  }
  std::string path() const { return folder_->path(); }

  // Adds a blob and returns a descriptor of it as JSON, with `more` members (",\"a\":1").
  std::string Add(std::string_view content, std::string_view media_type,
                  const std::string& more = "") {
    const Digest digest = Digest::Sha256(AsBytes(content));
    WriteText(BlobPath(digest), content);
    return R"({"mediaType":")" + std::string(media_type) + R"(","digest":")" + digest.ToString() +
           R"(","size":)" + std::to_string(content.size()) + more + "}";
  }
  void WriteIndex(const std::string& entries) {
    WriteText(path() + "/index.json", R"({"schemaVersion":2,"manifests":[)" + entries + "]}");
  }
  std::string BlobPath(const Digest& digest) const {
    const std::string algorithm =
        digest.algorithm() == Digest::Algorithm::kSha256 ? "sha256" : "sha512";
    return path() + "/blobs/" + algorithm + "/" + digest.hex();
  }

 private:
  Result<TemporaryFolder> folder_;
};

}  // namespace lamina
