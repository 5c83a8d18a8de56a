// headlens/core: scoped, checked access to a model's weights.
#include "headlens/core/weight_scope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>

#include "core/check.h"
#include "core/glob.h"
#include "core/staged_copy.h"

namespace headlens {

/// What all scopes of one set of weights share.
struct WeightScope::Root {
  // One of three sources; what a generator made is kept in `weights`.
  std::shared_ptr<const Checkpoint> checkpoint;
  std::map<std::string, Tensor> weights;
  Generator generator;
  LoadProgress progress;

  std::mutex mutex;  // guards what follows, and `weights`, which a generator adds to
  std::set<std::string> read;
  std::map<std::tuple<std::string, at::ScalarType, std::string>, Tensor> converted;
  StagedCopy staged;
  int64_t done = 0;  // bytes of the checkpoint

  std::string where() const {
    return checkpoint ? checkpoint->path().string() : std::string("weights");
  }

  bool has(const std::string& name) const {
    return generator || (checkpoint ? checkpoint->has(name) : weights.contains(name));
  }

  void generate(const std::string& name, at::IntArrayRef shape) {
    if (!generator) return;
    const std::lock_guard lock(mutex);
    if (weights.contains(name)) return;
    Tensor made = generator(name, shape);
    HEADLENS_CHECK(CheckpointError, made.defined(),
                   "[weights] tensor '{}', expected a tensor, got an undefined one", name);
    weights.emplace(name, std::move(made));
  }

  std::vector<std::string> names() {
    if (checkpoint) return checkpoint->names();
    std::vector<std::string> out;
    const std::lock_guard lock(mutex);
    for (const auto& [name, tensor] : weights) out.push_back(name);
    return out;
  }

  std::vector<int64_t> shape(const std::string& name) {
    if (checkpoint) return checkpoint->info(name).shape;
    const std::lock_guard lock(mutex);
    return weights.at(name).sizes().vec();
  }

  void advance(int64_t bytes) {
    done += bytes;
    if (progress) progress(done, std::max(done, checkpoint->weight_bytes()));
  }

  Tensor load(const std::string& name, at::ScalarType dtype, at::Device device) {
    const std::lock_guard lock(mutex);
    read.insert(name);
    const std::string& first = checkpoint ? checkpoint->first_name(name) : name;
    Tensor& slot = converted[{first, dtype, device.str()}];
    if (!slot.defined())
      slot = checkpoint ? fetch(first, dtype, device) : place(first, dtype, device);
    return slot;
  }

  /// What load() gives for `name` from now on, in place of `before`.
  void replace(const std::string& name, const Tensor& before, const Tensor& after,
               at::ScalarType dtype, at::Device device) {
    const std::lock_guard lock(mutex);
    converted[{checkpoint ? checkpoint->first_name(name) : name, dtype, device.str()}] = after;
    const auto kept = weights.find(name);
    if (kept != weights.end() && kept->second.is_same(before)) kept->second = after;
  }

  Tensor place(const std::string& name, at::ScalarType dtype, at::Device device) const {
    const Tensor moved = weights.at(name).to(device);
    return moved.is_floating_point() ? moved.to(dtype) : moved;
  }

