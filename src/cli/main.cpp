// headlens/cli: the command's entry point.
#include "cli/commands.h"

int main(int argc, char** argv) {
  return headlens::cli::run(argc, argv);
}
