// headlens/cli: the study's claims, each an experiment that ends in figures and a verdict.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/study.h"
#include "headlens/analysis/types.h"

namespace headlens::cli {

enum class Verdict { Holds, DoesNotHold, NotRun };

/// One measured figure; `paper` is what the study has in its place (arXiv 2504.18574), if anything.
struct Figure {
  std::string what;
  Estimate ours;
  std::string paper = {};
};

/// How a claim came out on one model.
struct Outcome {
  std::string model;
  Verdict verdict = Verdict::NotRun;
  std::string why = {};  // what decided, or why it was not run
  std::vector<Figure> figures = {};
  double seconds = 0;
  int64_t peak_bytes = 0;  // of memory, see peak_memory(); 0: no model was needed
};

/// A claim that the model says nothing of.
Outcome not_run(const std::string& model, std::string why);

/// A claim, what decides it, and what it takes to try it on the study's own models.
struct Claim {
  std::string id;
  std::string says;
  std::string rule;
  std::string checkpoint;  // the study's, or one of its kind
  Outcome (*run)(Study& study, const std::string& model);
};

const std::vector<Claim>& all_claims();

Outcome one_head_off(Study& study, const std::string& model);            // C1
Outcome minimal_model(Study& study, const std::string& model);           // C2
Outcome same_heads(Study& study, const std::string& model);              // C3
Outcome smoother_maps(Study& study, const std::string& model);           // C4
Outcome aggregate_in_attention(Study& study, const std::string& model);  // C5
Outcome grafts(Study& study, const std::string& model);                  // C6
Outcome dictionaries(Study& study, const std::string& model);            // C7

/// C7 against state size: dictionaries of every size on the models given that have a smaller state
/// and differ in nothing else: their configs are equal, and their embeddings began alike.
std::vector<Figure> state_sizes(Study& study, const std::string& model);

}  // namespace headlens::cli
