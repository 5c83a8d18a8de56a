// headlens/hooks: recordings beyond a budget of memory: on the device, on the host, in a file.
#include "hooks/record_spill.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace headlens {
namespace {

int64_t round_up(int64_t bytes, int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

/// A file without a name: it is gone with the process, however that ends.
class RecordSpill::File {
 public:
  explicit File(std::filesystem::path folder) : folder_(std::move(folder)) {
    fd_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd_ < 0) {  // a file system that has no such files
      std::string name = (folder_ / "headlens-spill-XXXXXX").string();
      fd_ = ::mkostemp(name.data(), O_CLOEXEC);
      if (fd_ >= 0) ::unlink(name.c_str());
    }
    check(fd_ >= 0, "created");
  }
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Appends the bytes and maps them; the mapping lives as long as the tensor.
  Tensor keep(const Tensor& value) {
    Tensor host = value.cpu().contiguous();
    const auto bytes = static_cast<int64_t>(host.nbytes());
    if (bytes == 0) return host;
    write(static_cast<const char*>(host.const_data_ptr()), bytes);
    void* const at =
        ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd_, end_);
    check(at != MAP_FAILED, "mapped");
    end_ += round_up(bytes, ::sysconf(_SC_PAGESIZE));
    return at::from_blob(
        at, host.sizes(), [bytes](void* data) { ::munmap(data, static_cast<size_t>(bytes)); },
        host.options());
  }

 private:
  void write(const char* next, int64_t left) {
    for (int64_t at = end_; left > 0;) {
      const ssize_t written = ::pwrite(fd_, next, static_cast<size_t>(left), at);
      if (written < 0 && errno == EINTR) continue;
      check(written > 0, "written");
      next += written, at += written, left -= written;
    }
  }
  void check(bool done, const char* what) const {
    HEADLENS_CHECK(Error, done,
                   "[record] file for what memory cannot hold, in {}, expected to be {}, got {}",
                   folder_.string(), what, std::strerror(errno));
  }

  std::filesystem::path folder_;
  int fd_ = -1;
  int64_t end_ = 0;  // a multiple of the page size
};

RecordSpill::RecordSpill(RecordBudget budget) : budget_(std::move(budget)) {}

RecordSpill::~RecordSpill() = default;

RecordSpill::Tier RecordSpill::tier_for(bool on_device, int64_t bytes) const {
  const auto fits = [bytes](int64_t held, int64_t most) {
    return most < 0 || held + bytes <= most;
  };
  if (on_device && fits(device_, budget_.device_bytes)) return Tier::Device;
  return fits(host_, budget_.host_bytes) ? Tier::Host : Tier::File;
}

Tensor RecordSpill::place(const std::string& name, const Tensor& value) {
  const auto before = held_.find(name);
  if (before != held_.end()) {
    if (before->second.tier == Tier::Device) device_ -= before->second.bytes;
    if (before->second.tier == Tier::Host) host_ -= before->second.bytes;
    held_.erase(before);
  }
  const auto bytes = static_cast<int64_t>(value.nbytes());
  const Tier tier = tier_for(!value.is_cpu(), bytes);
  held_[name] = {tier, bytes};
  if (tier == Tier::Device) {
    device_ += bytes;
    return value;
  }
  if (tier == Tier::File) {
    if (!file_) file_ = std::make_shared<File>(budget_.folder);
    return file_->keep(value);
  }
  host_ += bytes;
  if (value.is_cpu()) return value;
  Tensor pinned = at::empty(value.sizes(), value.options().device(at::kCPU).pinned_memory(true));
  return pinned.copy_(value);
}

}  // namespace headlens
