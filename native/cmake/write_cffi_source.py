"""Write the C source of the extension module: ``write_cffi_source.py dynq.h OUTPUT.c``.

The declarations are the header's own text between its two cffi lines, and one function that is the binding's own:
a linear call whose arguments but the last few are kept in a struct, since converting ten of them from Python takes
longer than a small problem itself.
"""

import sys
from pathlib import Path

from cffi import FFI

LINEAR_CALL = """
typedef struct linear_call {
  const dynq_weight *weight;
  dynq_scheme scheme;
  dynq_granularity granularity;
  dynq_epilogue epilogue;
} linear_call;
"""

LINEAR_CALL_FUNCTION = """
/* float32 x (m, K) and y (m, N), both without gaps between rows. */
static dynq_status call_linear(const linear_call *c, size_t m, const void *x, void *y) {
  dynq_weight_info info;
  dynq_weight_describe(c->weight, &info);
  return dynq_linear_f32(c->weight, m, x, info.k, c->scheme, c->granularity, &c->epilogue, NULL, y, info.n);
}
"""


def main(header: Path, output: Path) -> None:
    text = header.read_text(encoding="utf-8")
    begin, end = "/* cffi: begin */", "/* cffi: end */"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{header}: expected one {begin} and one {end}")
    ffi = FFI()
    ffi.cdef(text.split(begin)[1].split(end)[0])
    ffi.cdef(LINEAR_CALL + "dynq_status call_linear(const linear_call *c, size_t m, const void *x, void *y);")
    ffi.set_source("dynq._native", '#include "dynq/dynq.h"' + LINEAR_CALL + LINEAR_CALL_FUNCTION, py_limited_api=True)
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
