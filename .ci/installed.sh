#!/usr/bin/env bash
# Installs the library that was built in $1/plain and uses it as a stranger would.
set -euo pipefail
work=$1
prefix=$work/prefix
cmake --install "$work/plain" --prefix "$prefix" --component library >/dev/null
libdir=$(dirname "$(find "$prefix" -name 'libdynq.so')")

# Only dynq_ symbols leave the shared library, and of that for ONNX Runtime the one that it calls.
exported() { nm -D --defined-only "$libdir/$1" | awk '{print $3}'; }
if exported libdynq.so | grep -v '^dynq_' || exported libdynq_ort.so | grep -vx RegisterCustomOps; then
  echo "a shared library exports the symbols above" >&2
  exit 1
fi
# They need libc, libm and pthreads only.
for library in libdynq.so libdynq_ort.so; do
  if readelf -d "$libdir/$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | grep -Ev '^(libc|libm|libpthread|ld-linux-x86-64|ld-linux-aarch64)\.so'; then
    echo "$library needs the libraries above" >&2
    exit 1
  fi
done

# The CMake package.
cmake -S examples/c -B "$work/example" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/example" >/dev/null
"$work/example/linear_static"
"$work/example/linear_shared"

# A whole model, written by Python and run without it: y = x w^T of three rows of ones.
.venv/bin/python - "$work/example" <<'EOF'
import sys, numpy as np, dynq
graph = dynq.Graph()
y = graph.linear(graph.input("x", ("batch", 5)), np.arange(20, dtype=np.float32).reshape(4, 5))
graph.build(y).save(f"{sys.argv[1]}/model.dynq")
np.ones((3, 5), np.float32).tofile(f"{sys.argv[1]}/x.bin")
EOF
for kind in static shared; do
  "$work/example/run_model_$kind" "$work/example/model.dynq" 3 --x "$work/example/x.bin" | tee "$work/example/output"
  grep -q 'float32 (3, 4): 10' "$work/example/output"
done

# pkg-config, shared and static.
export PKG_CONFIG_PATH=$libdir/pkgconfig
cc -std=c11 examples/c/linear.c $(pkg-config --cflags --libs dynq) -lm -o "$work/example/linear_pkg_config"
LD_LIBRARY_PATH=$libdir "$work/example/linear_pkg_config"
cc -std=c11 examples/c/linear.c $(pkg-config --cflags dynq) "$libdir/libdynq.a" $(pkg-config --static --libs-only-l dynq | sed 's/-ldynq//') -o "$work/example/linear_archive"
"$work/example/linear_archive"

# Rust and Go, where their compilers are.
if command -v rustc >/dev/null; then
  rustc -D warnings -O examples/rust/linear.rs -L "$libdir" -l dynq -o "$work/example/linear_rust"
  LD_LIBRARY_PATH=$libdir "$work/example/linear_rust"
else
  echo "no rustc: examples/rust is not built"
fi
if command -v go >/dev/null; then
  GOCACHE=$work/go GO111MODULE=off go build -o "$work/example/linear_go" examples/go/linear.go
  LD_LIBRARY_PATH=$libdir "$work/example/linear_go"
else
  echo "no go: examples/go is not built"
fi

# C++20 by the header of its own: the examples, with a missing file as an exception; and C++ can include C's header.
cmake -S examples/cpp -B "$work/example_cpp" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/example_cpp" >/dev/null
"$work/example_cpp/linear"
"$work/example_cpp/run_model" "$work/example/model.dynq" 3 | tee "$work/example/output"
grep -q '^[^:]*: 10\.0[0-9]* 35\.0[0-9]* 60\.0' "$work/example/output"
if "$work/example_cpp/run_model" "$work/example/missing.dynq" 3 2>"$work/example/output"; then
  echo "a file that is missing is no error in C++" >&2
  exit 1
fi
grep -q 'missing.dynq' "$work/example/output"
printf '#include <dynq/dynq.h>\nint main() { return dynq_version() == 0; }\n' > "$work/example/plus.cc"
c++ -Wall -Wextra -Werror "$work/example/plus.cc" $(pkg-config --cflags --libs dynq) -o "$work/example/plus"
LD_LIBRARY_PATH=$libdir "$work/example/plus"
