// headlens/analysis: work items done once each, in this process.
#include "headlens/analysis/work_pool.h"

#include "core/check.h"
#include "headlens/core/log.h"

namespace headlens {
namespace {

class LocalPool final : public WorkPool {
 public:
  /// A run that fails before anything is finished leaves nothing to go on with.
  ~LocalPool() override {
    if (!journal_ || journal_->size() > 0) return;
    try {
      journal_->remove();
    } catch (const Error& e) {
      log_warn(e.what());
    }
  }

  void start(const RunIdentity&, std::optional<Journal> journal) override {
    journal_ = std::move(journal);
  }

  std::vector<std::string> run(const std::vector<std::string>& keys, const Compute& compute,
                               const Progress& progress) override {
    std::vector<std::string> results;
    if (progress) progress(0, std::ssize(keys));  // starts its clock
    for (size_t i = 0; i < keys.size(); ++i) {
      const std::string* known = journal_ ? journal_->find(keys[i]) : nullptr;
      results.push_back(known != nullptr ? *known : compute(i));
      if (journal_) journal_->append(keys[i], results.back());
      if (progress) progress(std::ssize(results), std::ssize(keys));
    }
    return results;
  }

  bool leads() const override { return true; }
  void finish() override {
    if (journal_) journal_->remove();
    journal_.reset();
  }

 private:
  std::optional<Journal> journal_;
};

}  // namespace

std::unique_ptr<WorkPool> make_local_pool() {
  return std::make_unique<LocalPool>();
}

}  // namespace headlens
