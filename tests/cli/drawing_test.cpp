// headlens/tests: drawings of models.
#include "cli/drawing.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "cli/command_tools.h"
#include "headlens/model/families.h"

namespace headlens::cli {
namespace {

ModelConfig config_of(const std::string& golden) {
  const auto path = testing::kGoldens / golden / "config.json";
  return parse_model_config(testing::read_file(path), path.string());
}

TEST(Drawing, ALlama) {
  EXPECT_EQ(model_drawing(config_of("llama"), /*unicode=*/false), R"(    tokens
    |
    embed                        97 tokens, 36 wide
    |
  layers 0-2 (x 3)
    +------.
    |    RMSNorm
    |    attention                    4 heads of 12, 2 key/value heads for 2 queries each, rotary
    +<-----'
    +------.
    |    RMSNorm
    |    MLP                          gated, 52 wide, back to 36
    +<-----'
    |
    RMSNorm
    |
    unembed                      a matrix of its own
    |
    logits
)");
}

/// How often `what` stands in the drawing.
int count(const std::string& text, const std::string& what) {
  int found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(Drawing, EachWiringHasItsOwnShape) {
  const std::string parallel = model_drawing(config_of("gpt_neox"), false);
  EXPECT_EQ(count(parallel, "+------+-----------------."), 1);  // both branches leave at once
  EXPECT_EQ(count(parallel, "+<-----"), 1);                     // and are added at once
  EXPECT_NE(parallel.find("attention         MLP"), std::string::npos) << parallel;
  const std::string mixers = model_drawing(config_of("falcon_h1"), false);
  EXPECT_EQ(count(mixers, "|      +-----------------."), 1);  // one norm, then two mixers
  EXPECT_NE(mixers.find("mamba2            attention"), std::string::npos) << mixers;
  const std::string sandwich = model_drawing(config_of("gemma2"), false);
  EXPECT_NE(sandwich.find("window"), std::string::npos);
  EXPECT_GE(count(sandwich, "RMSNorm"), 5) << sandwich;  // four in a layer, one at the end
  const std::string post = model_drawing(config_of("olmo2"), false);
  EXPECT_LT(post.find("attention"), post.find("RMSNorm")) << post;
  EXPECT_NE(model_drawing(config_of("gpt2"), false).find("plus learned positions"),
            std::string::npos);
}

TEST(Drawing, AHybridShowsItsPattern) {
  const ModelConfig bamba = config_of("bamba");
  EXPECT_EQ(layer_strip(bamba), "MAM");
  const std::string text = model_drawing(bamba, false);
  EXPECT_NE(text.find("    layers MAM\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  layers 0, 2 (x 2)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  layer 1 (x 1)\n"), std::string::npos) << text;
  EXPECT_EQ(layer_strip(config_of("zamba2")), "MBBMBMB");
  const std::string shared = model_drawing(config_of("zamba2"), false);
  EXPECT_NE(shared.find("concat"), std::string::npos);
  EXPECT_LT(shared.find("linear"), shared.rfind("mamba2")) << shared;
}

TEST(Drawing, EveryFamilyHasLinesAndAscii) {
  for (const auto& entry : std::filesystem::directory_iterator(testing::kGoldens)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const ModelConfig config = config_of(entry.path().filename());
    const std::string ascii = model_drawing(config, false), lines = model_drawing(config, true);
    for (const char c : ascii) EXPECT_TRUE(c == '\n' || (c >= ' ' && c < 127)) << entry.path();
    EXPECT_NE(lines.find("│"), std::string::npos);
    EXPECT_EQ(count(ascii, "\n"), count(lines, "\n"));
    size_t drawn = 0;
    for (const AlikeLayers& group : alike_layers(config, false)) drawn += group.layers.size();
    EXPECT_EQ(drawn, config.layers.size()) << entry.path();
  }
}

}  // namespace
}  // namespace headlens::cli
