// headlens/cli: heads as they are named on the command line.
#include "cli/heads.h"

#include <charconv>
#include <optional>

#include "core/check.h"

namespace headlens::cli {
namespace {

/// A whole non-negative number or nothing.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

HeadId parse_head(std::string_view word) {
  const size_t dot = std::min(word.find('.'), word.size());
  const std::string_view members = word.substr(std::min(dot + 1, word.size()));
  const size_t dash = members.find('-');
  const auto layer = number(word.substr(0, dot));
  const auto first = number(members.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : number(members.substr(dash + 1));
  HEADLENS_CHECK(UsageError, layer && first && last && *first <= *last,
                 "[heads] --heads, expected LAYER.HEAD or LAYER.FIRST-LAST, got '{}'", word);
  return {*layer, *first, *last};
}

bool is_channel(const LayerSpec& layer, int64_t head) {
  const HeadBank bank = bank_of(layer, head);
  const LayerKind kind = bank.count > 0 ? bank.kind : layer_kind(layer);
  return kind == LayerKind::Mamba1;
}

bool overlap(const HeadId& a, const HeadId& b) {
  return a.layer == b.layer && a.first <= b.last && b.first <= a.last;
}

}  // namespace

CLI::Option* add_heads_flag(CLI::App& command, std::vector<std::string>& heads) {
  return command
      .add_option("--heads", heads, "LAYER.HEAD, comma-separated; channels as LAYER.FIRST-LAST")
      ->delimiter(',');
}

std::vector<HeadId> parse_heads(const std::vector<std::string>& words) {
  std::vector<HeadId> heads;
  for (const std::string& word : words) heads.push_back(parse_head(word));
  return heads;
}

void check_heads_exist(const ModelConfig& config, const std::vector<HeadId>& heads) {
  const int64_t layers = std::ssize(config.layers);
  for (size_t i = 0; i < heads.size(); ++i) {
    const HeadId& head = heads[i];
    HEADLENS_CHECK(UsageError, head.layer < layers,
                   "[heads] {}, expected a layer from 0 to {}, got {}", head_text(head), layers - 1,
                   head.layer);
    const LayerSpec& layer = config.layers[static_cast<size_t>(head.layer)];
    const char* what = is_channel(layer, head.first) ? "channel" : "head";
    HEADLENS_CHECK(UsageError, head_count(layer) > 0,
                   "[heads] {}, expected a layer with heads, got one with an MLP only",
                   head_text(head));
    HEADLENS_CHECK(UsageError, head.last < head_count(layer),
                   "[heads] {}, expected a {} from 0 to {} in layer {}, got {}", head_text(head),
                   what, head_count(layer) - 1, head.layer, head.last);
    for (size_t j = 0; j < i; ++j) {
      HEADLENS_CHECK(UsageError, !overlap(head, heads[j]),
                     "[heads] {}, expected each {} once, got it in {} as well", head_text(head),
                     what, head_text(heads[j]));
    }
  }
}

std::vector<HeadId> single_heads(const ModelConfig& config, const std::vector<HeadId>& heads) {
  std::vector<HeadId> single;
  for (const HeadId& head : heads) {
    const LayerSpec& layer = config.layers[static_cast<size_t>(head.layer)];
    int64_t h = head.first;
    while (h <= head.last) {
      const HeadBank bank = bank_of(layer, h);
      const bool channels = bank.kind == LayerKind::Mamba1;
      const int64_t end = channels ? std::min(head.last + 1, bank.first + bank.count) : h + 1;
      single.push_back({head.layer, h, end - 1});
      h = end;
    }
  }
  return single;
}

std::string head_text(const HeadId& head) {
  return head.first == head.last ? fmt::format("{}.{}", head.layer, head.first)
                                 : fmt::format("{}.{}-{}", head.layer, head.first, head.last);
}

}  // namespace headlens::cli
