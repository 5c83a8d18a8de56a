// headlens/tasks: answers of BIG-Bench Hard, read out of completions as the harness's filters do.
#pragma once

#include <string>
#include <string_view>

namespace headlens {

/// First match of `(?<=the answer is )(.*)(?=.)`: the rest of the line but for its last character.
/// These return kNoAnswer where nothing matches.
std::string bbh_cot_answer(std::string_view text);
/// Without a full stop at the end, commas, newlines, backslashes and double quotes; lower case.
std::string bbh_normal(std::string_view text);

/// `flexible-extract` of one of BBH's tasks: the first that looks like an answer of that task, in
/// the form its targets have. Where there is none, a second try: an option's own words or a letter
/// after a colon for "(B)", a number in English words for digits. Words that were to be sorted are
/// picked from the prose, each where it stands last.
std::string bbh_flexible(const std::string& task, const std::string& question,
                         std::string_view text);

}  // namespace headlens
