// headlens/tests: a stranger's program, with the library as a subdirectory.
#include <cstdio>

#include "headlens/core/dtype.h"
#include "headlens/core/error.h"

int main() {
  if (headlens::element_size(headlens::parse_dtype("bfloat16")) != 2) return 1;
  try {
    headlens::parse_dtype("float31");
  } catch (const headlens::ConfigError& error) {
    std::puts(error.what());
    return 0;
  }
  return 1;
}
