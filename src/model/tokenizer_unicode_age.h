// headlens/model: characters that came too late for the Unicode tables of the reference tokenizers.
#pragma once

#include <cstdint>

namespace headlens {

// Hugging Face's `tokenizers` uses tables of several ages. Each function is right for characters of
// the class it speaks of, and says nothing about others.

bool is_late_punctuation(uint32_t code_point);    // category P now, unknown to Punctuation
bool is_late_mark(uint32_t code_point);           // category M now, left alone by StripAccents
bool is_late_decomposition(uint32_t code_point);  // decomposes now, left alone by NFD and NFKD

}  // namespace headlens
