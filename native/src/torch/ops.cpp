/*
 * The operators torch.ops.dynq.* for programs without Python, against PyTorch's stable ABI: libdynq_torch.so. A program
 * that loads it runs packages of AOTInductor that hold converted modules.
 *
 * python/dynq/torch/ops.py has the same operators for Python, and _packed.py and _model.py what is in the tensors
 * `packed` and `image`. Work runs on PyTorch's threads.
 */
#include <dynq/dynq.h>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr std::size_t kAlignment = 64; // of packed weights and of the bytes of a model
constexpr std::size_t kMostCopies = 4096;

[[noreturn]] void fail(const std::string &text) { throw std::runtime_error("dynq: " + text); }

void check(dynq_status status) {
  if (status != DYNQ_OK && status != DYNQ_NONFINITE) {
    fail(dynq_last_error());
  }
}

void run_parallel(void *, void (*task)(void *arg, std::size_t index), void *arg, std::size_t count) {
  torch::stable::parallel_for(0, static_cast<std::int64_t>(count), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) {
      task(arg, static_cast<std::size_t>(i));
    }
  });
}

dynq_threads threads() { return {.count = torch::stable::get_num_threads(), .run = run_parallel, .context = nullptr}; }

// ---- Bytes where the kernels can read them

struct Free {
  void operator()(std::uint8_t *p) const { std::free(p); }
};
using Bytes = std::shared_ptr<std::uint8_t>;

Bytes copy_of(const std::uint8_t *data, std::size_t size) {
  const std::size_t room = (size + kAlignment - 1) / kAlignment * kAlignment;
  Bytes copy(static_cast<std::uint8_t *>(std::aligned_alloc(kAlignment, room)), Free());
  if (copy == nullptr) {
    throw std::bad_alloc();
  }
  std::memcpy(copy.get(), data, size);
  return copy;
}

// The bytes of a constant, which may lie anywhere in a package: those that are not aligned are copied once. Memory that
// is used again for other bytes is noticed.
Bytes aligned(const Tensor &tensor) {
  const auto *data = static_cast<const std::uint8_t *>(tensor.const_data_ptr());
  const auto size = static_cast<std::size_t>(tensor.numel());
  if (reinterpret_cast<std::uintptr_t>(data) % kAlignment == 0) {
    return Bytes(const_cast<std::uint8_t *>(data), [](std::uint8_t *) {}); // the tensor's own
  }
  static std::mutex mutex;
  static std::map<std::pair<const std::uint8_t *, std::size_t>, Bytes> copies;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_pair(data, size);
  const auto found = copies.find(key);
  if (found != copies.end() && std::memcmp(found->second.get(), data, size) == 0) {
    return found->second;
  }
  if (copies.size() >= kMostCopies) {
    copies.clear();
  }
  return copies[key] = copy_of(data, size);
}

void expect_bytes(const char *name, const Tensor &tensor) {
  if (tensor.scalar_type() != ScalarType::Byte || tensor.dim() != 1 || !tensor.is_contiguous() || !tensor.is_cpu()) {
    fail(std::string(name) + " is no contiguous uint8 tensor of one dimension on the CPU");
  }
}