  /// Device first: the conversion is then done there, and the stored dtype is what travels.
  Tensor fetch(const std::string& name, at::ScalarType dtype, at::Device device) {
    const WeightFile& file = checkpoint->file_of(name);
    const TensorInfo& info = file.info(name);
    const at::ScalarType wanted = at::isFloatingType(info.dtype) ? dtype : info.dtype;
    if (!device.is_cpu()) {
      return staged.load(file, name, device, [&](int64_t bytes) { advance(bytes); }).to(wanted);
    }
    Tensor out = file.tensor(name).contiguous().to(wanted);
    if (wanted != info.dtype) file.release(name);
    advance(info.bytes());
    return out;
  }
};

namespace {

/// The tensor that `parts` are views of, where they lie one after another; else undefined.
Tensor as_one(const std::vector<Tensor>& parts) {
  std::vector<int64_t> shape = parts.front().sizes().vec();
  shape.front() = 0;
  int64_t next = parts.front().storage_offset();
  for (const Tensor& part : parts) {
    if (!part.is_contiguous() || !part.is_alias_of(parts.front()) ||
        part.storage_offset() != next) {
      return {};
    }
    next += part.numel();
    shape.front() += part.size(0);
  }
  const std::vector<int64_t> strides = parts.front().strides().vec();
  return parts.front().as_strided(shape, strides, parts.front().storage_offset());
}

}  // namespace

WeightScope::WeightScope(std::shared_ptr<Root> root, std::string prefix, at::ScalarType dtype,
                         at::Device device)
    : root_(std::move(root)), prefix_(std::move(prefix)), dtype_(dtype), device_(device) {}

WeightScope WeightScope::from_checkpoint(std::shared_ptr<const Checkpoint> checkpoint,
                                         at::ScalarType dtype, at::Device device,
                                         LoadProgress progress) {
  HEADLENS_CHECK(CheckpointError, checkpoint != nullptr,
                 "[WeightScope] expected a checkpoint, got a null pointer");
  auto root = std::make_shared<Root>();
  root->checkpoint = std::move(checkpoint);
  root->progress = std::move(progress);
  return WeightScope(std::move(root), "", dtype, device);
}

WeightScope WeightScope::from_map(std::map<std::string, Tensor> weights, at::ScalarType dtype,
                                  at::Device device) {
  for (const auto& [name, tensor] : weights) {
    HEADLENS_CHECK(CheckpointError, tensor.defined(),
                   "[weights] tensor '{}', expected a tensor, got an undefined one", name);
  }
  auto root = std::make_shared<Root>();
  root->weights = std::move(weights);
  return WeightScope(std::move(root), "", dtype, device);
}

WeightScope WeightScope::from_generator(Generator generator, at::ScalarType dtype,
                                        at::Device device) {
  auto root = std::make_shared<Root>();
  root->generator = std::move(generator);
  return WeightScope(std::move(root), "", dtype, device);
}

WeightScope WeightScope::scope(std::string_view name) const {
  return WeightScope(root_, path(name), dtype_, device_);
}

WeightScope WeightScope::with_dtype(at::ScalarType dtype) const {
  return WeightScope(root_, prefix_, dtype, device_);
}

WeightScope WeightScope::on(at::Device device) const {
  return WeightScope(root_, prefix_, dtype_, device);
}

Tensor WeightScope::get(std::string_view name, at::IntArrayRef shape) const {
  const std::string full = path(name);
  root_->generate(full, shape);
  HEADLENS_CHECK(CheckpointError, root_->has(full),
                 "[{}] tensor '{}', expected shape {}, got no such tensor", root_->where(), full,
                 shape_string(shape));
  const std::vector<int64_t> got = root_->shape(full);
  HEADLENS_CHECK(CheckpointError, shape.equals(got), "[{}] tensor '{}', expected shape {}, got {}",
                 root_->where(), full, shape_string(shape), shape_string(got));
  return root_->load(full, dtype_, device_);
}

Tensor WeightScope::get_joined(const std::vector<Part>& parts) const {
  std::vector<Tensor> before;
  for (const Part& part : parts) before.push_back(get(part.name, part.shape));
  if (Tensor whole = as_one(before); whole.defined()) return whole;
  Tensor whole = at::cat(before);
  int64_t from = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t rows = before[i].size(0);
    root_->replace(path(parts[i].name), before[i], whole.narrow(0, from, rows), dtype_, device_);
    from += rows;
  }
  return whole;
}

Tensor WeightScope::get_optional(std::string_view name, at::IntArrayRef shape) const {
  return has(name) ? get(name, shape) : Tensor();
}

bool WeightScope::has(std::string_view name) const {
  return root_->has(path(name));
}

std::string WeightScope::path(std::string_view name) const {
  if (name.empty()) return prefix_;
  return prefix_.empty() ? std::string(name) : fmt::format("{}.{}", prefix_, name);
}

std::vector<std::string> WeightScope::unread() const {
  const std::string below = prefix_.empty() ? "" : prefix_ + ".";
  std::vector<std::string> out = root_->names();
  const std::lock_guard lock(root_->mutex);
  std::erase_if(out, [&](const std::string& name) {
    return !name.starts_with(below) || root_->read.contains(name);
  });
  return out;
}

void WeightScope::check_all_read(std::span<const std::string> ignore) const {
  std::vector<std::string> left = unread();
  std::erase_if(left, [&](const std::string& name) {
    return std::any_of(ignore.begin(), ignore.end(),
                       [&](const std::string& glob) { return glob_match(glob, name); });
  });
  constexpr size_t kShown = 8;
  const size_t shown = std::min(kShown, left.size());
  HEADLENS_CHECK(CheckpointError, left.empty(),
                 "[{}] tensors, expected all to be read, got {} unread: {}{}", root_->where(),
                 left.size(), fmt::join(left.begin(), left.begin() + shown, ", "),
                 shown < left.size() ? ", ..." : "");
}

void WeightScope::check_all_read(std::initializer_list<std::string> ignore) const {
  check_all_read(std::span<const std::string>(ignore.begin(), ignore.size()));
}

}  // namespace headlens
