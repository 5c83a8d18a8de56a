// headlens/tests: strict reading of JSON.
#include "core/json_fields.h"

#include <cmath>

#include "error_message.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

JsonFields fields(const char* text) {
  return JsonFields(parse_json(text, "t"), "config.json");
}

template <typename T>
std::string required_error(const char* text, const char* key) {
  return error_message<ConfigError>([&] { fields(text).required<T>(key); });
}

TEST(ParseJson, SaysWhereTheSyntaxErrorIs) {
  const std::string message =
      error_message<ConfigError>([] { parse_json("{\n  \"a\": 1,\n  \"b\": x\n}", "c.json"); });
  EXPECT_TRUE(message.starts_with("[c.json:3:8] text, expected valid JSON, got syntax error"))
      << message;
}

TEST(ParseJson, CountsColumnsInTheOriginalAfterAFloatName) {
  const std::string message =
      error_message<ConfigError>([] { parse_json("[Infinity, -Infinity, x]", "c.json"); });
  EXPECT_TRUE(message.starts_with("[c.json:1:23] ")) << message;
}

TEST(ParseJson, RefusesDuplicateKeysAtAnyDepth) {
  EXPECT_EQ(error_message<ConfigError>([] { parse_json(R"({"a": 1, "a": 1})", "c"); }),
            "[c] text, expected valid JSON, got duplicate key 'a'");
  EXPECT_EQ(
      error_message<ConfigError>([] { parse_json(R"([{"x": {"k": 1, "\u006b": 2}}])", "c"); }),
      "[c] text, expected valid JSON, got duplicate key 'k'");
}

TEST(ParseJson, RefusesWhatIsNotOneJsonValue) {
  for (const char* text : {"", "   ", "{", "{}{}", "[1,]", "{\"a\" 1}", "nul", "\"\xff\"", "1e999",
                           "'a'", "\"\\", "Infinit", "[1] x"}) {
    EXPECT_THROW(parse_json(text, "c"), ConfigError) << text;
  }
}

TEST(ParseJson, RefusesDeepNestingInsteadOfOverflowingTheStack) {
  EXPECT_EQ(error_message<ConfigError>([] { parse_json(std::string(100000, '['), "c"); }),
            "[c] text, expected valid JSON, got nesting deeper than 200");
  EXPECT_NO_THROW(parse_json(std::string(200, '[') + std::string(200, ']'), "c"));
}

TEST(ParseJson, ReadsBothSpellingsOfInfinityAndNaN) {
  const auto value = parse_json(
      R"({"a": [0.0, Infinity, -Infinity], "b": NaN, "c": {"__float__": "Infinity"}, "s": "NaN"})",
      "c");
  EXPECT_EQ(value["a"][1].get<double>(), INFINITY);
  EXPECT_EQ(value["a"][2].get<double>(), -INFINITY);
  EXPECT_TRUE(std::isnan(value["b"].get<double>()));
  EXPECT_EQ(value["c"].get<double>(), INFINITY);
  EXPECT_EQ(value["s"], "NaN");
  EXPECT_EQ(parse_json(R"("\"Infinity")", "c"), "\"Infinity");
  EXPECT_EQ(
      error_message<ConfigError>([] { parse_json(R"({"__float__": 1})", "c"); }),
      "[c] text, expected valid JSON, got key '__float__', expected Infinity, -Infinity or NaN, "
      "got integer 1");
}

TEST(ReadJsonFile, NamesTheFile) {
  const TempDir dir;
  const auto path = dir.write("x.json", "{\"a\": }");
  EXPECT_TRUE(error_message<ConfigError>([&] {
                read_json_file(path);
              }).starts_with("[" + path.string() + ":1:7] text, expected valid JSON"));
  const auto missing = dir.path() / "none.json";
  EXPECT_EQ(error_message<ConfigError>([&] { read_json_file(missing); }),
            "[" + missing.string() + "] file, expected a readable one, got none");
  EXPECT_EQ(error_message<ConfigError>([&] { read_json_file(dir.path()); }),
            "[" + dir.path().string() + "] file, expected a readable one, got a directory");
  EXPECT_EQ(read_json_file(dir.write("y.json", "{\"a\": 1}"))["a"], 1);
}

