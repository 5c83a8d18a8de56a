# headlens/scripts: what build, test and demo share: packages, LibTorch, configuring. Sourced.

shopt -s inherit_errexit  # a failure inside $(...) is a failure

HEADLENS_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Debian's names of everything the build asks the system for.
HEADLENS_PACKAGES=(g++ ccache libfmt-dev libspdlog-dev nlohmann-json3-dev libeigen3-dev
  libgtest-dev libbenchmark-dev libpcre2-dev libutf8proc-dev libsentencepiece-dev libzip-dev zlib1g-dev
  libcli11-dev clang-format doxygen pkg-config binutils python3 python3-venv python3-numpy python3-matplotlib git)

say() { printf 'headlens: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Prints on or off: HEADLENS_CUDA, where auto (the default) means "nvcc is there".
cuda_wanted() {
  case "${HEADLENS_CUDA:-auto}" in
    on|ON|1) echo on ;;
    off|OFF|0) echo off ;;
    auto) if [ -n "$(find_nvcc)" ]; then echo on; else echo off; fi ;;
    *) die "[scripts] HEADLENS_CUDA, expected on, off or auto, got ${HEADLENS_CUDA}" ;;
  esac
}

find_nvcc() {
  command -v nvcc || { [ -x /usr/local/cuda/bin/nvcc ] && echo /usr/local/cuda/bin/nvcc; } || true
}

# Installs missing system packages with apt, as root or through sudo; elsewhere names them.
install_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "no apt here; the build wants these (Debian's names): ${HEADLENS_PACKAGES[*]}"
    return 0
  fi
  local package missing=()
  for package in "${HEADLENS_PACKAGES[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
      die "[install_packages] missing packages, expected root or sudo to install: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing system packages with apt-get: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# Debian's own python3 first: a user's pyenv or conda one may lack venv.
find_python() {
  local candidate
  for candidate in /usr/bin/python3 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' \
      2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  die "[find_python] python3 with venv, expected 3.10 or newer, got none"
}

# Prints the folder of the wheels (LibTorch, cmake, ninja), filling it when it is not complete.
# A second clone finds it full: it is named by the hash of what it holds.
install_wheels() {
  local flavour=$1
  local pins="$HEADLENS_ROOT/scripts/requirements-$([ "$flavour" = on ] && echo cuda || echo cpu).txt"
  local key
  key="$(sha256sum "$pins" | cut -c1-12)"
  local deps="${XDG_CACHE_HOME:-$HOME/.cache}/headlens/deps-$key"
  if [ ! -f "$deps/.complete" ]; then
    mkdir -p "$deps"
    (
      flock 9
      [ -f "$deps/.complete" ] && exit 0
      say "installing into $deps: $(grep -o '^[^#][^ ]*==[^ ]*' "$pins" | tr '\n' ' ')"
      [ "$flavour" = on ] && say "with the CUDA libraries this is about 4.6 GB; HEADLENS_CUDA=off takes 1.5 GB"
      python="$(find_python)" || exit 1
      "$python" -m venv --clear "$deps/venv" >&2 || exit 1
      local no_deps=()
      [ "$flavour" = on ] || no_deps=(--no-deps)
      "$deps/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        "${no_deps[@]}" --require-hashes -r "$pins" >&2 || exit 1
      touch "$deps/.complete"
    ) 9>"$deps/.lock" || die "[install_wheels] installing into $deps failed"
  fi
  echo "$deps"
}

# Sets up everything, then configures the preset: packages, wheels, cmake, which gets any further
# arguments. Leaves CMAKE and NINJA set.
configure() {
  local preset=$1
  shift
  local cuda deps
  cuda="$(cuda_wanted)"
  install_packages
  deps="$(install_wheels "$cuda")"
  CMAKE="$deps/venv/bin/cmake"
  NINJA="$deps/venv/bin/ninja"
  HEADLENS_BUILD_DIR="$HEADLENS_ROOT/build/$preset"
  say "configuring $preset (CUDA $cuda)"
  mkdir -p "$HEADLENS_BUILD_DIR"
  local log="$HEADLENS_BUILD_DIR/configure.log"
  if ! (cd "$HEADLENS_ROOT" && "$CMAKE" --preset "$preset" \
    -DCMAKE_MAKE_PROGRAM="$NINJA" -DHEADLENS_CUDA="$cuda" \
    -DHEADLENS_TORCH_ROOT="$(echo "$deps"/venv/lib/python3*/site-packages/torch)" "$@") >"$log" 2>&1; then
    cat "$log" >&2
    die "[configure] cmake --preset $preset failed"
  fi
  grep -A3 'CMake Warning' "$log" >&2 || true
}

# Builds the given targets of the configured preset, or all of it.
build() {
  say "building in $HEADLENS_BUILD_DIR"
  "$NINJA" -C "$HEADLENS_BUILD_DIR" "$@" >&2
}
