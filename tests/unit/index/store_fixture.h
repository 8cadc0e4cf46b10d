#pragma once

// What the tests of the store share: a path, opening anew, and the sqlite3 tool as an independent
// look inside.

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "base/digest.h"
#include "base/file.h"
#include "index/store.h"

namespace lamina {

class StoreFixture : public ::testing::Test {
 protected:
  StoreFixture() : folder_(TemporaryFolder::Create("lamina-store-test").value()) {}

  void Open() {
    store_.reset();
    auto opened = Store::Open(path_);
    ASSERT_TRUE(opened) << opened.error().message;
    store_ = std::move(opened).value();
  }

  static Digest DigestOf(const std::string& content) { return Digest::Sha256(AsBytes(content)); }

  // What python's sqlite3 answers to `sql`, the first column of the first row as text.
  std::string Query(const std::string& sql) {
    const std::string program =
        "import sqlite3,sys\n"
        "c=sqlite3.connect(sys.argv[1],timeout=30,isolation_level=None)\n"
        "r=c.execute(sys.argv[2]).fetchone()\n"
        "print('' if r is None else r[0],end='')\n";
    const std::string command = "python3 -c \"" + program + "\" '" + path_ + "' \"" + sql + "\"";
    FILE* pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) return "cannot run python3";
    std::string answer;
    for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe))
      answer.push_back(static_cast<char>(c));
    EXPECT_EQ(::pclose(pipe), 0) << sql;
    return answer;
  }

  // Databases that were set aside, without the files beside them.
  size_t SetAsideCount() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      const std::string name = entry.path().filename();
      const bool beside = name.ends_with("-wal") || name.ends_with("-shm");
      if (name.find(".corrupt-") != std::string::npos && !beside) ++count;
    }
    return count;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/store.db";
  std::unique_ptr<Store> store_;
};

}  // namespace lamina
