#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Makes the Debian package, lets lintian judge it, unpacks it into a folder, and builds a consumer of it there.
# With --install, as root, the package is also installed, consumed from /usr, and removed without a trace.
#
#   sh tests/consumers/install/debian_package.sh [--install] [CMAKE_OPTIONS...]
set -eu

cd "$(dirname "$0")/../../.."
. cmake/setup.sh

install=''
if [ "${1:-}" = --install ]; then
  install=yes
  shift
fi

need_build_tools
need_command dpkg-deb dpkg
need_command lintian lintian
need_command pkg-config pkg-config
install_missing

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"  # apt reads the package as a user of its own

step 'making the package'
cmake -S . -B "$work/build" -DGPT2_EMBEDDINGS_BUILD_TESTS=OFF -DGPT2_EMBEDDINGS_BUILD_EXAMPLES=OFF "$@"
cmake --build "$work/build" --target package
package=$(echo "$work"/build/*.deb)
name=$(dpkg-deb --field "$package" Package)
version=$(dpkg-deb --field "$package" Version)

step "lintian: $(basename "$package")"
lintian --allow-root --fail-on error,warning "$package"

# consume PREFIX: builds and runs the consumer, which must find the library there and nowhere else.
consume() {
  rm -rf "$work/consumer"
  cmake -S tests/consumers/install/find_package -B "$work/consumer" -DCMAKE_PREFIX_PATH="$1" -DVERSION="${version%-*}"
  grep -Fx "gpt2_embeddings_DIR:PATH=$1/share/cmake/gpt2_embeddings" "$work/consumer/CMakeCache.txt"
  cmake --build "$work/consumer"
  "$work/consumer/consumer"
}

step 'unpacked'
dpkg-deb --extract "$package" "$work/root"
diff -r include/gpt2 "$work/root/usr/include/gpt2"
consume "$work/root/usr"
PKG_CONFIG_PATH=$work/root/usr/share/pkgconfig pkg-config --print-errors --exists "gpt2_embeddings = ${version%-*}"

if [ -z "$install" ]; then exit; fi
if dpkg-query --show "$name" >/dev/null 2>&1; then
  echo "$name is installed here already, and is left alone" >&2
  exit 1
fi

# Those of the package's files and folders that this system has.
present() {
  dpkg-deb --fsys-tarfile "$package" | tar --list | while read -r path; do
    if [ -e "/$path" ]; then echo "/$path"; fi
  done
}
before=$(present)

step 'installed'
apt-get install -y --no-install-recommends "$package"
consume /usr
sh tests/consumers/install/pkg_config.sh /usr "${version%-*}" tests/consumers/install/main.cpp "$work/with_pkg_config" "${CXX:-c++}"

step 'removed'
dpkg --purge "$name"
after=$(present)
if [ "$before" != "$after" ]; then
  printf 'There were\n%s\nand now there are\n%s\n' "$before" "$after" >&2
  exit 1
fi
