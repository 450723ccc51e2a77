// Runs a package of AOTInductor that holds modules of dynq.torch: run_package m.pt2 x.bin SIZE...
//
// x.bin has the raw float32 values of the one input, row-major, of shape (SIZE...). The first output goes to standard
// output, raw too. libdynq_torch.so, which the program is linked with, has the operators.
#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

int main(int argc, char **argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: run_package m.pt2 x.bin SIZE...\n");
    return 2;
  }
  std::vector<int64_t> sizes;
  for (int i = 3; i < argc; i++) {
    sizes.push_back(std::atoll(argv[i]));
  }
  at::Tensor x = at::empty(sizes);
  const auto count = static_cast<std::size_t>(x.numel());
  std::FILE *file = std::fopen(argv[2], "rb");
  if (file == nullptr || std::fread(x.data_ptr<float>(), sizeof(float), count, file) != count) {
    std::fprintf(stderr, "%s: expected %zu float32 values\n", argv[2], count);
    return 1;
  }
  std::fclose(file);
  try {
    torch::inductor::AOTIModelPackageLoader package(argv[1]);
    const at::Tensor y = package.run({x}).at(0).contiguous();
    std::fwrite(y.data_ptr<float>(), sizeof(float), static_cast<std::size_t>(y.numel()), stdout);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
