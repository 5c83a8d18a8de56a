// headlens/core: the stack machine of a pickle, for the few values that a state dict is made of.
#include "core/pickle_machine.h"

#include <utility>

#include "core/check.h"

namespace headlens {
namespace {

using Kind = PickleValue::Kind;

constexpr uint64_t kMaxProtocol = 5;
constexpr size_t kMaxName = 128;  // a long text must not become many long names

}  // namespace

std::string describe_pickled(const PickleValue& value) {
  switch (value.kind) {
    case Kind::None:
      return "None";
    case Kind::Bool:
      return "a bool";
    case Kind::Int:
      return "an int";
    case Kind::Float:
      return "a float";
    case Kind::Text:
      return "a str";
    case Kind::Tuple:
      return "a tuple";
    case Kind::List:
      return "a list";
    case Kind::Dict:
      return "a dict";
    case Kind::Name:
      return "the name " + value.text;
    case Kind::Stored:
      return "a bare storage";
    case Kind::Built:
      return "a call of " + value.text;
  }
  return "another value";
}

PickleMachine::PickleMachine(std::string_view bytes, const std::string& where)
    : bytes_(bytes), where_(where) {}

const PickleValue& PickleMachine::run() {
  constexpr uint8_t kProto = 0x80, kFrame = 0x95, kStop = '.';
  while (true) {
    const auto code = static_cast<uint8_t>(take_number(1));
    if (code == kStop) break;
    if (code == kProto) {
      const uint64_t protocol = take_number(1);
      if (protocol > kMaxProtocol) fail("a protocol up to 5", fmt::format("{}", protocol));
    } else if (code == kFrame) {
      take_number(8);
    } else if (!run_constant(code) && !run_container(code) && !run_items(code) && !run_memo(code) &&
               !run_call(code)) {
      --at_;
      fail("only opcodes of a state dict", fmt::format("0x{:02x}", code));
    }
  }
  if (stack_.size() != 1 || !marks_.empty()) {
    fail("one value at the end", fmt::format("{}", stack_.size()));
  }
  return values_[stack_.front()];
}

void PickleMachine::fail(const char* expected, const std::string& got) const {
  HEADLENS_FAIL(CheckpointError, "[{}] pickle at byte {}, expected {}, got {}", where_, at_,
                expected, got);
}

std::string_view PickleMachine::take(uint64_t size) {
  if (size > bytes_.size() - at_) {
    fail("more bytes (it is cut short)", fmt::format("{} of {}", bytes_.size() - at_, size));
  }
  const std::string_view taken = bytes_.substr(at_, size);
  at_ += size;
  return taken;
}

uint64_t PickleMachine::take_number(int size) {
  uint64_t value = 0;
  int shift = 0;
  for (const char byte : take(static_cast<uint64_t>(size))) {
    value |= uint64_t{static_cast<uint8_t>(byte)} << shift;
    shift += 8;
  }
  return value;
}

std::string PickleMachine::take_line() {
  const size_t end = bytes_.find('\n', at_);
  if (end == std::string_view::npos) fail("a line (it is cut short)", "none");
  const std::string_view line = take(end + 1 - at_);
  return std::string(line.substr(0, line.size() - 1));
}

PickleMachine::Place PickleMachine::pop() {
  if (stack_.size() == (marks_.empty() ? 0 : marks_.back())) fail("a value on the stack", "none");
  const Place place = stack_.back();
  stack_.pop_back();
  return place;
}

std::vector<PickleMachine::Place> PickleMachine::pop_to_mark() {
  if (marks_.empty()) fail("a mark on the stack", "none");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Place> items(first, stack_.end());
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return items;
}

PickleValue& PickleMachine::top(Kind kind, const char* expected) {
  if (stack_.size() == (marks_.empty() ? 0 : marks_.back())) fail("a value on the stack", "none");
  PickleValue& value = values_[stack_.back()];
  if (value.kind != kind) fail(expected, describe_pickled(value));
  return value;
}

void PickleMachine::push(PickleValue value) {
  stack_.push_back(static_cast<Place>(values_.size()));
  values_.push_back(std::move(value));
}

/// Little-endian two's complement of up to 8 bytes.
void PickleMachine::push_long(std::string_view digits) {
  if (digits.size() > 8) fail("integers of 64 bits", fmt::format("{} bytes", digits.size()));
  const bool negative = !digits.empty() && (static_cast<uint8_t>(digits.back()) & 0x80) != 0;
  uint64_t value = negative ? ~uint64_t{0} : 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    value &= ~(uint64_t{0xff} << (8 * i));
    value |= uint64_t{static_cast<uint8_t>(digits[i])} << (8 * i);
  }
  push({Kind::Int, static_cast<int64_t>(value), {}, {}});
}

void PickleMachine::push_name(std::string module, const std::string& name) {
  if (module.size() + name.size() > kMaxName) fail("a name of 128 bytes at most", "a longer one");
  push({Kind::Name, 0, std::move(module) + "." + name, {}});
}

void PickleMachine::push_tuple(size_t size) {
  std::vector<Place> items(size);
  for (size_t i = size; i > 0; --i) items[i - 1] = pop();
  push({Kind::Tuple, 0, {}, std::move(items)});
}

