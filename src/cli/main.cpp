// headlens/cli: the command's entry point.
#include <fcntl.h>

#include <csignal>
#include <exception>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "cli/commands.h"
#include "cli/interrupt.h"

namespace {

/// A stream that the caller closed must not lend its number to a file that we open: messages would
/// end up in it. Read-only, so that printing to a closed stdout still fails.
void occupy_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", O_RDONLY);
  }
}

/// Every batch frees what the next one takes. Handing that back to the system in between costs a
/// sweep on the CPU a fifth of its time in page faults. (Blocks above 32 MiB, weights among them,
/// go back all the same.)
void keep_freed_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  headlens::cli::end_on_interrupt();
  ::signal(SIGXFSZ, SIG_IGN);  // a quota: writing then fails with words for it
  keep_freed_memory();
  occupy_standard_streams();
  std::set_terminate(headlens::cli::end_on_terminate);
  const int status = headlens::cli::run(argc, argv);
  headlens::cli::leave(status);
  return status;
}
