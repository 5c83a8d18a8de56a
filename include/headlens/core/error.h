// headlens/core: the errors that HeadLens throws.
#pragma once

#include <stdexcept>

namespace headlens {

/// Base of everything HeadLens throws. Messages read `[where] what, expected X, got Y`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A config, a spec string or a JSON file is wrong or says something that is not handled.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A checkpoint directory, a safetensors file or a weight in it is missing, malformed or unread.
class CheckpointError : public Error {
 public:
  using Error::Error;
};

/// A tensor has another shape or dtype than the callee takes.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A device is not there, or a device call failed.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// A hook name matches no site, or a hook or intervention never fired.
class HookError : public Error {
 public:
  using Error::Error;
};

/// A task's data or its parameters do not make sense.
class TaskError : public Error {
 public:
  using Error::Error;
};

/// The caller of the command (or of a public function) asked for something it does not offer.
class UsageError : public Error {
 public:
  using Error::Error;
};

}  // namespace headlens
