#!/usr/bin/env bash
# Installs what ci/platform.sh needs on Debian 12: compilers, wine, qemu, and std for each target.
#
#   ci/foreign-std.sh TARGET...
#
# Where rustup can add a target and its linker is at hand, that is the simpler way. This one needs
# Debian packages and the crates of std's lock file only: bookworm-security carries a compiler
# together with its std for Debian's own platforms and the source of that, from which std is built
# once for each other target (a minute; only checked for those that link nothing here) and put where
# that compiler looks. Needs root; does nothing twice.
set -euo pipefail
cd "$(dirname "$0")"/..

# Of several at once, one installs and the others find it there.
exec 9>/var/lock/ipmpsc-foreign-std
flock 9

packages=(rustc-web rust-web-src cargo-web rust-web-clippy)
for target in "$@"; do
  case "$target" in
    # Not the meta package gcc-multilib: it drives gcc-aarch64-linux-gnu out.
    i686-unknown-linux-gnu) packages+=(gcc-12-multilib libc6-dev-i386) ;;
    # Debian's libgcc_eh cannot unwind under musl; LLVM's libunwind can.
    x86_64-unknown-linux-musl) packages+=(musl-tools libunwind-22-dev) ;;
    aarch64-unknown-linux-gnu)
      packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)
      ;;
    x86_64-pc-windows-gnu) packages+=(gcc-mingw-w64-x86-64-win32 wine64 wine) ;;
    # For zig, which is a wheel. A Python that did not come from Debian brings its own venv.
    *-apple-*) python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv) ;;
  esac
done
bash ci/apt.sh "${packages[@]}"

# Debian's compiler, whatever rustup has put before it.
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO_INCREMENTAL=0
unset CARGO_TARGET_DIR RUSTFLAGS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
touch "$work/src/lib.rs"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "foreign-std"
version = "0.0.0"
edition = "2024"

[profile.release]
opt-level = 1
TOML

# What a static musl program is linked with, which rustup would bring along.
add_musl_objects() {
  local to=$1/self-contained gcc_folder
  gcc_folder=$(dirname "$(gcc -print-libgcc-file-name)")
  mkdir -p "$to"
  cp /usr/lib/x86_64-linux-musl/{crt1.o,Scrt1.o,rcrt1.o,crti.o,crtn.o,libc.a} "$to/"
  cp "$gcc_folder"/{crtbegin.o,crtbeginS.o,crtend.o,crtendS.o,libgcc.a} "$to/"
  cp /usr/lib/llvm-22/lib/libunwind.a "$to/"
  # Debian has built libunwind against glibc's checked printf, which musl does not have.
  cat >"$work/checked.c" <<'C'
#include <stdarg.h>
#include <stdio.h>
int __fprintf_chk(FILE *file, int flag, const char *format, ...) {
  va_list list;
  va_start(list, format);
  int result = vfprintf(file, format, list);
  va_end(list);
  return result;
}
int __snprintf_chk(char *to, size_t size, int flag, size_t room, const char *format, ...) {
  va_list list;
  va_start(list, format);
  int result = vsnprintf(to, size, format, list);
  va_end(list);
  return result;
}
C
  musl-gcc -O2 -U_FORTIFY_SOURCE -c "$work/checked.c" -o "$work/checked.o"
  ar rs "$to/libunwind.a" "$work/checked.o"
}

# Debian's own std for architecture $1: one archive, unpacked and not installed, as an architecture
# that dpkg knows of changes what every later apt-get does.
unpack() {
  local options=(-q -o Acquire::Retries=5 -o APT::Architecture="$1" -o APT::Architectures="$1"
    -o Dir::State::lists="$work/lists" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
  mkdir -p "$work/lists/partial"
  apt-get "${options[@]}" update &&
    (cd "$work" && apt-get "${options[@]}" download \
      "libstd-rust-web-dev=$(dpkg-query -W -f '${Version}' libstd-rust-web-dev)") &&
    dpkg-deb -x "$work"/libstd-rust-web-dev_*_"$1".deb "$work/unpacked" &&
    cp "$work/unpacked/usr/lib/rustlib/$target/lib"/* "$to/"
}

# Builds or checks (the first word) std for the targets given, all at once.
make_std() {
  local how=$1 options=(-q --release "-Zbuild-std=std,panic_unwind,panic_abort,test,proc_macro")
  shift
  [ $# -gt 0 ] || return 0
  # The bootstrap variable lets a stable compiler build its own library, and nothing else here.
  (cd "$work" && RUSTC_BOOTSTRAP=1 /usr/bin/cargo "$how" "${options[@]}" "${@/#/--target=}")
  for target in "$@"; do
    find "$work/target/$target/release/deps" \( -name '*.rlib' -o -name '*.rmeta' \) \
      ! -name 'libforeign_std*' -exec cp {} "/usr/lib/rustlib/$target/lib/" \;
  done
}

missing=() build=() check=()
stamp=.made-by-$("$RUSTC" -V | tr ' ()' '___')
for target in "$@"; do
  to=/usr/lib/rustlib/$target/lib
  if [ -e "$to/$stamp" ]; then
    echo "$target: already there"
    continue
  fi
  missing+=("$target")
  rm -rf "$to"
  mkdir -p "$to"
  case "$target" in
    # A mirror can lag behind for one architecture.
    i686-unknown-linux-gnu) unpack i386 || build+=("$target") ;;
    aarch64-unknown-linux-gnu) unpack arm64 || build+=("$target") ;;
    *-android | *-msvc | x86_64-apple-*) check+=("$target") ;;
    *) build+=("$target") ;;
  esac
done
make_std build "${build[@]}"
make_std check "${check[@]}"
for target in "${missing[@]}"; do
  to=/usr/lib/rustlib/$target/lib
  if [ "$target" = x86_64-unknown-linux-musl ]; then
    add_musl_objects "$to"
  fi
  touch "$to/$stamp"
  echo "$target: installed, $(du -sh "$to" | cut -f1)"
done
