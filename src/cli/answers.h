// headlens/cli: the tokens that tell an example's answer.
#pragma once

#include <vector>

#include "headlens/analysis/self_repair.h"
#include "headlens/tasks/types.h"

namespace headlens::cli {

/// The first tokens of the choices; those that begin as the right one does are left out.
std::vector<AnswerTokens> answers_of(const std::vector<TokenizedExample>& examples);

}  // namespace headlens::cli
