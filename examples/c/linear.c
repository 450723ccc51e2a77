/*
 * A linear layer in int8 from C: y = relu(x w^T + bias), compared with float32.
 *
 * cmake -S examples/c -B build-example -DCMAKE_PREFIX_PATH=<where dynq is installed>, or
 * cc linear.c $(pkg-config --cflags --libs dynq) -lm
 */
#include <dynq/dynq.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 3, N = 40, K = 100 }; /* rows, output channels, inputs */

int main(void) {
  static float x[M * K], w[N * K], bias[N], y[M * N];
  for (int i = 0; i < M * K; i++) {
    x[i] = sinf(0.37f * (float)i) + 0.5f;
  }
  for (int i = 0; i < N * K; i++) {
    w[i] = cosf(0.11f * (float)i) / 10.0f;
  }
  for (int n = 0; n < N; n++) {
    bias[n] = 0.01f * (float)n;
  }

  /* Once: quantize and pack the weight, one scale for each output channel. */
  dynq_weight *weight;
  if (dynq_weight_pack_f32(N, K, w, K, 1, NULL, &weight) != DYNQ_OK) {
    fprintf(stderr, "%s\n", dynq_last_error());
    return 1;
  }

  /* For every input: quantize it row by row, multiply, add the bias, apply relu. NULL: the built-in threads. */
  const dynq_epilogue epilogue = {.bias = bias, .activation = DYNQ_ACTIVATION_RELU};
  if (dynq_linear_f32(weight, M, x, K, DYNQ_ASYMMETRIC, DYNQ_PER_ROW, &epilogue, NULL, y, N) != DYNQ_OK) {
    fprintf(stderr, "%s\n", dynq_last_error());
    return 1;
  }
  dynq_weight_free(weight);

  double worst = 0.0, largest = 0.0;
  for (int m = 0; m < M; m++) {
    for (int n = 0; n < N; n++) {
      double sum = bias[n];
      for (int k = 0; k < K; k++) {
        sum += (double)x[m * K + k] * w[n * K + k];
      }
      const double expected = sum > 0.0 ? sum : 0.0;
      worst = fmax(worst, fabs(y[m * N + n] - expected));
      largest = fmax(largest, expected);
    }
  }
  const char *isa = "";
  (void)dynq_isa_selected(&isa);
  printf("dynq %s, %s: largest output %.3f, largest difference from float %.4f\n", dynq_version(), isa, largest, worst);
  return worst < 0.02 * largest ? 0 : 1;
}
