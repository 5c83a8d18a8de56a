// headlens/core: the stack machine of a pickle, for the few values that a state dict is made of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace headlens {

/// A value of the pickle. Containers hold places in the machine's list of values, so even a deep or
/// a cyclic one is freed without recursion.
struct PickleValue {
  enum class Kind { None, Bool, Int, Float, Text, Tuple, List, Dict, Name, Stored, Built };
  using Place = uint32_t;

  Kind kind = Kind::None;
  int64_t number = 0;        // Bool, Int
  std::string text;          // Text; Name: "module.name"; Built: the name that was to be called
  std::vector<Place> items;  // Tuple, List; Dict: key, value, ..; Stored: the persistent id; Built:
                             // the name and the arguments
};

/// For messages: "a dict", "a call of os.system".
std::string describe_pickled(const PickleValue& value);

/// Runs the opcodes that build plain values. Names are looked at by whoever reads the result; the
/// machine only keeps them, as it keeps what was to be called with which arguments.
class PickleMachine {
 public:
  using Place = PickleValue::Place;

  /// `where` opens every message. Throws CheckpointError for an opcode it does not know, a cut
  /// pickle and a stack that runs empty.
  PickleMachine(std::string_view bytes, const std::string& where);
  /// The one value that the pickle leaves.
  const PickleValue& run();
  const PickleValue& at(Place place) const { return values_[place]; }

 private:
  bool run_constant(uint8_t code);
  bool run_container(uint8_t code);
  bool run_items(uint8_t code);
  bool run_memo(uint8_t code);
  bool run_call(uint8_t code);

  [[noreturn]] void fail(const char* expected, const std::string& got) const;
  std::string_view take(uint64_t size);
  uint64_t take_number(int size);
  std::string take_line();
  Place pop();
  std::vector<Place> pop_to_mark();
  PickleValue& top(PickleValue::Kind kind, const char* expected);
  void push(PickleValue value);
  void push_long(std::string_view digits);
  void push_name(std::string module, const std::string& name);
  void push_tuple(size_t size);
  void append(PickleValue::Kind kind, const char* expected, const std::vector<Place>& items);
  void remember(uint64_t slot);
  void recall(uint64_t slot);
  void call();

  std::string_view bytes_;
  const std::string& where_;
  size_t at_ = 0;
  std::vector<PickleValue> values_;
  std::vector<Place> stack_;
  std::vector<size_t> marks_;  // how high the stack was
  std::unordered_map<uint64_t, Place> memo_;
};

}  // namespace headlens
