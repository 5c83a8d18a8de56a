// headlens/tests: made-up results that look like real ones, for tests and pictures of the report.
#pragma once

#include <string>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/types.h"

namespace headlens::testing {

/// What scores.json, scores.csv and report.html are made from.
struct SampleReport {
  FindResult result;
  TaskInfo task;
  Manifest manifest;
};

/// `layers` x `heads` of attention, one Gather head in the middle, two Aggregate heads after it,
/// over a key-value prompt of `pairs` pairs.
SampleReport sample_transformer(int64_t layers, int64_t heads, int64_t pairs);

/// Twelve layers that mix Mamba-2, attention and MLPs, which have no heads; the circuit is in
/// attention.
SampleReport sample_hybrid();

/// Four layers of channel groups with one group refined down to single channels; signed, smooth
/// maps.
SampleReport sample_mamba1();

}  // namespace headlens::testing
