#include "netsetup/types/folder.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace podnic {
namespace {

TEST(SplitPathTest, FolderAndName) {
  const auto parts = [](const std::string& path) {
    const auto [folder, name] = split_path(path);
    return folder + " " + name;
  };
  EXPECT_EQ(parts("/run/podnic/daemon.sock"), "/run/podnic daemon.sock");
  EXPECT_EQ(parts("/daemon.sock"), "/ daemon.sock");
  EXPECT_EQ(parts("daemon.sock"), ". daemon.sock");
  EXPECT_EQ(parts("run/"), "run ");
}

TEST(NamesInTest, WithoutTheFolderItself) {
  std::string folder = testing::TempDir() + "podnic-folder-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  EXPECT_THAT(names_in(folder), testing::IsEmpty());
  for (const char* name : {"one", ".two"}) std::ofstream(folder + "/" + name) << "x";
  EXPECT_THAT(names_in(folder), testing::UnorderedElementsAre("one", ".two"));
  for (const char* name : {"/one", "/.two", ""}) EXPECT_EQ(std::remove((folder + name).c_str()), 0);
  EXPECT_THAT(names_in(folder), testing::IsEmpty());
}

}  // namespace
}  // namespace podnic
