// headlens/cli: tensors written in the format that a file's name asks for.
#include "cli/tensor_files.h"

#include <ATen/ATen.h>

#include <cmath>

#include "cli/output.h"
#include "core/check.h"
#include "core/whole_file.h"
#include "headlens/core/npz.h"
#include "headlens/core/safetensors.h"

namespace headlens::cli {
namespace {

constexpr size_t kMostDims = 5;  // of any site

Tensor plain(const Tensor& tensor) {
  return tensor.detach().to(at::kCPU).to(at::kDouble).contiguous();
}

/// Shortest text that gives the number back; float32 values are not made longer than they are.
std::string number_text(double value, at::ScalarType dtype) {
  if (dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16) {
    return fmt::format("{}", static_cast<float>(value));
  }
  return at::isIntegralType(dtype, true) ? fmt::format("{:.0f}", value) : fmt::format("{}", value);
}

void add_csv(std::string& text, const std::string& name, const Tensor& tensor) {
  HEADLENS_CHECK(UsageError, static_cast<size_t>(tensor.dim()) <= kMostDims,
                 "[out] {}, expected at most {} dimensions in a .csv file, got {}; write .npz",
                 name, kMostDims, tensor.dim());
  const Tensor values = plain(tensor);
  const double* data = values.const_data_ptr<double>();
  std::vector<int64_t> index(static_cast<size_t>(tensor.dim()), 0);
  for (int64_t i = 0; i < values.numel(); ++i) {
    text += name;
    for (size_t d = 0; d < kMostDims; ++d) {
      text += d < index.size() ? fmt::format(",{}", index[d]) : ",";
    }
    text += "," + number_text(data[i], tensor.scalar_type()) + "\n";
    for (size_t d = index.size(); d > 0; --d) {
      if (++index[d - 1] < values.size(static_cast<int64_t>(d) - 1)) break;
      index[d - 1] = 0;
    }
  }
}

/// float32 values as decimal text of their own precision.
Json values_json(const Tensor& tensor) {
  const Tensor values = plain(tensor);
  const double* data = values.const_data_ptr<double>();
  Json list = Json::array();
  for (int64_t i = 0; i < values.numel(); ++i) {
    if (at::isIntegralType(tensor.scalar_type(), true)) {
      list.push_back(static_cast<int64_t>(data[i]));
    } else if (std::isfinite(data[i])) {
      list.push_back(Json::parse(number_text(data[i], tensor.scalar_type())));
    } else {
      list.push_back(nullptr);
    }
  }
  return list;
}

Json tensors_json(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  Json json = {{"metadata", metadata}, {"tensors", Json::array()}};
  for (const auto& [name, tensor] : tensors) {
    json["tensors"].push_back({{"name", name},
                               {"dtype", dtype_name(tensor.scalar_type())},
                               {"shape", tensor.sizes().vec()},
                               {"values", values_json(tensor)}});
  }
  return json;
}

}  // namespace

void check_tensor_file(const char* where, const std::filesystem::path& path) {
  const std::string form = path.extension().string();
  HEADLENS_CHECK(UsageError,
                 form == ".safetensors" || form == ".npz" || form == ".csv" || form == ".json",
                 "[{}] --out, expected a .safetensors, .npz, .csv or .json file, got '{}'", where,
                 path.string());
}

void check_written_values(const char* where, const std::filesystem::path& path, int64_t values) {
  const std::string form = path.extension().string();
  HEADLENS_CHECK(UsageError, values <= kMostWrittenValues || (form != ".csv" && form != ".json"),
                 "[{}] --out, expected at most {} values in a {} file, got {}; write .npz or "
                 ".safetensors, or record less",
                 where, kMostWrittenValues, form, values);
}

void save_tensors(const char* where, const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata) {
  check_tensor_file(where, path);
  int64_t values = 0;
  for (const auto& [name, tensor] : tensors) values += tensor.numel();
  check_written_values(where, path, values);
  const std::string form = path.extension().string();
  if (form == ".safetensors") return save_safetensors(path, tensors, metadata);
  if (form == ".npz") return save_npz(path, tensors);
  if (form == ".json") return write_whole_file(path, tensors_json(tensors, metadata).dump() + "\n");
  std::string text = "tensor,i0,i1,i2,i3,i4,value\n";
  for (const auto& [name, tensor] : tensors) add_csv(text, name, tensor);
  write_whole_file(path, text);
}

}  // namespace headlens::cli