void PickleMachine::append(Kind kind, const char* expected, const std::vector<Place>& items) {
  std::vector<Place>& all = top(kind, expected).items;
  all.insert(all.end(), items.begin(), items.end());
}

bool PickleMachine::run_constant(uint8_t code) {
  switch (code) {
    case 'N':  // NONE
      push({Kind::None, 0, {}, {}});
      return true;
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      push({Kind::Bool, code == 0x88, {}, {}});
      return true;
    case 'K':  // BININT1
      push({Kind::Int, static_cast<int64_t>(take_number(1)), {}, {}});
      return true;
    case 'M':  // BININT2
      push({Kind::Int, static_cast<int64_t>(take_number(2)), {}, {}});
      return true;
    case 'J':  // BININT
      push_long(take(4));
      return true;
    case 0x8a:  // LONG1
      push_long(take(take_number(1)));
      return true;
    case 'G':  // BINFLOAT
      take(8);
      push({Kind::Float, 0, {}, {}});
      return true;
    case 'X':   // BINUNICODE
    case 0x8c:  // SHORT_BINUNICODE
      push({Kind::Text, 0, std::string(take(take_number(code == 'X' ? 4 : 1))), {}});
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_container(uint8_t code) {
  switch (code) {
    case '(':  // MARK
      marks_.push_back(stack_.size());
      return true;
    case '}':  // EMPTY_DICT
      push({Kind::Dict, 0, {}, {}});
      return true;
    case ']':  // EMPTY_LIST
      push({Kind::List, 0, {}, {}});
      return true;
    case ')':  // EMPTY_TUPLE
      push_tuple(0);
      return true;
    case 't':  // TUPLE
      push({Kind::Tuple, 0, {}, pop_to_mark()});
      return true;
    case 0x85:  // TUPLE1 to TUPLE3
    case 0x86:
    case 0x87:
      push_tuple(static_cast<size_t>(code - 0x84));
      return true;
    default:
      return false;
  }
}

/// What adds to the list or the dict on the stack.
bool PickleMachine::run_items(uint8_t code) {
  switch (code) {
    case 'a':  // APPEND
      append(Kind::List, "a list to append to", {pop()});
      return true;
    case 'e':  // APPENDS
      append(Kind::List, "a list to append to", pop_to_mark());
      return true;
    case 's': {  // SETITEM
      const Place value = pop(), key = pop();
      append(Kind::Dict, "a dict to set items of", {key, value});
      return true;
    }
    case 'u': {  // SETITEMS
      const std::vector<Place> items = pop_to_mark();
      if (items.size() % 2 != 0) fail("keys and values", "a key without a value");
      append(Kind::Dict, "a dict to set items of", items);
      return true;
    }
    default:
      return false;
  }
}

void PickleMachine::remember(uint64_t slot) {
  if (stack_.empty()) fail("a value on the stack", "none");
  memo_[slot] = stack_.back();
}

void PickleMachine::recall(uint64_t slot) {
  const auto it = memo_.find(slot);
  if (it == memo_.end()) fail("a value in the memo", fmt::format("none under {}", slot));
  stack_.push_back(it->second);
}

bool PickleMachine::run_memo(uint8_t code) {
  switch (code) {
    case 'q':  // BINPUT, LONG_BINPUT
    case 'r':
      remember(take_number(code == 'q' ? 1 : 4));
      return true;
    case 0x94:  // MEMOIZE
      remember(memo_.size());
      return true;
    case 'h':  // BINGET, LONG_BINGET
    case 'j':
      recall(take_number(code == 'h' ? 1 : 4));
      return true;
    default:
      return false;
  }
}

/// Notes what was to be called. An OrderedDict of nothing is the one object that items are added to
/// afterwards.
void PickleMachine::call() {
  const Place arguments = pop(), name = pop();
  const bool named = values_[name].kind == Kind::Name;
  if (!named || values_[arguments].kind != Kind::Tuple) {
    fail("a name and its arguments", describe_pickled(values_[named ? arguments : name]));
  }
  if (values_[name].text == "collections.OrderedDict" && values_[arguments].items.empty()) {
    push({Kind::Dict, 0, {}, {}});
  } else {
    push({Kind::Built, 0, values_[name].text, {name, arguments}});
  }
}

bool PickleMachine::run_call(uint8_t code) {
  switch (code) {
    case 'c': {  // GLOBAL
      std::string module = take_line();
      push_name(std::move(module), take_line());
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const std::string name = top(Kind::Text, "a name").text;
      pop();
      std::string module = top(Kind::Text, "a module").text;
      pop();
      push_name(std::move(module), name);
      return true;
    }
    case 'Q': {  // BINPERSID
      const Place id = pop();
      push({Kind::Stored, 0, {}, {id}});
      return true;
    }
    case 'R':  // REDUCE
      call();
      return true;
    case 'b':  // BUILD: attributes of a dict (a state dict's _metadata), which hold no weights
      pop();
      top(Kind::Dict, "attributes of a dict");
      return true;
    default:
      return false;
  }
}

}  // namespace headlens
