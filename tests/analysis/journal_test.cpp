// headlens/tests: journals against what was put into them, cut at every byte.
#include "headlens/analysis/journal.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/log.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;
using Existing = Journal::Existing;

const RunIdentity kIdentity = {{"model", "1f"}, {"task", "kv:pairs=4"}};

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() { set_log_level(LogLevel::Warn); }  // cut ends are told, and expected here
  ~JournalTest() override { set_log_level(LogLevel::Info); }

  Journal open(Existing existing = Existing::Resume, const RunIdentity& identity = kIdentity) {
    return Journal::open(path_, identity, {{"started", "once"}}, existing);
  }
  std::string bytes() const {
    std::stringstream text;
    text << std::ifstream(path_, std::ios::binary).rdbuf();
    return text.str();
  }
  void write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }

  TempDir dir_;
  const std::filesystem::path path_ = dir_.path() / "x.journal";
};

// Values of zlib's and PNG's CRC-32; the first is the algorithm's published check value.
TEST(ChecksumText, IsCrc32) {
  EXPECT_EQ(checksum_text("123456789"), "cbf43926");
  EXPECT_EQ(checksum_text(""), "00000000");
}

TEST_F(JournalTest, HoldsWhatWasPutIntoIt) {
  const std::string every_byte = [] {
    std::string all;
    for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
    return all;
  }();
  {
    Journal journal = open(Existing::Refuse);
    journal.append("a", every_byte);
    journal.append("", "of no name");
    journal.append("empty", "");
    journal.append("a", "a second time: not taken");
  }
  Journal again = open();
  EXPECT_EQ(again.size(), 3u);
  ASSERT_NE(again.find("a"), nullptr);
  EXPECT_EQ(*again.find("a"), every_byte);
  EXPECT_EQ(*again.find(""), "of no name");
  EXPECT_EQ(*again.find("empty"), "");
  EXPECT_EQ(again.find("b"), nullptr);
  again.remove();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// Whatever a kill leaves of the last record: the records before it stand, it is done again, and
// the file is then as if nothing had happened.
TEST_F(JournalTest, CutsAnEndThatIsNotWhole) {
  {
    Journal journal = open();
    journal.append("one", "1111");
  }
  const std::string one = bytes();
  {
    Journal journal = open();
    journal.append("two", "2222");
  }
  const std::string two = bytes();
  for (size_t size = one.size(); size < two.size(); ++size) {
    write(two.substr(0, size));
    Journal journal = open();
    ASSERT_EQ(journal.size(), 1u) << size << " bytes";
    EXPECT_EQ(*journal.find("one"), "1111");
    EXPECT_EQ(bytes(), one);
    journal.append("two", "2222");
    EXPECT_EQ(bytes(), two);
  }
}

// A bit that the disk lost: that record and what follows it is done again.
TEST_F(JournalTest, TrustsNoRecordWithAChangedByte) {
  {
    Journal journal = open();
    journal.append("one", "1111");
  }
  const std::string one = bytes();
  {
    Journal journal = open();
    journal.append("two", "2222");
    journal.append("three", "3333");
  }
  const std::string all = bytes();
  const size_t second = one.size() + 12 + 3 + 4;  // the end of "two"
  for (size_t at = one.size(); at < second; ++at) {
    std::string changed = all;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    write(changed);
    EXPECT_EQ(open().size(), 1u) << "byte " << at;
  }
}

TEST_F(JournalTest, RefusesAnotherRun) {
  open().append("one", "1111");
  const std::string before = bytes();
  const auto message = [&](const RunIdentity& identity) {
    return error_message<UsageError>([&] { open(Existing::Resume, identity); });
  };
  EXPECT_EQ(message({{"model", "20"}, {"task", "kv:pairs=4"}}),
            "[resume] " + path_.string() + " is of another run: model, expected '1f', got '20'");
  EXPECT_EQ(message({{"model", "1f"}}), "[resume] " + path_.string() +
                                            " is of another run: task, expected 'kv:pairs=4', got "
                                            "'nothing'");
  RunIdentity more = kIdentity;
  more.emplace_back("mode", "mean");
  EXPECT_EQ(message(more), "[resume] " + path_.string() +
                               " is of another run: mode, expected 'nothing', got 'mean'");
  EXPECT_EQ(bytes(), before);
}

TEST_F(JournalTest, IsNotBegunAnewUnasked) {
  open();
  EXPECT_EQ(error_message<UsageError>([&] { open(Existing::Refuse); }),
            "[resume] " + path_.string() +
                ", expected --resume to go on with an unfinished run (or the file removed), got "
                "neither");
}

TEST_F(JournalTest, KeepsTheNotesOfItsBeginning) {
  open();
  const Journal again = Journal::open(path_, kIdentity, {{"started", "twice"}}, Existing::Resume);
  EXPECT_EQ(again.notes().at("started"), "once");
}

TEST_F(JournalTest, IsWrittenByOneRunAtATime) {
  const Journal journal = open();
  EXPECT_NE(error_message<Error>([&] { open(); }).find("expected no other run to write it"),
            std::string::npos);
}

TEST_F(JournalTest, RefusesOtherFiles) {
  for (const char* text :
       {"", "{}", "headlens.journal/1\n", "headlens.journal/1\nabcdefghijklmnop"}) {
    write(text);
    EXPECT_NE(error_message<Error>([&] { open(); }).find("expected a journal of a run"),
              std::string::npos)
        << text;
    EXPECT_EQ(bytes(), text);
  }
}

// The checksums of a file made by somebody else are right.
TEST_F(JournalTest, RefusesAHeaderOfOtherKinds) {
  for (const char* header :
       {"[]", "{}", R"({"identity": {"model": 1}, "notes": {}})",
        R"({"identity": [], "notes": {}})", R"({"identity": {"model": "m"}, "notes": {"a": []}})",
        R"({"identity": {}, "notes": 1})"}) {
    const std::string lengths = {0, 0, 0, 0, static_cast<char>(std::strlen(header)), 0, 0, 0};
    const std::string body = lengths + header;
    const uint32_t crc = static_cast<uint32_t>(std::stoul(checksum_text(body), nullptr, 16));
    write("headlens.journal/1\n" + std::string(reinterpret_cast<const char*>(&crc), 4) + body);
    EXPECT_NE(error_message<Error>([&] { open(); }).find("expected identity and notes, all texts"),
              std::string::npos)
        << header;
  }
}

// A path need not be UTF-8, and JSON must be: the identity is compared as it was written.
TEST_F(JournalTest, TakesBytesThatAreNoText) {
  const RunIdentity odd = {{"task", "jsonl:\xff.jsonl"}};
  open(Existing::Resume, odd);
  EXPECT_EQ(open(Existing::Resume, odd).size(), 0u);
}

}  // namespace
}  // namespace headlens
