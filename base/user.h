#pragma once

// The user that this process runs as, and where their files are. Any thread; blocks where the
// system's list of users does.

#include <string>

namespace lamina {

// A variable of the environment; empty where it is not set.
std::string EnvironmentOf(const char* name);
// $HOME, else what the system's list of users has, since services of the system often run without
// HOME. Empty where neither says an absolute path.
std::string HomeFolder();

}  // namespace lamina
