#!/usr/bin/env bash
# The kernels on CPUs that Bochs plays, AMX among them: see README.md.
#
#   run.sh WORK   WORK: a folder for Bochs, the image and the reports; Bochs is fetched where WORK has none
set -euo pipefail
mkdir -p "$1"
work=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
native=$here/../../../native
root=$work/root

fetch() { # Bochs of Debian trixie with all that it needs, unpacked from where this machine has its own packages
  local apt=$work/apt mirror package
  mkdir -p "$apt"/{lists/partial,archives/partial} "$root"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' | sort -u | sed -n 1p)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
  local options=(-q -y -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State="$apt" -o Dir::State::status=/dev/null -o Dir::Cache="$apt" -o APT::Architecture=amd64
    -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >"$work/fetch.log"
  apt-get "${options[@]}" install --no-install-recommends --download-only bochs bochs-term >>"$work/fetch.log"
  for package in "$apt"/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
  done
}

build() { # the ROM: this folder's program and the kernels of every x86-64 instruction set in isa.def
  local flags=(-std=c11 -O3 -Wall -Wextra -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables
    -ffp-contract=off -fno-math-errno -fno-trapping-math -D_GNU_SOURCE -I"$native/include" -I"$native/src")
  mkdir -p "$work/objects"
  rm -f "$work/objects"/*
  gcc -c "$here/start.S" -o "$work/objects/start.o"
  gcc "${flags[@]}" -ffreestanding -c "$here/kernels.c" -o "$work/objects/kernels.o"
  gcc "${flags[@]}" -U__linux__ -c "$native/src/base/cpu.c" -o "$work/objects/cpu.o" # no system to ask for the tiles
  local name isa_flags
  while read -r name isa_flags; do
    # shellcheck disable=SC2086 # several flags
    gcc "${flags[@]}" $isa_flags -c "$native/src/kernels/$name.c" -o "$work/objects/$name.o"
  done < <(sed -nE 's/^DYNQ_ISA\((\w+), (X86_64|ANY),.*"(.*)"\)$/\1 \3/p' "$native/src/isa.def")
  ld -n --no-warn-rwx-segments -T "$here/image.ld" -o "$work/image.elf" "$work"/objects/*.o
  objcopy -O binary --gap-fill 0 "$work/image.elf" "$work/image.rom"
  test "$(stat -c %s "$work/image.rom")" = 262144
}

on() { # CPU model of Bochs, instruction sets that must run there and pass
  local cpu=$1 expected=$2 passed
  rm -f "$work/$cpu.report"
  cat >"$work/$cpu.rc" <<END
cpu: model=$cpu, ips=100000000, reset_on_triple_fault=0
memory: guest=64, host=64
romimage: file=$work/image.rom, address=0xfffc0000
vgaromimage: file=$root/usr/share/vgabios/vgabios.bin
com1: enabled=1, mode=file, dev=$work/$cpu.report
display_library: term
log: $work/$cpu.log
panic: action=fatal
END
  TERM=dumb BXSHARE=$root/usr/share/bochs LTDL_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu/bochs/plugins \
    timeout 120 "$root/usr/lib64/ld-linux-x86-64.so.2" \
    --library-path "$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/pulseaudio" \
    "$root/usr/bin/bochs-bin" -q -f "$work/$cpu.rc" >"$work/$cpu.out" 2>&1 </dev/null || true
  echo "-- $cpu"
  touch "$work/$cpu.report"
  cat "$work/$cpu.report"
  passed=$(sed -n 's/ PASS .*//p' "$work/$cpu.report" | tr '\n' ' ')
  if [ "$passed" != "$expected " ] || ! grep -qx end "$work/$cpu.report"; then
    echo "FAILED: \"$passed\" passed on $cpu; expected \"$expected \" and the word end; see $work/$cpu.log" >&2
    return 1
  fi
}

[ -x "$root/usr/bin/bochs-bin" ] || fetch
build
on corei7_haswell_4770 "avx2 scalar"
on corei7_skylake_x "avx512 avx2 scalar"
on tigerlake "avx512vnni avx512 avx2 scalar"
on arrow_lake "avxvnni avx2 scalar"
on sapphire_rapids "amx avx512vnni avxvnni avx512 avx2 scalar"
