#!/usr/bin/env bash
# dead_code.sh WORK: prints the functions and tables of the C library that nothing reaches, and fails if one of them is
# not explained below. Builds in WORK/dead_code. The compiler warns of unused static functions; here are the others:
# 1. what the linker drops from the shared library, whose roots are the public functions. It is built without
#    optimization, which would leave inlined functions behind, and with the scalar kernels alone: all that a file in
#    native/src/kernels exports is its table.
# 2. inline functions whose names stand in one place only: no object holds them.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$1

declare -A explained=(
  [dynq_kernels_override]="tests/native/check_custom.c and bench/profile.c put kernels of their own in place"
  [dynq_threads_here]="the Python extension calls it: native/cmake/write_cffi_source.py"
)

rm -rf "$work/dead_code"
mkdir -p "$work/dead_code"
log=$work/dead_code/log
{
  cmake -S . -B "$work/dead_code" -G Ninja -DDYNQ_ISAS=scalar \
    -DCMAKE_BUILD_TYPE=None "-DCMAKE_C_FLAGS=-O0 -ffunction-sections -fdata-sections" \
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--gc-sections,--print-gc-sections" &&
    cmake --build "$work/dead_code" --target dynq_shared
} >"$log" 2>&1 || { cat "$log"; exit 1; }
grep -q "removing unused section" "$log" || { cat "$log"; echo "the linker named no section" >&2; exit 1; }

# Names with dynq_ before them are seen by other files. The rest is static: of that, only tables are dropped whose
# values the compiler has put in their place.
dropped=$(sed -nE \
  "s/.*unused section '\.(text|data|bss|rodata)\.(rel\.ro\.)?(local\.)?(dynq_\w+)' in file '.*dynq_objects.*/\4/p" \
  "$log" | sort -u)
once=$(git ls-files 'native/src/*.[ch]' 'native/src/*.def' 'tests/*.[ch]' 'bench/*.[ch]' | xargs cat | perl -0777 -ne '
  s{/\*.*?\*/}{}gs;
  $count{$_}++ for /\w+/g;
  push @names, $1 while /^(?:static inline|V_INLINE|OWN_FUNCTION)\b[^;{(]*?\b(\w+)\(/gm;
  print map { "$_\n" } grep { $count{$_} == 1 } @names')
outcome=0
for name in "${!explained[@]}"; do
  if ! grep -qx "$name" <<<"$dropped"; then
    printf '%s: explained, though the library needs it or it is gone\n' "$name" >&2
    outcome=1
  fi
done
for name in $dropped $once; do
  if [ -n "${explained[$name]:-}" ]; then
    printf '%s: %s\n' "$name" "${explained[$name]}"
  else
    printf '%s: nothing reaches it\n' "$name" >&2
    outcome=1
  fi
done
exit "$outcome"
