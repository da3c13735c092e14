// What the kernel says of a process that serves guests.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <fstream>
#include <map>
#include <string>

namespace podnic::test {

/// It is nobody, has one thread and no capability, cannot get any, and makes no system call but those of its
/// filter. `proc`: where the process has this number.
inline void expect_confined(pid_t pid, const std::string& proc = "/proc") {
  std::map<std::string, std::string> status;
  std::ifstream file(fmt::format("{}/{}/status", proc, pid));
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(":\t");
    if (colon != std::string::npos) status[line.substr(0, colon)] = line.substr(colon + 2);
  }
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"})
    EXPECT_EQ(status[set], "0000000000000000") << set;
  EXPECT_EQ(status["NoNewPrivs"], "1");
  EXPECT_EQ(status["Seccomp"], "2");
  EXPECT_EQ(status["Threads"], "1");
  EXPECT_EQ(status["Uid"], "65534\t65534\t65534\t65534");
  EXPECT_EQ(status["Gid"], "65534\t65534\t65534\t65534");
}

}  // namespace podnic::test
