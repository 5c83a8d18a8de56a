// headlens/examples: edits map entries, in ten lines: the last position may not read one token.
#include <ATen/ATen.h>
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: edit_map_entry CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const std::string list = "Memorize the following dictionary:\ncamp:78\npen";
  const auto ids = tokenizer.encode(list + ":56\ncup:88\nThe value of the key 'pen' is");
  const auto value = static_cast<int64_t>(tokenizer.encode(list).size());  // where ":56" is
  const auto last = static_cast<int64_t>(ids.size()) - 1;
  HookSet hooks(model.config());
  hooks.add_map("blocks.*.attn.hook_pattern", [&](TapPoint, HeadMap& map) {
    map.edit({.rows = mask_of_positions(last + 1, {last}),  // M_ij *= 0 for i = last, j = value
              .keys = mask_of_positions(last + 1, {value})});
  });
  for (Tap* tap : {static_cast<Tap*>(nullptr), static_cast<Tap*>(&hooks)}) {
    const Tensor logits = model.forward(at::tensor(ids).view({1, -1}), {.tap = tap});
    const int64_t next = logits[0][last].argmax().item<int64_t>();
    std::printf("%s: '%s'\n", tap ? "edited" : "as it is", tokenizer.decode({&next, 1}).c_str());
  }
}
