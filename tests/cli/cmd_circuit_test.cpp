// headlens/tests: `circuit` on models of words and on the bundled hybrid.
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::model_with_words;
using testing::read_file;
using testing::TempDir;
using testing::word_task;

class CircuitCommand : public ::testing::Test {
 protected:
  Called run(const std::string& family, std::vector<std::string> more) const {
    const std::string model = model_with_words(dir_, family).string();
    std::vector<std::string> words = {"circuit", model,   "--task", "jsonl:" + task_,
                                      "--quiet", "--out", out()};
    words.insert(words.end(), more.begin(), more.end());
    return headlens(words);
  }
  std::string out() const { return (dir_.path() / "circuit.json").string(); }

  TempDir dir_;
  std::string task_ = word_task(dir_, 12).string();
};

TEST_F(CircuitCommand, WritesAllThreePartsForEveryKindOfModel) {
  for (const char* family : {"llama", "falcon_mamba", "mamba2", "llamba", "jamba", "falcon_h1"}) {
    SCOPED_TRACE(family);
    const Called called = run(family, {"--pairs", "--self-repair", "--candidates", "4", "--groups",
                                       "2", "--positions", "segments", "--json"});
    ASSERT_EQ(called.status, 0) << called.err;
    const Json found = called.json();
    EXPECT_EQ(found, Json::parse(read_file(out())));
    EXPECT_EQ(found["schema"], "headlens.circuit/1");
    EXPECT_FALSE(found.contains("minimal"));
    EXPECT_EQ(found["self_repair"].size(), 4u);
    for (const Json& pair : found["pairs"]["pairs"]) {
      EXPECT_LT(pair["sender"][0], pair["receiver"][0]);
      EXPECT_LE(pair["direct"]["logprob_drop_ci"][0], pair["direct"]["logprob_drop"]);
      EXPECT_GE(pair["total"]["logprob_drop_ci"][1], pair["total"]["logprob_drop"]);
    }
    for (const Json& repair : found["self_repair"]) {
      const double parts = repair["own"].get<double>() + repair["heads"].get<double>() +
                           repair["mlps"].get<double>() + repair["norm"].get<double>();
      EXPECT_NEAR(parts, repair["total"].get<double>(), 1e-3);  // float32
    }
  }
}

TEST_F(CircuitCommand, SaysWhatIsWrong) {
  const auto wrong = [&](const std::string& family, const std::vector<std::string>& more) {
    const Called called = run(family, more);
    EXPECT_EQ(called.status, 2);
    return called.err;
  };
  EXPECT_EQ(
      wrong("llama", {"--measure", "speed"}),
      "headlens: error: [circuit] --measure, expected one of accuracy, logprob, got 'speed'\n");
  EXPECT_EQ(wrong("llama", {"--inputs", "keys"}),
            "headlens: error: [circuit] --inputs, expected one of all, keys_values, queries, got "
            "'keys'\n");
  EXPECT_EQ(wrong("llama", {"--share", "2"}),
            "headlens: error: [circuit] --share and --break-share, expected 0 to 1, got 2\n");
  EXPECT_EQ(wrong("llama", {"--heads", "1.9"}),
            "headlens: error: [heads] 1.9, expected a head from 0 to 3 in layer 1, got 9\n");
  EXPECT_EQ(wrong("llama", {"--pairs", "--heads", "1.0,1.1"}),
            "headlens: error: [pairs] receivers, expected one in a layer behind a sender's, got "
            "none\n");
  EXPECT_EQ(wrong("llama", {"--senders", "0.1"}),
            "headlens: error: [circuit] --senders and --receivers, expected --pairs with them, got "
            "none\n");
  EXPECT_EQ(wrong("llama", {"--pairs", "--senders", "0.1", "--receivers", "7.0"}),
            "headlens: error: [heads] 7.0, expected a layer from 0 to 2, got 7\n");
  EXPECT_EQ(wrong("gemma2", {"--self-repair", "--heads", "1.0,1.1"}),
            "headlens: error: [self_repair] layer 0, expected heads that write straight to the "
            "residual, got a norm between\n");
}

const Json& pair_of(const Json& found, const Json& sender, const Json& receiver) {
  const Json& pairs = found["pairs"]["pairs"];
  const auto at = std::find_if(pairs.begin(), pairs.end(), [&](const Json& pair) {
    return pair["sender"] == sender && pair["receiver"] == receiver;
  });
  EXPECT_NE(at, pairs.end());
  return *at;
}

// The study's pair in the bundled hybrid: what the Aggregate head 3.3 does rests on what the Gather
// head 1.0 left in the options, and more of it than on any other head of that layer. The small
// set that carries letters has both.
TEST(CircuitOfTheHybrid, TheAggregateHeadReadsWhatTheGatherHeadLeft) {
  const Called called =
      headlens({"circuit", "zoo:hybrid", "--task", "mcq:options=4,n=64", "--seed", "3", "--quiet",
                "--json", "--pairs", "--positions", "segments", "--heads", "1.0,1.1,1.2,1.3,3.3"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = called.json();
  const Json total = pair_of(found, {1, 0}, {3, 3})["total"];
  EXPECT_GT(total["logprob_drop_ci"][0], 0.0);
  ASSERT_TRUE(total.contains("share_of_receiver"));
  EXPECT_GT(total["share_of_receiver_ci"][0], 0.25);
  for (const int other : {1, 2, 3}) {
    EXPECT_LT(pair_of(found, {1, other}, {3, 3})["total"]["logprob_drop_ci"][1],
              total["logprob_drop_ci"][0]);
  }
}

// One pair named by itself, and what the sender's own write does to the logits: of a Gather head,
// next to nothing.
TEST(CircuitOfTheHybrid, NamesItsSendersAndReceivers) {
  const Called called = headlens({"circuit", "zoo:hybrid", "--task", "mcq:options=4,n=16", "--seed",
                                  "3", "--quiet", "--json", "--pairs", "--positions", "all",
                                  "--senders", "1.0,3.3", "--receivers", "3.3"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = called.json()["pairs"];
  ASSERT_EQ(found["pairs"].size(), 1u);
  EXPECT_EQ(found["pairs"][0]["sender"], Json({1, 0}));
  EXPECT_EQ(found["pairs"][0]["receiver"], Json({3, 3}));
  ASSERT_EQ(found["answers"].size(), 2u);
  const auto drop = [&](size_t i) {
    return found["answers"][i]["direct"]["logprob_drop"].get<double>();
  };
  EXPECT_LT(std::abs(drop(0)), 0.1);
  EXPECT_GT(drop(1), std::abs(drop(0)));  // the Aggregate head writes the answer
}

}  // namespace
}  // namespace headlens
