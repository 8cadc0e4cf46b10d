#include "base/log.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace lamina {
namespace {

TEST(LogTest, AFullFileMakesRoomForTheNextAndTheOldestGoes) {
  const auto folder = std::move(TemporaryFolder::Create("lamina-log")).value();
  const std::string file = folder.path() + "/lamina.log";
  constexpr size_t kBytes = 4096;
  ASSERT_TRUE(StartLog({.file = file, .to_stderr = false, .file_bytes = kBytes, .older_files = 2}));
  for (int i = 0; i < 1000; ++i) LogInfo("line " + std::to_string(i));
  for (const char* name : {"/lamina.log", "/lamina.1.log", "/lamina.2.log"}) {
    const auto text = ReadWholeFile(folder.path() + name, 1u << 20);
    ASSERT_TRUE(text) << text.error().message;
    EXPECT_LE(text->size(), kBytes) << name;
  }
  EXPECT_FALSE(FileExists(folder.path() + "/lamina.3.log"));
  EXPECT_NE(ReadWholeFile(file, 1u << 20)->find("line 999\n"), std::string::npos);
}

}  // namespace
}  // namespace lamina
