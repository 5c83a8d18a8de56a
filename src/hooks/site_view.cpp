// headlens/hooks: tensors of sites as other libraries' names show them.
#include <ATen/ATen.h>

#include "core/check.h"
#include "headlens/hooks/hook_name.h"

namespace headlens {
namespace {

/// x with dt = softplus(x): x = dt + ln(1 - e^-dt), without cancellation for small or large dt.
Tensor inverse_softplus(const Tensor& dt) {
  return dt + at::log(-at::expm1(-dt));
}

void check_position(const NamedSite& named, const Tensor& value) {
  HEADLENS_CHECK(HookError, named.extra < value.size(1),
                 "[hooks] position of '{}', expected 0 to {}, got {}", named.name,
                 value.size(1) - 1, named.extra);
}

}  // namespace

bool view_is_editable(SiteView view) {
  return view != SiteView::HeadCopies && view != SiteView::BranchInput;
}

Tensor view_site(const NamedSite& named, const Tensor& value) {
  switch (named.view) {
    case SiteView::Whole:
    case SiteView::BranchInput:
      return value;
    case SiteView::Position:
      check_position(named, value);
      return value.select(1, named.extra);
    case SiteView::Flat:
      return value.flatten(2);
    case SiteView::HeadCopies:
      return value.unsqueeze(2).expand({-1, -1, named.extra, -1});
    case SiteView::Transposed:
      return value.transpose(1, 2);
    case SiteView::BeforeSoftplus:
      return inverse_softplus(value);
  }
  return value;
}

Tensor unview_site(const NamedSite& named, const Tensor& value, const Tensor& edited) {
  HEADLENS_CHECK(HookError, view_is_editable(named.view),
                 "[hooks] '{}', expected a site that can be edited, got a copy of {}", named.name,
                 site_name(named.point));
  const Tensor shown = view_site(named, value);
  HEADLENS_CHECK(ShapeError, edited.defined() && edited.sizes() == shown.sizes(),
                 "[hooks] shape of '{}' after its hook, expected {}, got {}", named.name,
                 shape_string(shown.sizes()),
                 edited.defined() ? shape_string(edited.sizes()) : "no tensor");
  switch (named.view) {
    case SiteView::Position: {
      std::vector<Tensor> parts = value.unbind(1);
      parts[static_cast<size_t>(named.extra)] = edited;
      return at::stack(parts, 1);
    }
    case SiteView::Flat:
      return edited.reshape(value.sizes());
    case SiteView::Transposed:
      return edited.transpose(1, 2);
    case SiteView::BeforeSoftplus:
      return at::softplus(edited);
    default:
      return edited;
  }
}

}  // namespace headlens
