// headlens/core: the tensors that the pickle of a PyTorch file speaks of, read as data.
#include "core/pickled_tensors.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "core/check.h"
#include "core/pickle_machine.h"

namespace headlens {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxBytes = 1 << 22;  // twenty thousand tensors
constexpr size_t kMaxDims = 64;        // keeps messages short
constexpr size_t kMaxKey = 128;        // of a storage: a long text must not become many copies

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 10> kStorages = {{
    {"torch.FloatStorage", at::kFloat},
    {"torch.BFloat16Storage", at::kBFloat16},
    {"torch.HalfStorage", at::kHalf},
    {"torch.DoubleStorage", at::kDouble},
    {"torch.LongStorage", at::kLong},
    {"torch.IntStorage", at::kInt},
    {"torch.ShortStorage", at::kShort},
    {"torch.CharStorage", at::kChar},
    {"torch.ByteStorage", at::kByte},
    {"torch.BoolStorage", at::kBool},
}};

/// Makes sense of what the machine left.
class StateDict {
 public:
  StateDict(const PickleMachine& machine, const std::string& where)
      : machine_(machine), where_(where) {}

  std::vector<PickledTensor> read(const PickleValue& root) const;

 private:
  using Items = std::vector<PickleValue::Place>;

  PickledTensor read_tensor(const PickleValue& value, const std::string& key) const;
  void read_storage(const PickleValue& value, PickledTensor& out) const;
  std::vector<int64_t> read_sizes(const PickleValue& value, const PickledTensor& out) const;
  const PickleValue& at(const Items& items, size_t i) const { return machine_.at(items[i]); }
  bool is_nothing(const PickleValue& value) const {
    return value.kind == Kind::None || (value.kind == Kind::Dict && value.items.empty());
  }

  void check(bool good, const std::string& key, const char* expected,
             const std::string& got) const {
    HEADLENS_CHECK(CheckpointError, good, "[{}] key '{}', expected {}, got {}", where_, key,
                   expected, got);
  }

  const PickleMachine& machine_;
  const std::string& where_;
};

std::vector<PickledTensor> StateDict::read(const PickleValue& root) const {
  HEADLENS_CHECK(CheckpointError, root.kind == Kind::Dict,
                 "[{}] pickle, expected a dict of tensors, got {}", where_, describe_pickled(root));
  std::vector<PickledTensor> tensors;
  std::set<std::string> seen;
  for (size_t i = 0; i < root.items.size(); i += 2) {
    const PickleValue& key = at(root.items, i);
    HEADLENS_CHECK(CheckpointError, key.kind == Kind::Text,
                   "[{}] key, expected a tensor's name, got {}", where_, describe_pickled(key));
    check(seen.insert(key.text).second, key.text, "once", "it twice");
    tensors.push_back(read_tensor(at(root.items, i + 1), key.text));
  }
  return tensors;
}

PickledTensor StateDict::read_tensor(const PickleValue& value, const std::string& key) const {
  const char* const kTensor =
      value.kind == Kind::Dict ? "a tensor (a state dict is saved by itself)" : "a tensor";
  check(value.kind == Kind::Built, key, kTensor, describe_pickled(value));
  const std::string& name = value.text;
  const Items& arguments = at(value.items, 1).items;
  if (name == "torch._utils._rebuild_parameter" && arguments.size() == 3) {
    const PickleValue& inner = at(arguments, 0);
    const bool plain = inner.kind == Kind::Built && inner.text == "torch._utils._rebuild_tensor_v2";
    check(plain, key, "a parameter made of a dense tensor", describe_pickled(inner));
    return read_tensor(inner, key);
  }
  check(name == "torch._utils._rebuild_tensor_v2", key, "a dense tensor",
        fmt::format("a call of {}, which is not made", name));
  // Storage, offset, shape, strides, requires_grad, hooks and, of late, flags such as "conj".
  const bool plain = (arguments.size() == 6 || arguments.size() == 7) &&
                     at(arguments, 1).kind == Kind::Int && is_nothing(at(arguments, 5)) &&
                     (arguments.size() == 6 || is_nothing(at(arguments, 6)));
  check(plain, key, "a plain dense tensor", "one with other arguments");
  PickledTensor out;
  out.name = key;
  read_storage(at(arguments, 0), out);
  out.offset = at(arguments, 1).number;
  out.shape = read_sizes(at(arguments, 2), out);
  out.strides = read_sizes(at(arguments, 3), out);
  return out;
}

/// ("storage", its type, its key, the device it was on, its elements)
void StateDict::read_storage(const PickleValue& value, PickledTensor& out) const {
  const PickleValue* id = value.kind == Kind::Stored ? &at(value.items, 0) : nullptr;
  const bool plain = id != nullptr && id->kind == Kind::Tuple && id->items.size() == 5 &&
                     at(id->items, 0).text == "storage" && at(id->items, 1).kind == Kind::Name &&
                     at(id->items, 2).kind == Kind::Text && at(id->items, 4).kind == Kind::Int;
  check(plain, out.name, "a tensor with a storage", describe_pickled(value));
  check(at(id->items, 2).text.size() <= kMaxKey, out.name, "a storage's name of at most 128 bytes",
        "a longer one");
  const std::string& type = at(id->items, 1).text;
  const auto* known = std::find_if(kStorages.begin(), kStorages.end(),
                                   [&](const auto& storage) { return storage.first == type; });
  check(known != kStorages.end(), out.name, "a storage of numbers", type + " (not supported)");
  out.dtype = known->second;
  out.storage = at(id->items, 2).text;
  out.storage_elements = at(id->items, 4).number;
}

std::vector<int64_t> StateDict::read_sizes(const PickleValue& value,
                                           const PickledTensor& out) const {
  check(value.kind == Kind::Tuple && value.items.size() <= kMaxDims, out.name,
        "a shape and strides of at most 64 numbers", describe_pickled(value));
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < value.items.size(); ++i) {
    const PickleValue& size = at(value.items, i);
    check(size.kind == Kind::Int && size.number >= 0, out.name, "sizes and strides from 0",
          size.kind == Kind::Int ? fmt::format("{}", size.number) : describe_pickled(size));
    sizes.push_back(size.number);
  }
  return sizes;
}

}  // namespace

std::vector<PickledTensor> read_pickled_tensors(std::string_view pickle, const std::string& where) {
  HEADLENS_CHECK(CheckpointError, pickle.size() <= kMaxBytes,
                 "[{}] pickle, expected at most {} bytes, got {}", where, kMaxBytes, pickle.size());
  PickleMachine machine(pickle, where);
  const PickleValue& root = machine.run();
  return StateDict(machine, where).read(root);
}

}  // namespace headlens
