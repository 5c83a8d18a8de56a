// headlens/hooks: the table of other libraries' names for our sites.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "headlens/hooks/hook_name.h"
#include "headlens/model/config.h"
#include "headlens/model/site.h"

namespace headlens {

/// Layers in which an alias means its site; elsewhere the name does not exist.
enum class AliasScope : uint8_t {
  WholeModel,
  AnyLayer,          // wherever the site exists
  Mamba1,            // only there does the site hold what the name says
  GatedNorms,        // Mamba-2, unless made without its gated norm
  SsdKinds,          // Mamba-2 and DiscreteMamba2
  MlpReadsResidPre,  // a block without a mixer, or its mixer beside the MLP (GPT-NeoX)
  NormsResidPre,     // norms read the residual before mixer and MLP (not OLMo-2, nor shared blocks)
  NoPostNorm,        // the residual gets what mixer and MLP write as it is (not Gemma-2, OLMo-2)
  PostNormOnly,      // mixer and MLP read the residual as it is (OLMo-2)
  SharedBlocks,      // attention and MLP feed the mixer (Zamba2)
  NotShared,
  GatedMlp,
  PlainMlp,
};

struct AliasRow {
  std::string_view alias;  // after "blocks.{i}." unless WholeModel
  Site site;
  AliasScope scope = AliasScope::AnyLayer;
  SiteView view = SiteView::Whole;
};
std::span<const AliasRow> alias_table();

/// Does `layer` give the alias its meaning? (That it has the site must be seen to apart.)
bool alias_fits(AliasScope scope, const LayerSpec& layer);

/// A name other libraries have and this one has no single tensor for, with what to ask for instead.
struct UnmatchedName {
  std::string_view name;  // a glob, after "blocks.{i}." where it stands in a block
  std::string_view instead;
};
std::span<const UnmatchedName> unmatched_names();

}  // namespace headlens
