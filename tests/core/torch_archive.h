// headlens/tests: zip archives and pickles byte by byte, as torch.save writes them and worse.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace headlens::testing {

/// Little-endian bytes of a number.
inline std::string number_bytes(uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out += i < 8 ? static_cast<char>(value >> (8 * i) & 0xff) : '\0';
  return out;
}

/// A member of an archive and what its directory entry says of it.
struct Member {
  std::string name;
  std::string bytes;
  uint64_t method = 0;
  uint64_t flags = 0;
  uint64_t shift = 0;      // added to the offset that the directory says
  uint64_t more_size = 0;  // and to the size
};

inline std::string zip_of(const std::vector<Member>& members) {
  std::string file, directory;
  for (const Member& m : members) {
    const uint64_t size = m.bytes.size() + m.more_size;
    const std::string common = number_bytes(20, 2) + number_bytes(m.flags, 2) +
                               number_bytes(m.method, 2) + number_bytes(0, 8) +  // time, checksum
                               number_bytes(size, 4) + number_bytes(size, 4) +
                               number_bytes(m.name.size(), 2) + number_bytes(0, 2);
    directory += number_bytes(0x02014b50, 4) + number_bytes(20, 2) + common + number_bytes(0, 10) +
                 number_bytes(file.size() + m.shift, 4) + m.name;
    file += number_bytes(0x04034b50, 4) + common + m.name + m.bytes;
  }
  const std::string count = number_bytes(members.size(), 2);
  return file + directory + number_bytes(0x06054b50, 4) + number_bytes(0, 4) + count + count +
         number_bytes(directory.size(), 4) + number_bytes(file.size(), 4) + number_bytes(0, 2);
}

// Pieces of a pickle.
inline std::string text_op(const std::string& text) {
  return "X" + number_bytes(text.size(), 4) + text;
}
inline std::string int_op(int64_t value) {
  return "\x8a\x08" + number_bytes(static_cast<uint64_t>(value), 8);
}
inline std::string tuple_op(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (const int64_t value : values) out += int_op(value);
  return out + "t";
}
inline std::string storage_op(int64_t elements, const std::string& type = "FloatStorage",
                              const std::string& key = "0") {
  return "(" + text_op("storage") + "ctorch\n" + type + "\n" + text_op(key) + text_op("cpu") +
         int_op(elements) + "tQ";
}
/// A tensor in a storage of four float32.
inline std::string tensor_op(int64_t offset, const std::vector<int64_t>& shape,
                             const std::vector<int64_t>& strides,
                             const std::string& storage = storage_op(4)) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + int_op(offset) + tuple_op(shape) +
         tuple_op(strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}
inline std::string dict_op(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "}(";
  for (const auto& [name, value] : items) out += text_op(name) + value;
  return out + "u";
}
/// The bytes of a .bin file with this pickle and one storage, "0", of four float32: 1, 2, 3, 4.
inline std::string torch_file_of(const std::string& body) {
  std::string storage;
  for (const uint64_t bits : {0x3f800000, 0x40000000, 0x40400000, 0x40800000}) {
    storage += number_bytes(bits, 4);
  }
  return zip_of({{"archive/data.pkl", "\x80\x02" + body + "."}, {"archive/data/0", storage}});
}

}  // namespace headlens::testing
