// headlens/tests: the message of the error that a call throws.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace headlens::testing {

/// Calls `call` and returns the message of the `ErrorType` it throws; a test failure otherwise.
template <typename ErrorType, typename Call>
std::string error_message(Call&& call) {
  try {
    call();
  } catch (const ErrorType& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected another type of error, got: " << error.what();
    return {};
  }
  ADD_FAILURE() << "expected an error, got none";
  return {};
}

}  // namespace headlens::testing
