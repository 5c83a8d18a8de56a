// headlens/tasks: string methods as Python has them, which published prompt formats are made with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// The end of what str.rstrip() leaves. Texts here are valid UTF-8.
size_t python_rstrip_end(std::string_view text);
/// str.strip() and str.lstrip()
std::string_view python_strip(std::string_view text);
std::string_view python_lstrip(std::string_view text);
/// str.split()
std::vector<std::string> python_split(std::string_view text);
/// Whether `\b` of `re` matches before the byte `at`, which begins a code point or is the end.
bool python_word_edge(std::string_view text, size_t at);
/// Without the code points of category P.
std::string python_without_punctuation(std::string_view text);
/// str.capitalize(), but for the few letters whose upper case is two.
std::string python_capitalize(std::string_view text);
/// str.lower(), likewise.
std::string python_lower(std::string_view text);
/// len(str): code points.
int64_t python_length(std::string_view text);
/// str.replace()
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace headlens
