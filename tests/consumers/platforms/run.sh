#!/bin/sh
# SPDX-License-Identifier: MIT
#
# shellcheck disable=SC2086 # flags are split into words
#
# Compiles a choice of the unit tests, and the example embed_tokens, for other platforms, and runs them: with wine and
# qemu if this machine cannot. Installs the compilers from Debian's packages. From any folder, into build/platforms.
#
#   sh tests/consumers/platforms/run.sh [PLATFORM...]        windows, aarch64, i386, libcxx; without a name, all
#
# GPT2_PLATFORM_TESTS names other tests; "embed_tokens" alone is quickest.
set -eu

cd "$(dirname "$0")/../../.."
. cmake/setup.sh

platforms=${*:-windows aarch64 i386 libcxx}
# The tests that depend most on the platform: files, sizes of integers, the order of bytes, registers, exceptions.
tests=${GPT2_PLATFORM_TESTS:-error embedding embeddings gradients position_ids row_sums lm_head config_json safetensors \
pretrained embed_tokens}

# settings PLATFORM: the compiler, its flags, the emulator that runs its programs, and the ending of their names.
settings() {
  run='' ending='' flags='-Wno-maybe-uninitialized' link=''  # which GCC 12 gets wrong at -O1
  case $1 in
    windows)
      compiler=x86_64-w64-mingw32-g++-posix ending=.exe link=-static flags='-Wno-maybe-uninitialized -Wa,-mbig-obj'
      for name in wine64 wine64-stable wine /usr/lib/wine/wine64; do
        if command -v "$name" >/dev/null 2>&1; then run=$name && break; fi
      done
      ;;
    aarch64) compiler=aarch64-linux-gnu-g++ run='qemu-aarch64 -L /usr/aarch64-linux-gnu' ;;
    # Not with x87 arithmetic, which rounds twice.
    i386)
      compiler=i686-linux-gnu-g++ flags='-Wno-maybe-uninitialized -msse2 -mfpmath=sse'
      run='/usr/i686-linux-gnu/lib/ld-linux.so.2 --library-path /usr/i686-linux-gnu/lib'
      ;;
    libcxx) compiler=clang++-14 flags='-stdlib=libc++' link='-stdlib=libc++' ;;
    *)
      echo "there is no platform '$1', but windows, aarch64, i386 and libcxx" >&2
      exit 2
      ;;
  esac
}

need_file 'Eigen 3.4' libeigen3-dev include/eigen3/Eigen/Core
need_file 'nlohmann_json 3.11' nlohmann-json3-dev include/nlohmann/json.hpp
need_file 'Catch2 2.13' catch2 include/catch2/catch.hpp
for platform in $platforms; do
  settings "$platform"
  case $platform in
    windows)
      need_command "$compiler" g++-mingw-w64-x86-64-posix
      if [ -z "$run" ]; then note_missing 'wine, for 64 bits' wine64; fi
      ;;
    aarch64)
      need_command "$compiler" g++-aarch64-linux-gnu
      need_command qemu-aarch64 qemu-user
      ;;
    i386) need_command "$compiler" g++-i686-linux-gnu ;;
    libcxx)
      need_command "$compiler" clang-14
      need_file 'libc++ 14' libc++-14-dev lib/llvm-14/include/c++/v1/version
      need_file 'libc++abi 14' libc++abi-14-dev lib/llvm-14/lib/libc++abi.so
      ;;
  esac
done
install_missing

top=$(pwd)
out=$top/build/platforms
# The dependencies are headers only, the same for all; but /usr/include also has this machine's own.
mkdir -p "$out/include"
ln -sfn /usr/include/nlohmann "$out/include/nlohmann"
ln -sfn /usr/include/catch2 "$out/include/catch2"
printf '#define CATCH_CONFIG_MAIN\n#include <catch2/catch.hpp>\n' >"$out/catch_main.cpp"

# One line for each compilation, with its command.
step "compiling for $(echo "$platforms" | tr '\n' ' ')with $processors processors"
for platform in $platforms; do
  settings "$platform"
  mkdir -p "$out/$platform"
  for test in catch_main $tests; do
    case $test in
      catch_main) source=$out/catch_main.cpp ;;
      embed_tokens) source=examples/embed_tokens.cpp ;;
      *) source=tests/unit/$test.cpp ;;
    esac
    object=$out/$platform/$test.o
    rm -f "$object"
    printf '%s\n' "${CMAKE_CXX_COMPILER_LAUNCHER:-} $compiler -std=c++20 -O1 $flags -Wall -Wextra -Werror \
-Iinclude -Itests/unit -isystem /usr/include/eigen3 -isystem '$out/include' -DGPT2_REFERENCE_DIR='\"$top/tests/reference\"' \
-c '$source' -o '$object' || echo '$platform: $test does not compile' >&2"
  done
done >"$out/commands"
# All of them are tried, even if some fail: those without an object file in the end have failed.
tr '\n' '\0' <"$out/commands" | xargs -0 -P "$processors" -n 1 sh -c

failed=0
# report PLATFORM TEST RESULT
report() {
  printf '%-8s  %-16s  %s\n' "$1" "$2" "$3"
  case $3 in passed*) ;; *) failed=$((failed + 1)) ;; esac
}

step 'running'
# Not in the build folder: a prefix links to the whole file system.
WINEPREFIX=$(mktemp -d) WINEDEBUG=-all
trap 'rm -rf "$WINEPREFIX"' EXIT
export WINEPREFIX WINEDEBUG
for platform in $platforms; do
  settings "$platform"
  for test in $tests; do
    program=$out/$platform/$test$ending
    main=$out/$platform/catch_main.o
    if [ "$test" = embed_tokens ]; then main=''; fi
    if [ ! -e "$out/$platform/$test.o" ]; then
      report "$platform" "$test" 'does not compile'
    elif ! $compiler "$out/$platform/$test.o" $main -o "$program" $link -pthread; then
      report "$platform" "$test" 'does not link'
    elif ! $run "$program" >"$program.log" 2>"$program.errors" </dev/null; then
      tail -n 40 "$program.log" "$program.errors"
      report "$platform" "$test" 'fails'
    elif [ "$test" = embed_tokens ] && ! tr -d '\r' <"$program.log" | diff - examples/embed_tokens.output; then
      report "$platform" "$test" 'prints something else'
    else
      report "$platform" "$test" "passed  $(grep -aoE '[0-9]+ (assertions?|test cases?)' "$program.log" | tr '\n' ' ' || true)"
    fi
  done
done
if [ "$failed" != 0 ]; then
  echo "$failed failed" >&2
  exit 1
fi
