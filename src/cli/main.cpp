// headlens/cli: the command's entry point.
#include <fcntl.h>

#include "cli/commands.h"

namespace {

/// A stream that the caller closed must not lend its number to a file that we open: messages would
/// end up in it. Read-only, so that printing to a closed stdout still fails.
void occupy_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", O_RDONLY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  occupy_standard_streams();
  return headlens::cli::run(argc, argv);
}
