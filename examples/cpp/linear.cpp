/*
 * A linear layer in int8 from C++20: y = relu(x w^T + bias), compared with float32; and what an error looks like.
 *
 * cmake -S examples/cpp -B build-example -DCMAKE_PREFIX_PATH=<where dynq is installed>, or
 * c++ -std=c++20 linear.cpp $(pkg-config --cflags --libs dynq)
 */
#include <dynq/dynq.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

int main() {
  constexpr std::size_t m = 3, n = 40, k = 100; /* rows, output channels, inputs */
  std::vector<float> x(m * k), w(n * k), bias(n), y(m * n);
  for (std::size_t i = 0; i < x.size(); i++) {
    x[i] = std::sin(0.37f * static_cast<float>(i)) + 0.5f;
  }
  for (std::size_t i = 0; i < w.size(); i++) {
    w[i] = std::cos(0.11f * static_cast<float>(i)) / 10.0f;
  }
  for (std::size_t i = 0; i < n; i++) {
    bias[i] = 0.01f * static_cast<float>(i);
  }

  const dynq::Weight weight(w, n, k); /* once */
  dynq::Epilogue steps;
  steps.bias = bias;
  steps.activation = DYNQ_ACTIVATION_RELU;
  bool good = dynq::linear(weight, x, y, steps); /* for every input */

  double worst = 0.0, largest = 0.0;
  for (std::size_t row = 0; row < m; row++) {
    for (std::size_t channel = 0; channel < n; channel++) {
      double sum = bias[channel];
      for (std::size_t i = 0; i < k; i++) {
        sum += static_cast<double>(x[row * k + i]) * w[channel * k + i];
      }
      const double expected = std::max(sum, 0.0);
      worst = std::max(worst, std::abs(y[row * n + channel] - expected));
      largest = std::max(largest, expected);
    }
  }
  std::printf("dynq %s: largest output %.3f, largest difference from float %.4f\n", dynq_version(), largest, worst);
  good = good && worst < 0.02 * largest;

  x[0] = std::numeric_limits<float>::infinity(); /* no exception: the first row is NaN, the others are not */
  good = good && !dynq::linear(weight, x, y, steps) && std::isnan(y[0]) && !std::isnan(y[n]);

  try {
    dynq::linear(weight, std::span(x).first(k - 1), y, steps);
    good = false;
  } catch (const dynq::Error &error) {
    std::printf("as it should be: %s\n", error.what());
    good = good && error.status() == DYNQ_ERROR_INVALID_ARGUMENT;
  }
  return good ? 0 : 1;
}