TEST(JsonFields, ReadsEveryType) {
  const JsonFields f = fields(
      R"({"i": -3, "d": 1.5, "whole": 10000, "b": true, "s": "x", "v": [1, 2], "w": [1, 2.5],
          "names": ["a", "b"], "big": 9223372036854775807})");
  EXPECT_EQ(f.required<int64_t>("i"), -3);
  EXPECT_EQ(f.required<int>("i"), -3);
  EXPECT_EQ(f.required<double>("d"), 1.5);
  EXPECT_EQ(f.required<double>("whole"), 10000.0);
  EXPECT_TRUE(f.required<bool>("b"));
  EXPECT_EQ(f.required<std::string>("s"), "x");
  EXPECT_EQ(f.required<std::vector<int64_t>>("v"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(f.required<std::vector<double>>("w"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(f.required<std::vector<std::string>>("names"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(f.required<int64_t>("big"), INT64_MAX);
  EXPECT_TRUE(f.unread().empty());
}

TEST(JsonFields, NamesKeyTypeAndValueWhenTheTypeIsWrong) {
  EXPECT_EQ(required_error<int64_t>(R"({"hidden_size": "x"})", "hidden_size"),
            "[config.json] key 'hidden_size', expected integer, got string \"x\"");
  EXPECT_EQ(required_error<int64_t>(R"({"k": 1.0})", "k"),
            "[config.json] key 'k', expected integer, got number 1.0");
  EXPECT_EQ(required_error<int>(R"({"k": 3000000000})", "k"),
            "[config.json] key 'k', expected integer, got integer 3000000000");
  EXPECT_EQ(required_error<uint64_t>(R"({"k": -1})", "k"),
            "[config.json] key 'k', expected integer, got integer -1");
  EXPECT_EQ(required_error<int64_t>(R"({"k": 18446744073709551615})", "k"),
            "[config.json] key 'k', expected integer, got integer 18446744073709551615");
  EXPECT_EQ(required_error<bool>(R"({"k": 1})", "k"),
            "[config.json] key 'k', expected boolean, got integer 1");
  EXPECT_EQ(required_error<double>(R"({"k": [1]})", "k"),
            "[config.json] key 'k', expected number, got array [1]");
  EXPECT_EQ(required_error<std::vector<int64_t>>(R"({"k": [1, "x"]})", "k"),
            "[config.json] key 'k', expected array of integer, got array [1,\"x\"]");
  EXPECT_EQ(required_error<std::string>(R"({"k": null})", "k"),
            "[config.json] key 'k', expected string, got nothing");
  EXPECT_EQ(required_error<std::string>("{}", "k"),
            "[config.json] key 'k', expected string, got nothing");
}

TEST(JsonFields, TreatsNullAsAbsent) {
  const JsonFields f = fields(R"({"n": null, "x": 5})");
  EXPECT_FALSE(f.has("n"));
  EXPECT_FALSE(f.has("none"));
  EXPECT_TRUE(f.has("x"));
  EXPECT_EQ(f.find("n"), nullptr);
  EXPECT_EQ(f.optional<int64_t>("n", 7), 7);
  EXPECT_EQ(f.optional<int64_t>("x", 7), 5);
  EXPECT_EQ(f.optional<std::string>("none", "fallback"), "fallback");
  EXPECT_THROW(f.optional<std::string>("x", ""), ConfigError);
  EXPECT_TRUE(f.unread().empty());
}

TEST(JsonFields, RecordsWhatWasReadAcrossCopiesAndNestedObjects) {
  const JsonFields f =
      fields(R"({"a": 1, "b": 2, "rope": {"type": "x", "factor": 8}, "other": {"z": 1}, "q": 1})");
  const JsonFields copy = f;
  copy.required<int64_t>("a");
  f.ignore({"q", "never_there"});
  EXPECT_TRUE(f.has("b"));
  const JsonFields rope = f.object("rope");
  rope.required<std::string>("type");
  EXPECT_EQ(f.unread(), (std::vector<std::string>{"b", "other", "rope.factor"}));
  EXPECT_EQ(rope.unread(), (std::vector<std::string>{"factor"}));
  EXPECT_EQ(error_message<ConfigError>([&] { f.check_all_read(); }),
            "[config.json] keys, expected only known ones, got also b, other, rope.factor");
  EXPECT_EQ(error_message<ConfigError>([&] { rope.check_all_read(); }),
            "[config.json] keys, expected only known ones, got also rope.factor");
  f.find("b");
  f.find("other");
  rope.find("factor");
  EXPECT_NO_THROW(f.check_all_read());
}

TEST(JsonFields, NamesTheWholePathInNestedObjects) {
  const JsonFields f = fields(R"({"rope": {"inner": {"factor": "x"}}, "list": []})");
  EXPECT_EQ(error_message<ConfigError>(
                [&] { f.object("rope").object("inner").required<double>("factor"); }),
            "[config.json] key 'rope.inner.factor', expected number, got string \"x\"");
  EXPECT_EQ(error_message<ConfigError>([&] { f.object("list"); }),
            "[config.json] key 'list', expected object, got array []");
  EXPECT_EQ(error_message<ConfigError>([&] { f.object("none"); }),
            "[config.json] key 'none', expected object, got nothing");
}

TEST(JsonFields, OutlivesTheReaderItCameFrom) {
  const JsonFields inner = fields(R"({"a": {"b": "kept"}})").object("a");
  EXPECT_EQ(inner.required<std::string>("b"), "kept");
}

TEST(JsonFields, RefusesWhatIsNotAnObject) {
  EXPECT_EQ(error_message<ConfigError>([] { fields("[1, 2]"); }),
            "[config.json] value, expected a JSON object, got array [1,2]");
}

TEST(DescribeJson, CutsLongValues) {
  EXPECT_EQ(describe_json(std::string(100, 'x')), "string \"" + std::string(59, 'x') + "...");
}

}  // namespace
}  // namespace headlens
