// headlens/tasks: comma-separated files.
#include "tasks/csv.h"

#include <algorithm>

#include "core/check.h"
#include "model/tokenizer_unicode.h"
#include "tasks/json_line.h"

namespace headlens {
namespace {

class CsvReader {
 public:
  explicit CsvReader(const std::filesystem::path& file) : name_(file.string()) {
    text_ = read_whole(file);
    const auto bad = find_invalid_utf8(text_);
    if (!bad) return;
    line_ += std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(*bad), '\n');
    HEADLENS_FAIL(TaskError, "[task] {} line {}: text, expected UTF-8, got other bytes", name_,
                  line_);
  }

  std::vector<CsvRecord> records() {
    std::vector<CsvRecord> out;
    while (at_ < text_.size()) {
      CsvRecord record;
      record.line = line_;
      do record.fields.push_back(at_ < text_.size() && text_[at_] == '"' ? quoted() : plain());
      while (take(','));
      take('\r');
      HEADLENS_CHECK(TaskError, at_ == text_.size() || take('\n'),
                     "[task] {} line {}: field, expected a comma after its closing quote, got '{}'",
                     name_, line_, text_[at_]);
      ++line_;
      const bool blank = record.fields.size() == 1 && record.fields[0].empty();
      if (!blank) out.push_back(std::move(record));
    }
    return out;
  }

 private:
  bool take(char c) {
    const bool here = at_ < text_.size() && text_[at_] == c;
    at_ += here ? 1 : 0;
    return here;
  }

  std::string plain() {
    const size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    std::string field = text_.substr(at_, end - at_);
    at_ = end;
    if (field.ends_with('\r') && !(at_ < text_.size() && text_[at_] == ',')) field.pop_back();
    return field;
  }

  std::string quoted() {
    const int64_t opened = line_;
    ++at_;
    std::string field;
    while (true) {
      const size_t quote = text_.find('"', at_);
      HEADLENS_CHECK(TaskError, quote != std::string::npos,
                     "[task] {} line {}: field, expected a closing quote, got none", name_, opened);
      field += text_.substr(at_, quote - at_);
      line_ += std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                          text_.begin() + static_cast<std::ptrdiff_t>(quote), '\n');
      at_ = quote + 1;
      if (!take('"')) return field;
      field += '"';
    }
  }

  std::string name_;
  std::string text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRecord> read_csv(const std::filesystem::path& file) {
  return CsvReader(file).records();
}

}  // namespace headlens
