// headlens/cli: a model as people draw it: the residual stream from top to bottom.
#include "cli/drawing.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "headlens/kernels/kinds.h"

namespace headlens::cli {
namespace {

/// What the lines are drawn with.
struct Strokes {
  const char* stream;  // the residual
  const char* fork;    // one branch leaves it
  const char* forks;   // two do
  const char* inside;  // a branch becomes two
  const char* join;    // a branch is added to it
  const char* joins;   // two are
  const char* times;
};
constexpr Strokes kLines = {"│",
                            "├──────╮",
                            "├──────┬─────────────────╮",
                            "│      ├─────────────────╮",
                            "⊕◄─────╯",
                            "⊕◄─────┴─────────────────╯",
                            "×"};
constexpr Strokes kAscii = {"|",
                            "+------.",
                            "+------+-----------------.",
                            "|      +-----------------.",
                            "+<-----'",
                            "+<-----+-----------------'",
                            "x"};

/// One box of a branch.
struct Part {
  std::string label, note;
};
using Branch = std::vector<Part>;

/// Something that is added to the residual: branches side by side, behind what they share.
struct Addition {
  Branch shared;
  std::vector<Branch> branches;
};

std::string norm_name(NormKind kind) {
  return kind == NormKind::Layer ? "LayerNorm" : "RMSNorm";
}

Part attention_part(const AttentionSpec& a) {
  std::string note = fmt::format("{} heads of {}", a.heads, a.d_head);
  if (a.kv_heads != a.heads) {
    note +=
        fmt::format(", {} key/value heads for {} queries each", a.kv_heads, a.heads / a.kv_heads);
  }
  if (a.qk_norm != QkNorm::None) note += ", queries and keys normed";
  note += a.rope ? ", rotary" : ", no rotary positions";
  if (a.window > 0) note += fmt::format(", window {}", a.window);
  if (a.softcap > 0) note += fmt::format(", softcap {}", a.softcap);
  return {"attention", note};
}

struct MixerPart {
  Part operator()(const AttentionSpec& a) const { return attention_part(a); }
  Part operator()(const Mamba1Spec& m) const {
    return {"mamba1",
            fmt::format("{} channels, state {}, convolution {}", m.d_inner, m.d_state, m.d_conv)};
  }
  Part operator()(const Mamba2Spec& m) const {
    return {"mamba2", fmt::format("{} heads of {}, state {}, {} groups, convolution {}", m.heads,
                                  m.d_head, m.d_state, m.groups, m.d_conv)};
  }
  Part operator()(const DiscreteMamba2Spec& m) const {
    return {"discrete_mamba2", fmt::format("{} heads of {}, state {}, {} groups, convolution {}",
                                           m.v_heads, m.d_head, m.d_state, m.qk_heads, m.d_conv)};
  }
};

Part mixer_part(const LayerSpec& layer) {
  return std::visit(MixerPart{}, *layer.mixer);
}

Part mlp_part(const ModelConfig& config, const MlpSpec& mlp) {
  return {"MLP", fmt::format("{}, {} wide, back to {}", mlp.gated ? "gated" : "plain", mlp.d_mlp,
                             config.d_model)};
}

/// The mixer, then the MLP, with the norms that the wiring puts around each.
std::vector<Addition> in_turn(const ModelConfig& config, const LayerSpec& layer) {
  const Part norm = {norm_name(config.norm), ""};
  const bool before = layer.wiring != Wiring::PostNorm;
  const bool after = layer.wiring == Wiring::PostNorm || layer.wiring == Wiring::SandwichNorm;
  std::vector<Addition> all;
  const auto add = [&](const Part& part) {
    Branch branch;
    if (before) branch.push_back(norm);
    branch.push_back(part);
    if (after) branch.push_back(norm);
    all.push_back({{}, {branch}});
  };
  if (layer.mixer) add(mixer_part(layer));
  if (layer.mlp) add(mlp_part(config, *layer.mlp));
  return all;
}

std::vector<Addition> additions_of(const ModelConfig& config, const LayerSpec& layer) {
  const Part norm = {norm_name(config.norm), ""};
  switch (layer.wiring) {
    case Wiring::Parallel:
      return {{{}, {{norm, mixer_part(layer)}, {norm, mlp_part(config, *layer.mlp)}}}};
    case Wiring::ParallelMixers: {
      std::vector<Addition> all = {
          {{norm}, {{mixer_part(layer)}, {attention_part(*layer.attention)}}}};
      if (layer.mlp) all.push_back({{}, {{norm, mlp_part(config, *layer.mlp)}}});
      return all;
    }
    case Wiring::SharedBlock:
      return {{{},
               {{{"concat", "the residual beside the embedding"},
                 norm,
                 attention_part(*layer.attention),
                 norm,
                 mlp_part(config, *layer.mlp),
                 {"linear", "to here one block, which several layers share"},
                 {"+ residual", ""},
                 norm,
                 mixer_part(layer)}}}};
    default:
      return in_turn(config, layer);
  }
}

std::string with_note(const std::string& text, const std::string& note) {
  constexpr size_t kNotes = 28;  // columns before the notes
  return note.empty() ? text + "\n" : fmt::format("{:<{}} {}\n", text, kNotes, note);
}

std::string addition_text(const Addition& addition, const Strokes& s) {
  const bool two = addition.branches.size() > 1, shared = !addition.shared.empty();
  std::string text = fmt::format("    {}\n", two && !shared ? s.forks : s.fork);
  const auto line = [&](const Part& part) {
    text += fmt::format("    {}    ", s.stream) + with_note(part.label, part.note);
  };
  for (const Part& part : addition.shared) line(part);
  if (shared && two) text += fmt::format("    {}\n", s.inside);
  for (size_t i = 0; i < addition.branches.front().size(); ++i) {
    const Part& part = addition.branches.front()[i];
    if (!two) {
      line(part);
      continue;
    }
    const Part& other = addition.branches.back()[i];
    const std::string notes = part.note.empty() ? "" : part.note + " | " + other.note;
    line({fmt::format("{:<17} {}", part.label, other.label), notes});
  }
  return text + fmt::format("    {}\n", two ? s.joins : s.join);
}

std::string layer_drawing(const ModelConfig& config, const LayerSpec& layer, const Strokes& s) {
  std::string text;
  for (const Addition& addition : additions_of(config, layer)) {
    text += addition_text(addition, s);
  }
  return text;
}

char letter_of(const LayerSpec& layer) {
  if (!layer.mixer) return 'F';
  if (layer.attention) return 'B';
  return layer_kind(layer) == LayerKind::Attention ? 'A' : 'M';
}

std::string embedding_text(const ModelConfig& c) {
  std::string note = fmt::format("{} tokens, {} wide", c.vocab_size, c.d_model);
  if (c.max_position > 0) note += fmt::format(", plus learned positions ({})", c.max_position);
  if (c.embed_scale != 1) note += fmt::format(", times {:.6g}", c.embed_scale);
  return "    " + with_note("embed", note);
}

std::string unembedding_text(const ModelConfig& c) {
  std::string note = c.tied_embeddings ? "the embedding again" : "a matrix of its own";
  if (c.logit_scale != 1) note += fmt::format(", times {:.6g}", c.logit_scale);
  if (c.logit_softcap > 0) note += fmt::format(", softcap {}", c.logit_softcap);
  return "    " + with_note("unembed", note);
}

}  // namespace

std::string ranges_text(const std::vector<int64_t>& sorted) {
  std::vector<std::string> parts;
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    while (end < sorted.size() && sorted[end] - sorted[begin] == static_cast<int64_t>(end - begin))
      ++end;
    parts.push_back(end - begin == 1 ? fmt::format("{}", sorted[begin])
                                     : fmt::format("{}-{}", sorted[begin], sorted[end - 1]));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<AlikeLayers> alike_layers(const ModelConfig& config, bool unicode) {
  std::vector<AlikeLayers> groups;
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    const std::string drawing =
        layer_drawing(config, config.layers[static_cast<size_t>(i)], unicode ? kLines : kAscii);
    auto same = std::find_if(groups.begin(), groups.end(),
                             [&](const AlikeLayers& group) { return group.drawing == drawing; });
    if (same == groups.end()) same = groups.insert(groups.end(), {drawing, {}});
    same->layers.push_back(i);
  }
  return groups;
}

std::string layer_strip(const ModelConfig& config) {
  std::string strip;
  for (const LayerSpec& layer : config.layers) strip += letter_of(layer);
  return strip;
}

std::string model_drawing(const ModelConfig& config, bool unicode) {
  const Strokes& s = unicode ? kLines : kAscii;
  const std::string stream = fmt::format("    {}\n", s.stream);
  const std::vector<AlikeLayers> groups = alike_layers(config, unicode);
  std::string text = "    tokens\n" + stream + embedding_text(config) + stream;
  if (groups.size() > 1) {
    text += fmt::format("    layers {}\n", layer_strip(config));
    text += "      (A attention, M state-space, B both, F MLP alone; each make-up is drawn once)\n";
  }
  for (const AlikeLayers& group : groups) {
    text += fmt::format("  layer{} {} ({} {})\n", group.layers.size() == 1 ? "" : "s",
                        ranges_text(group.layers), s.times, group.layers.size());
    text += group.drawing;
  }
  return text + stream + "    " + norm_name(config.norm) + "\n" + stream +
         unembedding_text(config) + stream + "    logits\n";
}

}  // namespace headlens::cli
