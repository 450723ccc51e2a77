/*
 * The results of dynq-bench linear as text and as JSON.
 */
#include "linear.h"

#include "report.h"

#include <math.h>
#include <stdio.h>

static double gops(const linear_shape *s, double seconds) {
  return 2e-9 * (double)s->m * (double)s->n * (double)s->k / seconds;
}

void linear_show_head(const char *isa, size_t threads, double peak_seconds) {
  char peak[16];
  (void)printf("\n%s, %zu thread%s, measured int8 peak %s GOP/s\n%19s %9s %7s %7s %6s %-9s %5s %5s %5s %5s %5s\n", isa,
               threads, threads == 1 ? "" : "s", bench_number_text(2e-9 / peak_seconds, 4, peak), "M x N x K", "us",
               "GOP/s", "GB/s", "limit", "", "range", "quant", "gemm", "epil", "rest");
}

void linear_show(const linear_shape *s, const linear_result *r) {
  char us[16], rate[16], bytes[16], share[16];
  (void)printf("%5zu x%5zu x%5zu %9s %7s %7s %5s%% %-9s", s->m, s->n, s->k, bench_number_text(1e6 * r->seconds, 4, us),
               bench_number_text(gops(s, r->seconds), 3, rate),
               bench_number_text(1e-9 * r->bytes / r->seconds, 3, bytes),
               bench_number_text(100.0 * r->of_limit, 3, share),
               isnan(r->of_limit) ? ""
               : r->of_peak       ? "peak"
                                  : "bandwidth");
  for (int i = 0; i < BENCH_PARTS; i++) {
    (void)printf(" %4.0f%%", 100.0 * r->shares[i]);
  }
  (void)printf("\n");
  bench_flush();
}

void linear_json(const char *isa, size_t threads, const linear_shape *s, const linear_result *r) {
  static const char *const parts[BENCH_PARTS] = {"share_range", "share_quantize", "share_gemm", "share_epilogue",
                                                 "share_rest"};
  json_begin("linear");
  json_text("isa", isa);
  json_count("threads", threads);
  json_count("m", s->m);
  json_count("n", s->n);
  json_count("k", s->k);
  json_number("us", 1e6 * r->seconds);
  json_number("gops", gops(s, r->seconds));
  json_number("peak_gops", 2e-9 / r->peak_seconds);
  json_number("gb_per_s", 1e-9 * r->bytes / r->seconds);
  json_number("bandwidth_gb_per_s", 1e-9 / r->read_seconds);
  json_number("of_limit", r->of_limit);
  json_text("limit", r->of_peak ? "peak" : "bandwidth");
  for (int i = 0; i < BENCH_PARTS; i++) {
    json_number(parts[i], r->shares[i]);
  }
  json_end();
}
