/*
 * dynq-bench: how fast dynq is on this machine, beside what the machine can do, measured in the same run. Needs neither
 * Python nor anything else but libc.
 */
#include "commands.h"
#include "report.h"

#include "dynq/dynq.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: dynq-bench isa    [options]   each kernel of each instruction set, in each level of memory\n"
    "       dynq-bench linear [options]   dynq_linear_f32 over the shapes of real layers\n"
    "       dynq-bench model  [options]   one call of a model's file, with zeros for its inputs\n"
    "\n"
    "isa:\n"
    "  --isa NAME        only this instruction set; may be repeated, as the next two\n"
    "  --kernel NAME     only this kernel: range quantize dequantize gemm_tile gemv epilogue relu sigmoid tanh silu\n"
    "                    gelu gelu_tanh exp erf sum softmax layer_norm rms_norm\n"
    "  --level NAME      only this level: L1 L2 L3 memory\n"
    "  --caches L1,L2,L3 their sizes, such as 48K,2M,260M, where the system does not know them\n"
    "\n"
    "linear:\n"
    "  --isa NAME        this instruction set instead of the best; may be repeated, as the next two\n"
    "  --threads N       this many threads\n"
    "  --shape MxNxK     only this shape\n"
    "\n"
    "model:\n"
    "  --file FILE       the model, a .dynq file whose inputs have fixed shapes\n"
    "  --threads N       this many threads; 1 where it is not given\n"
    "\n"
    "all:\n"
    "  --rounds N        rounds that the medians are taken over\n"
    "  --quick           few and short rounds: whether it runs, not how fast\n"
    "  --json            a JSON object a line\n";

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
  } commands[] = {{"isa", bench_isa}, {"linear", bench_linear}, {"model", bench_model}};
  const char *name = argc > 1 ? argv[1] : "";
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      (void)fputs(usage, stdout);
      bench_flush();
      return 0;
    }
  }
  if (strcmp(name, "--version") == 0) {
    (void)printf("dynq-bench %s\n", dynq_version());
    bench_flush();
    return 0;
  }
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp(name, commands[i].name) == 0) {
      return commands[i].run(argc - 2, argv + 2);
    }
  }
  (void)fputs(usage, stderr);
  return 2;
}
