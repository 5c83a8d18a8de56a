// headlens/tests: a stranger's program, linked with the installed library.
#include <cstdio>

#include "every_header.h"

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
