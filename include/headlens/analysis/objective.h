// headlens/analysis: moved. `tasks` implements, and includes, headlens/model/objective.h (tasks may not include analysis).
#pragma once
#include "headlens/model/objective.h"
