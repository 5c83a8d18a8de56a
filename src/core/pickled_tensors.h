// headlens/core: the tensors that the pickle of a PyTorch file speaks of, read as data.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// A tensor as the pickle describes it. Nothing in it has been checked against its storage.
struct PickledTensor {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::string storage;           // the member "data/<storage>" of the archive
  int64_t storage_elements = 0;  // of the whole storage
  int64_t offset = 0;            // in elements, as are the strides
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
};

/// Reads a pickle that holds one flat dict of dense tensors. A machine of two dozen opcodes and
/// thirteen names, none of which it calls: an `OrderedDict` is a dict, a rebuilt tensor is a row of
/// numbers. Throws CheckpointError, with `where` before the rest, for any other opcode, name or
/// value. Time and memory are linear in the pickle's length; nothing recurses.
std::vector<PickledTensor> read_pickled_tensors(std::string_view pickle, const std::string& where);

}  // namespace headlens
