/*
 * dynq from C++20: objects that free what they hold, spans that know their sizes, exceptions in place of status codes.
 *
 * Everything is inline over dynq.h, which says what the functions compute. Objects can be moved, not copied. A NaN or an
 * infinity is no exception: functions that write float return false if one was met.
 */
#ifndef DYNQ_DYNQ_HPP
#define DYNQ_DYNQ_HPP

#include <dynq/dynq.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace dynq {

/* A status that is no success, with the library's message. */
class Error : public std::runtime_error {
public:
  Error(dynq_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
  dynq_status status() const noexcept { return status_; }

private:
  dynq_status status_;
};

/* Throws for every status but DYNQ_OK and DYNQ_NONFINITE. Returns whether all was finite. */
inline bool check(dynq_status status) {
  if (status != DYNQ_OK && status != DYNQ_NONFINITE) {
    throw Error(status, dynq_last_error());
  }
  return status == DYNQ_OK;
}

namespace detail {

template <auto free> struct Free {
  template <typename T> void operator()(T *object) const noexcept { free(object); }
};
template <typename T, auto free> using Owned = std::unique_ptr<T, Free<free>>;

inline void expect(bool good, const char *text) {
  if (!good) {
    throw Error(DYNQ_ERROR_INVALID_ARGUMENT, text);
  }
}

/* a * b, or an exception if that is no size. */
inline std::size_t product(std::size_t a, std::size_t b) {
  expect(b == 0 || a <= SIZE_MAX / b, "a shape has more elements than memory");
  return a * b;
}

template <typename T> struct Dtype;
template <> struct Dtype<float> {
  static constexpr dynq_dtype value = DYNQ_FLOAT32;
};
template <> struct Dtype<std::int64_t> {
  static constexpr dynq_dtype value = DYNQ_INT64;
};
template <> struct Dtype<std::int32_t> {
  static constexpr dynq_dtype value = DYNQ_INT32;
};
template <> struct Dtype<bool> {
  static constexpr dynq_dtype value = DYNQ_BOOL;
};
template <> struct Dtype<std::uint8_t> {
  static constexpr dynq_dtype value = DYNQ_UINT8;
};
template <> struct Dtype<std::int8_t> {
  static constexpr dynq_dtype value = DYNQ_INT8;
};

} // namespace detail

/* ---- Layers ---- */

/* A packed weight of N output channels and K inputs, int8. Threads may share it. */
class Weight {
public:
  /* Quantizes w (n, k), row-major: symmetric, a scale for each channel. Throws if w is not finite. */
  Weight(std::span<const float> w, std::size_t n, std::size_t k) {
    detail::expect(w.size() == detail::product(n, k), "w has another size than n * k");
    dynq_weight *made = nullptr;
    if (!check(dynq_weight_pack_f32(n, k, w.data(), k, 1, nullptr, &made))) {
      throw Error(DYNQ_NONFINITE, dynq_last_error());
    }
    weight_.reset(made);
  }
  /* Takes over what dynq.h's functions made. */
  explicit Weight(dynq_weight *weight) noexcept : weight_(weight) {}

  /* Returns sizes and pointers of what it holds. The pointers are good as long as this object. */
  dynq_weight_info info() const noexcept {
    dynq_weight_info result{};
    dynq_weight_describe(weight_.get(), &result);
    return result;
  }
  const dynq_weight *get() const noexcept { return weight_.get(); }

private:
  detail::Owned<dynq_weight, dynq_weight_free> weight_;
};

/* Says what linear does behind the product. Spans that are empty stand for nothing. */
struct Epilogue {
  std::span<const float> bias;     /* (N) */
  std::span<const float> residual; /* (M, N) */
  dynq_activation activation = DYNQ_ACTIVATION_NONE;
  float min = 0.0f, max = 0.0f;    /* clamp, where min < max */
  float alpha = 0.0f, beta = 0.0f; /* of the activations that have them */
};

/* Writes y (M, N) = activation(x w^T + bias + residual) of x (M, K). Returns false if x holds a NaN or an infinity; what
 * depends on it is NaN then. */
inline bool linear(const Weight &weight, std::span<const float> x, std::span<float> y, const Epilogue &epilogue = {},
                   dynq_scheme scheme = DYNQ_ASYMMETRIC, dynq_granularity granularity = DYNQ_PER_ROW,
                   const dynq_threads *threads = nullptr) {
  const dynq_weight_info info = weight.info();
  const std::size_t m = info.n != 0 ? y.size() / info.n : info.k != 0 ? x.size() / info.k : 0;
  detail::expect(y.size() == detail::product(m, info.n) && x.size() == detail::product(m, info.k),
                 "x and y are not (M, K) and (M, N) of one M");
  detail::expect(epilogue.bias.empty() || epilogue.bias.size() == info.n, "bias has another size than N");
  detail::expect(epilogue.residual.empty() || epilogue.residual.size() == y.size(), "residual has another size than y");
  dynq_epilogue steps{};
  steps.bias = epilogue.bias.empty() ? nullptr : epilogue.bias.data();
  steps.residual = epilogue.residual.empty() ? nullptr : epilogue.residual.data();
  steps.residual_stride = info.n;
  steps.activation = epilogue.activation;
  steps.min = epilogue.min;
  steps.max = epilogue.max;
  steps.alpha = epilogue.alpha;
  steps.beta = epilogue.beta;
  return check(
      dynq_linear_f32(weight.get(), m, x.data(), info.k, scheme, granularity, &steps, threads, y.data(), info.n));
}

/* ---- Models ---- */

/* An array that lies elsewhere: an input of a run, or an output. */
class Tensor {
public:
  Tensor() noexcept : tensor_{} {}
  /* Looks at `values`, row-major, of shape `dims`. */
  template <typename T> Tensor(std::span<const T> values, std::span<const std::size_t> dims) : tensor_{} {
    detail::expect(dims.size() <= DYNQ_MAX_RANK, "a tensor has at most 8 dimensions");
    tensor_.dtype = detail::Dtype<T>::value;
    tensor_.rank = dims.size();
    for (std::size_t i = 0; i < dims.size(); i++) {
      tensor_.dims[i] = dims[i];
    }
    tensor_.data = values.data();
    detail::expect(values.size() == size(), "a tensor has another number of values than its shape");
  }
  template <typename T>
  Tensor(const std::vector<T> &values, std::initializer_list<std::size_t> dims)
      : Tensor(std::span<const T>(values), std::span<const std::size_t>(dims.begin(), dims.size())) {}

