/* Opens a .dynq file whose inputs are float32 and runs it on ones: run_model model.dynq ROWS */
#include <dynq/dynq.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

static int run(const char *path, std::size_t rows) {
  const dynq::Model model(path);
  dynq::Session session(model);
  std::vector<std::vector<float>> values; /* what the tensors look at */
  std::vector<dynq::Tensor> inputs;
  for (const dynq_model_value &input : model.inputs()) {
    std::vector<std::size_t> dims;
    std::size_t count = 1;
    for (std::size_t i = 0; i < input.rank; i++) {
      dims.push_back(input.dims[i] < 0 ? rows : static_cast<std::size_t>(input.dims[i]));
      count *= dims.back();
    }
    values.emplace_back(count, 1.0f);
    inputs.emplace_back(std::span<const float>(values.back()), std::span<const std::size_t>(dims));
  }
  const std::vector<dynq::Tensor> outputs = session.run(inputs);
  const std::vector<std::string> names = model.output_names();
  for (std::size_t i = 0; i < outputs.size(); i++) {
    std::printf("%s:", names[i].c_str());
    for (const float value : outputs[i].values<float>().first(std::min<std::size_t>(outputs[i].size(), 8))) {
      std::printf(" %g", static_cast<double>(value));
    }
    std::printf("\n");
  }
  return session.finite() ? 0 : 1;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: run_model model.dynq ROWS\n");
    return 2;
  }
  try {
    return run(argv[1], std::strtoull(argv[2], nullptr, 10));
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