Tensor contiguous_float(const char *name, const Tensor &tensor) {
  if (tensor.scalar_type() != ScalarType::Float || !tensor.is_cpu()) {
    fail(std::string(name) + " is not float32 on the CPU");
  }
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

std::vector<std::int64_t> sizes_of(const Tensor &tensor) {
  const auto sizes = tensor.sizes();
  return {sizes.begin(), sizes.end()};
}

// ---- Linear

std::size_t up(std::int64_t n, std::size_t to) { return (static_cast<std::size_t>(n) + to - 1) / to * to; }

// A view of channels [first, first + count) of a packed weight (n, k), as _packed.py lays it out.
std::unique_ptr<dynq_weight, decltype(&dynq_weight_free)> weight_view(const Tensor &packed, const std::uint8_t *bytes,
                                                                      std::int64_t n, std::int64_t k,
                                                                      std::int64_t first, std::int64_t count) {
  if (n < 0 || first < 0 || count < 0 || first % 16 != 0 || first + count > n) {
    fail("first and count name no channels of the weight, from a multiple of 16 on");
  }
  const std::size_t rows = up(n, 16), width = up(k, 4), data = rows * width;
  if (static_cast<std::size_t>(packed.numel()) != data + 8 * rows) {
    fail("packed is no weight of " + std::to_string(n) + " channels and " + std::to_string(k) + " inputs");
  }
  const auto begin = static_cast<std::size_t>(first);
  const std::uint8_t *scale = bytes + data + 4 * begin;
  dynq_weight_info info{};
  info.n = static_cast<std::size_t>(count);
  info.k = static_cast<std::size_t>(k);
  info.n_padded = up(count, 16);
  info.data_bytes = info.n_padded * width;
  info.data = reinterpret_cast<const std::int8_t *>(bytes + begin * width);
  info.scale = reinterpret_cast<const float *>(scale);
  info.column_sum = reinterpret_cast<const std::int32_t *>(scale + 4 * rows);
  dynq_weight *weight = nullptr;
  check(dynq_weight_view(&info, &weight));
  return {weight, &dynq_weight_free};
}

void linear_into(const Tensor &given, const Tensor &packed, const std::optional<Tensor> &given_bias, std::int64_t n,
                 std::int64_t first, std::int64_t count, const Tensor &y) {
  const Tensor x = contiguous_float("x", given);
  expect_bytes("packed", packed);
  if (x.dim() == 0) {
    fail("x has no dimensions; expected (..., K)");
  }
  const std::int64_t k = x.size(x.dim() - 1);
  const Bytes bytes = aligned(packed);
  const auto weight = weight_view(packed, bytes.get(), n, k, first, count);
  std::optional<Tensor> bias;
  if (given_bias.has_value()) {
    bias = contiguous_float("bias", *given_bias);
    if (bias->dim() != 1 || bias->size(0) != count) {
      fail("bias has another shape than the channels");
    }
  }
  std::size_t m = 1;
  for (std::int64_t i = 0; i + 1 < x.dim(); i++) {
    m *= static_cast<std::size_t>(x.size(i));
  }
  dynq_epilogue epilogue{};
  epilogue.bias = bias.has_value() ? static_cast<const float *>(bias->const_data_ptr()) : nullptr;
  const dynq_threads pool = threads();
  check(dynq_linear_f32(weight.get(), m, static_cast<const float *>(x.const_data_ptr()), static_cast<std::size_t>(k),
                        DYNQ_ASYMMETRIC, DYNQ_PER_ROW, &epilogue, &pool, static_cast<float *>(y.mutable_data_ptr()),
                        static_cast<std::size_t>(count)));
}

std::vector<std::int64_t> linear_sizes(const Tensor &x, std::int64_t count) {
  std::vector<std::int64_t> sizes = sizes_of(x);
  if (sizes.empty()) {
    fail("x has no dimensions; expected (..., K)");
  }
  sizes.back() = count;
  return sizes;
}

Tensor linear(const Tensor &x, const Tensor &packed, const std::optional<Tensor> &bias, std::int64_t n,
              std::int64_t first, std::int64_t given_count) {
  const std::int64_t count = given_count < 0 ? n - first : given_count;
  const Tensor y = torch::stable::new_empty(x, linear_sizes(x, count), ScalarType::Float);
  linear_into(x, packed, bias, n, first, count, y);
  return y;
}

Tensor linear_out(const Tensor &x, const Tensor &packed, const std::optional<Tensor> &bias, std::int64_t n,
                  std::int64_t first, std::int64_t given_count, const Tensor &out) {
  const std::int64_t count = given_count < 0 ? n - first : given_count;
  if (out.scalar_type() != ScalarType::Float || !out.is_contiguous() || sizes_of(out) != linear_sizes(x, count)) {
    fail("out is no contiguous float32 tensor of the output's shape");
  }
  linear_into(x, packed, bias, n, first, count, out);
  return out;
}

// ---- Operators that run a model

// Runs the model in `image` on the inputs that are there.
template <std::size_t Outputs>
std::array<Tensor, Outputs> run_model(const Tensor &image, const std::vector<std::optional<Tensor>> &given) {
  expect_bytes("image", image);
  const Bytes bytes = aligned(image);
  dynq_model *opened = nullptr;
  check(dynq_model_open_memory(bytes.get(), static_cast<std::size_t>(image.numel()), &opened));
  const std::unique_ptr<dynq_model, decltype(&dynq_model_close)> model(opened, &dynq_model_close);
  const dynq_threads pool = threads();
  dynq_session *made = nullptr;
  check(dynq_session_new(opened, &pool, &made));
  const std::unique_ptr<dynq_session, decltype(&dynq_session_free)> session(made, &dynq_session_free);

  std::vector<Tensor> kept;
  std::vector<dynq_tensor> inputs;
  for (const auto &tensor : given) {
    if (!tensor.has_value()) {
      continue;
    }
    const bool is_int = tensor->scalar_type() == ScalarType::Int; // lengths
    if (is_int && (!tensor->is_contiguous() || !tensor->is_cpu())) {
      fail("lengths are not contiguous on the CPU");
    }
    kept.push_back(is_int ? *tensor : contiguous_float("an input", *tensor));
    dynq_tensor input{};
    input.dtype = is_int ? DYNQ_INT32 : DYNQ_FLOAT32;
    input.rank = static_cast<std::size_t>(tensor->dim());
    input.data = kept.back().const_data_ptr();
    if (input.rank > DYNQ_MAX_RANK) {
      fail("an input has more than 8 dimensions");
    }
    for (std::size_t i = 0; i < input.rank; i++) {
      input.dims[i] = static_cast<std::size_t>(tensor->size(static_cast<std::int64_t>(i)));
    }
    inputs.push_back(input);
  }
  if (dynq_model_input_count(opened) != inputs.size() || dynq_model_output_count(opened) != Outputs) {
    fail("image has other inputs or outputs than the operator");
  }
  std::array<dynq_tensor, Outputs> outputs{};
  check(dynq_model_run(made, inputs.data(), outputs.data()));
  std::array<Tensor, Outputs> result;
  for (std::size_t i = 0; i < Outputs; i++) {
    std::vector<std::int64_t> sizes(outputs[i].dims, outputs[i].dims + outputs[i].rank);
    std::size_t count = 1;
    for (const std::int64_t size : sizes) {
      count *= static_cast<std::size_t>(size);
    }
    result[i] = torch::stable::new_empty(kept.front(), sizes, ScalarType::Float);
    if (count != 0) {
      std::memcpy(result[i].mutable_data_ptr(), outputs[i].data, count * sizeof(float));
    }
  }
  return result;
}

std::tuple<Tensor, Tensor, Tensor> lstm(const Tensor &x, const Tensor &h, const Tensor &c,
                                        const std::optional<Tensor> &lengths, const Tensor &image, std::int64_t) {
  const auto found = run_model<3>(image, {x, lengths, h, c});
  return {found[0], found[1], found[2]};
}

std::tuple<Tensor, Tensor> gru(const Tensor &x, const Tensor &h, const std::optional<Tensor> &lengths,
                               const Tensor &image, std::int64_t) {
  const auto found = run_model<2>(image, {x, lengths, h});
  return {found[0], found[1]};
}

Tensor conv(const Tensor &x, const Tensor &image, std::int64_t, const std::vector<std::int64_t> &,
            const std::vector<std::int64_t> &, const std::vector<std::int64_t> &, const std::vector<std::int64_t> &) {
  return run_model<1>(image, {x})[0];
}

} // namespace

STABLE_TORCH_LIBRARY(dynq, m) {
  m.def("linear(Tensor x, Tensor packed, Tensor? bias, int n, int first=0, int count=-1) -> Tensor");
  m.def("linear.out(Tensor x, Tensor packed, Tensor? bias, int n, int first=0, int count=-1, *, Tensor(a!) out) -> "
        "Tensor(a!)");
  m.def(
      "lstm(Tensor x, Tensor h, Tensor c, Tensor? lengths, Tensor image, int directions) -> (Tensor, Tensor, Tensor)");
  m.def("gru(Tensor x, Tensor h, Tensor? lengths, Tensor image, int directions) -> (Tensor, Tensor)");
  m.def("rnn(Tensor x, Tensor h, Tensor? lengths, Tensor image, int directions) -> (Tensor, Tensor)");
  m.def("conv(Tensor x, Tensor image, int channels, int[] kernel, int[] stride, int[] pads, int[] dilation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dynq, CPU, m) {
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("linear.out", TORCH_BOX(&linear_out));
  m.impl("lstm", TORCH_BOX(&lstm));
  m.impl("gru", TORCH_BOX(&gru));
  m.impl("rnn", TORCH_BOX(&gru));
  m.impl("conv", TORCH_BOX(&conv));
}