  dynq_dtype dtype() const noexcept { return tensor_.dtype; }
  std::span<const std::size_t> dims() const noexcept { return {tensor_.dims, tensor_.rank}; }
  /* Returns the number of its elements. */
  std::size_t size() const {
    std::size_t result = 1;
    for (const std::size_t dim : dims()) {
      result = detail::product(result, dim);
    }
    return result;
  }
  /* The values; throws if they are of another type. */
  template <typename T> std::span<const T> values() const {
    detail::expect(detail::Dtype<T>::value == tensor_.dtype, "the tensor has values of another type");
    return {static_cast<const T *>(tensor_.data), size()};
  }
  const dynq_tensor &get() const noexcept { return tensor_; }
  dynq_tensor &get() noexcept { return tensor_; }

private:
  dynq_tensor tensor_;
};

/* A whole network from a .dynq file. It never changes, and threads may share it. */
class Model {
public:
  /* Maps the file, which must stay as it is. */
  explicit Model(const std::string &path) {
    dynq_model *opened = nullptr;
    check(dynq_model_open(path.c_str(), &opened));
    model_.reset(opened, dynq_model_close);
  }
  /* Reads a file's bytes, which stay the caller's and are aligned to 64 bytes. */
  explicit Model(std::span<const std::byte> bytes) {
    dynq_model *opened = nullptr;
    check(dynq_model_open_memory(bytes.data(), bytes.size(), &opened));
    model_.reset(opened, dynq_model_close);
  }

  /* The inputs; their names are good as long as this object. */
  std::vector<dynq_model_value> inputs() const {
    std::vector<dynq_model_value> result(dynq_model_input_count(get()));
    for (std::size_t i = 0; i < result.size(); i++) {
      check(dynq_model_input(get(), i, &result[i]));
    }
    return result;
  }
  std::vector<std::string> output_names() const {
    std::vector<std::string> result;
    for (std::size_t i = 0; i < dynq_model_output_count(get()); i++) {
      const char *name = nullptr;
      check(dynq_model_output_name(get(), i, &name));
      result.emplace_back(name);
    }
    return result;
  }
  const dynq_model *get() const noexcept { return model_.get(); }

private:
  friend class Session;
  std::shared_ptr<dynq_model> model_; /* sessions share it, so that it is closed after the last of them */
};

/* Holds what running a model takes. One thread at a time may use it; its model stays open as long as it. */
class Session {
public:
  explicit Session(const Model &model, const dynq_session_options &options = {}) : model_(model.model_) {
    dynq_session *made = nullptr;
    check(dynq_session_new_with(model_.get(), &options, &made));
    session_.reset(made);
    outputs_.resize(dynq_model_output_count(model_.get()));
  }

  /* Runs the model: inputs in its order, which are copied. The outputs are good until the next run. Afterwards finite()
   * says whether a quantized op met no NaN or infinity. */
  std::vector<Tensor> run(std::span<const Tensor> inputs) {
    detail::expect(inputs.size() == dynq_model_input_count(model_.get()), "the model has another number of inputs");
    inputs_.clear();
    for (const Tensor &input : inputs) {
      inputs_.push_back(input.get());
    }
    finite_ = check(dynq_model_run(session_.get(), inputs_.data(), outputs_.data()));
    std::vector<Tensor> result(outputs_.size());
    for (std::size_t i = 0; i < result.size(); i++) {
      result[i].get() = outputs_[i];
    }
    return result;
  }
  std::vector<Tensor> run(std::initializer_list<Tensor> inputs) {
    return run(std::span<const Tensor>(inputs.begin(), inputs.size()));
  }
  bool finite() const noexcept { return finite_; }

  /* Ends the run under way, from any thread: run throws with DYNQ_CANCELLED. */
  void cancel() { check(dynq_session_cancel(session_.get())); }
  /* Forgets the sequences that a model with state keeps. */
  void reset() { check(dynq_session_reset(session_.get())); }
  dynq_session *get() noexcept { return session_.get(); }

private:
  std::shared_ptr<dynq_model> model_;
  detail::Owned<dynq_session, dynq_session_free> session_;
  std::vector<dynq_tensor> inputs_, outputs_;
  bool finite_ = true;
};

} // namespace dynq

#endif
