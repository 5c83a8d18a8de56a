// headlens/bench: megabytes a CPU second of one tokenizer file on one text.
//
// tokenizer_bench TOKENIZER TEXT: splits the text into pieces of about 4 kB at line ends and
// encodes them one by one on one thread. Prints bytes, tokens, and the rates of the best of three
// passes and of the first; tokenizer_peer.py runs this and Hugging Face's.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "headlens/model/tokenizer.h"

namespace {

std::vector<std::string> pieces_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  constexpr size_t kPiece = 4096;
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t line = text.find('\n', std::min(text.size(), begin + kPiece));
    const size_t end = line == std::string::npos ? text.size() : line + 1;
    pieces.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

int run(const char* tokenizer_path, const char* text_path) {
  const auto tokenizer = headlens::Tokenizer::load(tokenizer_path);
  const std::vector<std::string> pieces = pieces_of(text_path);
  size_t bytes = 0, tokens = 0;
  double best = 1e9, first = 0;
  for (int pass = 0; pass < 3; ++pass) {
    bytes = tokens = 0;
    const std::clock_t start = std::clock();  // CPU time: a busy machine must not count
    for (const std::string& piece : pieces) {
      tokens += tokenizer.encode(piece).size();
      bytes += piece.size();
    }
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    if (pass == 0) first = seconds;  // no word is remembered yet
    best = std::min(best, seconds);
  }
  const auto rate = [&](double seconds) { return static_cast<double>(bytes) / seconds * 1e-6; };
  std::printf("%zu %zu %.3f %.3f\n", bytes, tokens, rate(best), rate(first));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER TEXT\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_bench: error: %s\n", error.what());
    return 1;
  }
}
