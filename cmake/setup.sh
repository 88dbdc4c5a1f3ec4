# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# Functions that tests/run.sh and examples/run.sh share; both source this file from the repository's top folder.
# POSIX sh.

processors=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

step() { printf '\n== %s\n' "$*"; }

# Commands are searched in PATH, headers in the folders that compilers and CMake search.
missing_packages=''
missing_things=''
note_missing() {
  missing_things="$missing_things
  $1 ($2)"
  missing_packages="$missing_packages $2"
}

# need_command "NAME [OR-NAME...]" PACKAGE: one of the names is enough.
need_command() {
  for name in $1; do
    if command -v "$name" >/dev/null 2>&1; then return; fi
  done
  note_missing "the command $(echo "$1" | sed 's/ / or /g')" "$2"
}

# need_file WHAT PACKAGE NAME...: a file of one of the names, under one of the usual prefixes or CMAKE_PREFIX_PATH.
need_file() {
  what=$1 package=$2
  shift 2
  for name in "$@"; do
    for prefix in /usr /usr/local /opt/homebrew /opt/local $(echo "${CMAKE_PREFIX_PATH:-}" | tr ':;' '  '); do
      if [ -e "$prefix/$name" ]; then return; fi
    done
  done
  note_missing "$what" "$package"
}

# Installs the packages found missing by the calls above if that needs no password; otherwise prints the commands.
install_missing() {
  if [ -z "$missing_things" ]; then return; fi
  as_root=''
  if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
  command_line="apt-get install -y --no-install-recommends$missing_packages"
  if command -v apt-get >/dev/null 2>&1 && { [ -z "$as_root" ] || sudo -n true 2>/dev/null; }; then
    step "installing with apt-get:$missing_packages"
    echo "because these were not found:$missing_things"
    # One package source that cannot be reached is no reason to stop: the installation may still succeed.
    $as_root apt-get update || echo 'apt-get update had errors; going on with the lists there are' >&2
    # shellcheck disable=SC2086
    if $as_root env DEBIAN_FRONTEND=noninteractive $command_line; then
      missing_packages='' missing_things=''
      return
    fi
    echo >&2
    echo 'The packages could not be installed. Missing:' >&2
  else
    echo 'Missing:' >&2
  fi
  {
    echo "${missing_things#?}"
    echo 'On Debian or Ubuntu, install it with'
    echo "  sudo apt-get update && sudo $command_line"
    echo 'elsewhere with what the system has in its place; CMAKE_PREFIX_PATH may name where. Then run this again.'
  } >&2
  exit 1
}

# The tools and libraries that every build needs.
need_build_tools() {
  need_command "${CXX:-c++}" g++
  need_command cmake cmake
  need_command 'ninja make' ninja-build
  need_file 'Eigen 3.4' libeigen3-dev include/eigen3/Eigen/Core include/Eigen/Core
  need_file 'nlohmann_json 3.11' nlohmann-json3-dev include/nlohmann/json.hpp
}

# configure PRESET [CMAKE_OPTIONS...]: configures build/PRESET.
configure() {
  preset=$1
  shift
  # Only the first configuration takes the generator from here; later ones take the build folder's.
  if command -v ninja >/dev/null 2>&1; then
    CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
    export CMAKE_GENERATOR
  fi
  step "configuring build/$preset"
  cmake --preset "$preset" "$@"
}

# build PRESET [TARGET]: builds the target, or everything, in build/PRESET with all processors.
build() {
  step "building build/$1${2:+: $2} with $processors processors"
  cmake --build "build/$1" --parallel "$processors" ${2:+--target "$2"}
}
