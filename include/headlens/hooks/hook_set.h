// headlens/hooks: callbacks at named sites, alive as long as their scope.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/hooks/hook_name.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/config.h"
#include "headlens/model/head_map.h"
#include "headlens/model/site.h"

namespace headlens {

/// Sees the tensor of a site and returns what the forward goes on with: the same tensor, or a new
/// one of the same shape. It must not write into the one it is given (sites may share storage).
using TensorHook = std::function<Tensor(TapPoint, Tensor)>;
/// Sees the map of a layer as a handle: reads rows, reduces, edits.
using MapHook = std::function<void(TapPoint, HeadMap&)>;

/// Names one hook of a set.
struct HookHandle {
  int64_t id = -1;  ///< -1: no hook
  bool operator==(const HookHandle&) const = default;
};

/// Hooks on one model's sites, called in the order they were added. The model is not changed: the
/// set is passed to a forward as its tap. Not for use by two forwards at once.
class HookSet final : public Tap {
  struct State;

 public:
  /// Removes, when it ends, exactly the hooks that were added while it was the innermost open
  /// scope. Scopes nest, and may outlive the set.
  class Scope {
   public:
    /// The one moved from ends without removing anything.
    Scope(Scope&& other) noexcept;
    Scope& operator=(Scope&&) = delete;
    ~Scope() { close(); }
    /// Ends the scope now.
    void close();
    /// As HookSet::check_all_fired, for the hooks of this scope only.
    void check_all_fired() const;

   private:
    friend class HookSet;
    Scope(std::weak_ptr<State> state, int64_t id) : state_(std::move(state)), id_(id) {}
    std::weak_ptr<State> state_;
    int64_t id_;
  };

  /// For forwards of a model of this config.
  explicit HookSet(const ModelConfig& config);
  ~HookSet() override;
  HookSet(const HookSet&) = delete;
  HookSet& operator=(const HookSet&) = delete;

  /// Adds a hook at every site `pattern` names (hook_name.h); an alias that is a view hands the
  /// hook the view. HookError if it names nothing here.
  HookHandle add(std::string_view pattern, TensorHook hook);
  /// Adds a hook on the map handles among the sites `pattern` names. HookError if there are none.
  HookHandle add_map(std::string_view pattern, MapHook hook);
  /// Adds an intervention; `check_all_fired` then includes its `check_touched`.
  HookHandle add(std::shared_ptr<Intervention> intervention);
  /// HookError for a hook that is not there (any more).
  void remove(HookHandle handle);
  /// Opens a scope: hooks added from here on end with it.
  [[nodiscard]] Scope scope();

  size_t size() const;  ///< hooks and interventions
  /// Calls of a hook since it was added or counts were reset; of all its sites, or of one.
  int64_t fired(HookHandle handle) const;
  /// At one site.
  int64_t fired(HookHandle handle, TapPoint point) const;
  void reset_counts();  ///< as if nothing had fired yet
  /// HookError naming each hook and site of it that has not fired, and interventions that touched
  /// nothing.
  void check_all_fired() const;

  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;
  bool wants_map(TapPoint point) const override;
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  std::shared_ptr<State> state_;
};

/// Several taps as one: each sees what the one before returned. The taps must outlive the chain.
class TapChain final : public Tap {
 public:
  /// In the order they are called; null ones are left out.
  explicit TapChain(std::vector<Tap*> taps);

  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;
  bool wants_map(TapPoint point) const override;
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  std::vector<Tap*> taps_;
};

}  // namespace headlens
