// headlens/core: which build this is.
#include "headlens/core/version.h"

namespace headlens {

std::string_view version() {
  return HEADLENS_VERSION;
}
std::string_view git_revision() {
  return HEADLENS_GIT_REVISION;
}

}  // namespace headlens
