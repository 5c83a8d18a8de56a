// headlens/model: names of sites, and the tap that layers call.
#include "headlens/model/site.h"

#include <array>
#include <charconv>

#include "core/check.h"

namespace headlens {
namespace {

constexpr std::string_view kBlocks = "blocks.";

/// Name of each site: after "blocks.{i}." where `in_layer`. The order is that of `Site`.
struct SiteRow {
  Site site;
  bool in_layer;
  std::string_view name;
};

constexpr std::array kSites = {
    SiteRow{Site::Embed, false, "hook_embed"},
    SiteRow{Site::PosEmbed, false, "hook_pos_embed"},
    SiteRow{Site::FinalScale, false, "ln_final.hook_scale"},
    SiteRow{Site::FinalNormalized, false, "ln_final.hook_normalized"},
    SiteRow{Site::Logits, false, "logits"},
    SiteRow{Site::ResidPre, true, "hook_resid_pre"},
    SiteRow{Site::Ln1Scale, true, "ln1.hook_scale"},
    SiteRow{Site::Ln1Normalized, true, "ln1.hook_normalized"},
    SiteRow{Site::Ln1PostScale, true, "ln1_post.hook_scale"},
    SiteRow{Site::Ln1PostNormalized, true, "ln1_post.hook_normalized"},
    SiteRow{Site::ResidMid, true, "hook_resid_mid"},
    SiteRow{Site::Ln2Scale, true, "ln2.hook_scale"},
    SiteRow{Site::Ln2Normalized, true, "ln2.hook_normalized"},
    SiteRow{Site::Ln2PostScale, true, "ln2_post.hook_scale"},
    SiteRow{Site::Ln2PostNormalized, true, "ln2_post.hook_normalized"},
    SiteRow{Site::MlpPre, true, "mlp.hook_pre"},
    SiteRow{Site::MlpPreLinear, true, "mlp.hook_pre_linear"},
    SiteRow{Site::MlpPost, true, "mlp.hook_post"},
    SiteRow{Site::MlpOut, true, "hook_mlp_out"},
    SiteRow{Site::SharedOut, true, "hook_shared_out"},
    SiteRow{Site::LnMixerScale, true, "ln_mixer.hook_scale"},
    SiteRow{Site::LnMixerNormalized, true, "ln_mixer.hook_normalized"},
    SiteRow{Site::ResidPost, true, "hook_resid_post"},
    SiteRow{Site::Q, true, "attn.hook_q"},
    SiteRow{Site::K, true, "attn.hook_k"},
    SiteRow{Site::V, true, "attn.hook_v"},
    SiteRow{Site::QNormed, true, "attn.hook_q_normed"},
    SiteRow{Site::KNormed, true, "attn.hook_k_normed"},
    SiteRow{Site::RotQ, true, "attn.hook_rot_q"},
    SiteRow{Site::RotK, true, "attn.hook_rot_k"},
    SiteRow{Site::AttnScores, true, "attn.hook_attn_scores"},
    SiteRow{Site::Pattern, true, "attn.hook_pattern"},
    SiteRow{Site::Z, true, "attn.hook_z"},
    SiteRow{Site::Result, true, "attn.hook_result"},
    SiteRow{Site::AttnOut, true, "hook_attn_out"},
    SiteRow{Site::InProj, true, "mixer.hook_in_proj"},
    SiteRow{Site::Gate, true, "mixer.hook_gate"},
    SiteRow{Site::ConvIn, true, "mixer.hook_conv_in"},
    SiteRow{Site::Conv, true, "mixer.hook_conv"},
    SiteRow{Site::SsmInput, true, "mixer.hook_ssm_input"},
    SiteRow{Site::DtLowRank, true, "mixer.hook_dt_lowrank"},
    SiteRow{Site::DtPre, true, "mixer.hook_dt_pre"},
    SiteRow{Site::Dt, true, "mixer.hook_dt"},
    SiteRow{Site::B, true, "mixer.hook_B"},
    SiteRow{Site::C, true, "mixer.hook_C"},
    SiteRow{Site::A, true, "mixer.hook_A"},
    SiteRow{Site::ABar, true, "mixer.hook_A_bar"},
    SiteRow{Site::BBar, true, "mixer.hook_B_bar"},
    SiteRow{Site::StateStart, true, "mixer.hook_state_start"},
    SiteRow{Site::State, true, "mixer.hook_state"},
    SiteRow{Site::Map, true, "mixer.hook_map"},
    SiteRow{Site::Y, true, "mixer.hook_y"},
    SiteRow{Site::SsmOut, true, "mixer.hook_ssm_out"},
    SiteRow{Site::MixerZ, true, "mixer.hook_z"},
    SiteRow{Site::MixerOut, true, "mixer.hook_out"},
};
static_assert(kSites.size() == static_cast<size_t>(Site::kCount));

const SiteRow& row_of(Site site) {
  return kSites[static_cast<size_t>(site)];
}

/// Counts writes into a tensor; inference tensors do not count.
int64_t version_of(const Tensor& x) {
  return x.is_inference() ? 0 : x._version();
}

std::optional<TapPoint> find_site(std::string_view name, bool in_layer, int64_t layer) {
  for (const SiteRow& row : kSites) {
    if (row.in_layer == in_layer && row.name == name) return TapPoint{row.site, layer};
  }
  return std::nullopt;
}

}  // namespace

Tensor LayerTap::operator()(Site site, Tensor value) const {
  if (!wants(site)) return value;
  const TapPoint point{site, layer_};
  const int64_t version = version_of(value);
  Tensor seen = tap_->visit(point, value);
  HEADLENS_CHECK(HookError, version_of(value) == version,
                 "[{}] the tap wrote into the tensor, expected it to return another",
                 site_name(point));
  HEADLENS_CHECK(HookError, seen.defined(), "[{}] the tap returned no tensor", site_name(point));
  HEADLENS_CHECK(ShapeError, seen.sizes() == value.sizes(),
                 "[{}] shape after the tap, expected {}, got {}", site_name(point),
                 shape_string(value.sizes()), shape_string(seen.sizes()));
  HEADLENS_CHECK(HookError, seen.is_same(value) || !site_is_read_only(site),
                 "[{}] this site can only be read, expected the tensor that was given, got another",
                 site_name(point));
  return seen.to(value.options());
}

bool wants_any(const Tap* tap, int64_t layer) {
  for (int site = 0; tap != nullptr && site < static_cast<int>(Site::kCount); ++site) {
    const TapPoint point{static_cast<Site>(site), layer};
    if (tap->wants(point) || tap->wants_map(point)) return true;
  }
  return false;
}

bool site_is_read_only(Site site) {
  return site == Site::State || site == Site::ABar || site == Site::BBar;
}

std::string site_name(TapPoint point) {
  const SiteRow& row = row_of(point.site);
  return row.in_layer ? fmt::format("blocks.{}.{}", point.layer, row.name) : std::string(row.name);
}

std::optional<TapPoint> parse_site_name(std::string_view name) {
  if (!name.starts_with(kBlocks)) return find_site(name, /*in_layer=*/false, -1);
  const std::string_view rest = name.substr(kBlocks.size());
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const std::string_view tail = rest.substr(static_cast<size_t>(end - rest.data()));
  if (error != std::errc() || layer < 0 || !tail.starts_with('.')) return std::nullopt;
  const auto point = find_site(tail.substr(1), /*in_layer=*/true, layer);
  // "blocks.07.": a number with another spelling is not the canonical name.
  return point && site_name(*point) == name ? point : std::nullopt;
}

}  // namespace headlens
