// headlens/core: scoped, checked access to a model's weights.
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/checkpoint.h"
#include "headlens/core/device.h"
#include "headlens/core/dtype.h"

namespace headlens {

/// Told how many of the bytes to load have been, as often as there is news.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

/// A prefix into a set of named weights. Scopes made from one root share what has been read and
/// the converted tensors, so getting a name twice, or two names of one storage, gives the same
/// tensor (tied weights stay tied). Copies are cheap. Safe to use from many threads.
class WeightScope {
 public:
  /// Weights from a checkpoint, converted to `dtype` (floating-point ones only) on `device`. What
  /// already has both stays a view of the mapped file; all else is read tensor by tensor, travels
  /// in its stored dtype, and leaves nothing of the file in this process's memory.
  static WeightScope from_checkpoint(std::shared_ptr<const Checkpoint> checkpoint,
                                     at::ScalarType dtype, at::Device device,
                                     LoadProgress progress = {});
  /// Weights from memory: fresh models and tests.
  static WeightScope from_map(std::map<std::string, Tensor> weights, at::ScalarType dtype,
                              at::Device device);
  /// Weights made when they are asked for, by full name and shape; every name exists.
  using Generator = std::function<Tensor(const std::string& name, at::IntArrayRef shape)>;
  /// Every weight that is asked for exists: `generator` makes it.
  static WeightScope from_generator(Generator generator, at::ScalarType dtype, at::Device device);

  /// The scope `name` below this one; parts are joined with '.'.
  WeightScope scope(std::string_view name) const;
  /// The same place, with floating-point weights converted to `dtype` (e.g. A_log in float32).
  WeightScope with_dtype(at::ScalarType dtype) const;
  /// The same place, with weights put on `device`.
  WeightScope on(at::Device device) const;

  /// The weight `name` below this scope. Throws CheckpointError with its full path if it is missing
  /// or its shape is not `shape`.
  Tensor get(std::string_view name, at::IntArrayRef shape) const;
  /// As get(), but an undefined tensor if the weight is missing.
  Tensor get_optional(std::string_view name, at::IntArrayRef shape) const;
  /// Several weights of equal trailing shape one after another in one tensor, so that one product
  /// serves them all. From then on get() gives views of it: nothing is held twice.
  struct Part {
    std::string name;            ///< below the scope
    std::vector<int64_t> shape;  ///< the first dimension is joined
  };
  /// The parts joined, [sum of rows, ..]. CheckpointError as get().
  Tensor get_joined(const std::vector<Part>& parts) const;
  /// Whether the weight exists; asking does not count as reading it.
  bool has(std::string_view name) const;
  /// The full name of `name` below this scope; the scope's own path for "".
  std::string path(std::string_view name) const;

  at::ScalarType dtype() const { return dtype_; }  ///< that weights come in
  at::Device device() const { return device_; }    ///< that they come to

  /// Full names below this scope that nobody has got yet, sorted.
  std::vector<std::string> unread() const;
  /// Throws CheckpointError naming the unread weights, save those that match a glob in `ignore`
  /// (full names; `*`, `?`, `[..]`).
  void check_all_read(std::span<const std::string> ignore = {}) const;
  /// The same with the globs written out.
  void check_all_read(std::initializer_list<std::string> ignore) const;

 private:
  struct Root;
  WeightScope(std::shared_ptr<Root> root, std::string prefix, at::ScalarType dtype,
              at::Device device);

  std::shared_ptr<Root> root_;
  std::string prefix_;
  at::ScalarType dtype_;
  at::Device device_;
};

}  // namespace headlens
