#pragma once

// RunHelper: another program's answer to a short input, for helpers that are not to be trusted with
// more: started without a shell, in an environment of its own, with no descriptor of ours but its
// three, in a process group that ends with it. Any thread; waits no longer than the bound.

#include <chrono>
#include <string>
#include <vector>

#include "base/result.h"

namespace lamina {

struct HelperBounds {
  std::chrono::milliseconds time{10'000};
  size_t output_bytes = 1u << 20;
};

struct HelperAnswer {
  int exit_code = 0;   // 128 + N where signal N ended it
  std::string output;  // what it wrote to its standard output; its standard error goes nowhere
};

// `arguments` begin with the program's path; `environment` has NAME=VALUE lines. kNotFound where
// there is no such program, kTimeout and kLimit where it goes beyond a bound: it is killed then.
Result<HelperAnswer> RunHelper(const std::vector<std::string>& arguments,
                               const std::vector<std::string>& environment,
                               const std::string& input, const HelperBounds& bounds = {});

}  // namespace lamina
