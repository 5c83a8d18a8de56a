// headlens/hooks: names of sites: canonical, TransformerLens's, MambaLens's, and globs over them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"
#include "headlens/model/site.h"

namespace headlens {

/// How the tensor of an asked name follows from the tensor of its site.
enum class SiteView : uint8_t {
  Whole,           ///< the site's own tensor
  Position,        ///< hook_h.{pos}: one position, [batch, pos, ..] -> [batch, ..]
  Flat,            ///< [batch, pos, head, d_head] -> [batch, pos, d_inner]
  HeadCopies,      ///< [batch, pos, d_model] -> [batch, pos, head, d_model]; read only
  BranchInput,     ///< the residual as one branch reads it; read only: an edit would change both
  Transposed,      ///< [batch, pos, channel, ..] -> [batch, channel, pos, ..]
  BeforeSoftplus,  ///< dt before the softplus and after its bias: softplus^-1(dt)
};

/// A site under the name it was asked by.
struct NamedSite {
  std::string name;                 ///< the canonical name, or the alias that was asked for
  TapPoint point;                   ///< site and layer
  SiteView view = SiteView::Whole;  ///< how the tensor is shown
  int64_t extra = 0;                ///< Position: which one; HeadCopies: how many
  bool operator==(const NamedSite&) const = default;
};

/// The sites a pattern names in this model, in the order a forward fires them.
///
/// A pattern is a canonical name, an alias (docs/sites.md), or a glob over either: `*`, `?`,
/// `[0-3]`, `{a,b}`. In `blocks.LAYER.REST`, LAYER is matched against the number alone and REST
/// against the whole rest (`*` takes dots). A glob that matches canonical names does not match
/// aliases too. HookError for a pattern that names nothing here: it says whether the name is
/// unknown (with the nearest known one), has no equivalent, or exists only in other kinds of
/// layers.
std::vector<NamedSite> resolve_names(std::string_view pattern, const ModelConfig& config);

/// The same without the names; every point once. HookError as above.
std::vector<TapPoint> resolve_sites(std::string_view pattern, const ModelConfig& config);

/// True where the view can be edited and the edit be carried back to the site.
bool view_is_editable(SiteView view);
/// The site's tensor as `named` shows it. HookError for a Position past the forward's last one.
Tensor view_site(const NamedSite& named, const Tensor& value);
/// The site's tensor after its view was edited: undoes `view_site`. HookError if it cannot be.
Tensor unview_site(const NamedSite& named, const Tensor& value, const Tensor& edited);

/// An alias and what it stands for, for docs and listings; "{i}" is a layer, "{pos}" a position.
struct SiteAlias {
  std::string alias;                ///< "blocks.{i}.hook_delta"
  std::string canonical;            ///< "blocks.{i}.mixer.hook_dt"
  SiteView view = SiteView::Whole;  ///< how the alias shows the site
};
/// Every alias there is, MambaLens's and TransformerLens's (docs/sites.md).
std::vector<SiteAlias> site_aliases();

}  // namespace headlens
