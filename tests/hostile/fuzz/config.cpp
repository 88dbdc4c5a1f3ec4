// SPDX-License-Identifier: MIT
//
// The input as a config.json: a valid config, or a ConfigError.

#include <nlohmann/json.hpp>
#include <string_view>

#include "fuzz.hpp"
#include "gpt2/config_json.hpp"

using namespace gpt2;

FUZZ_TARGET(config) {
  const std::string_view text = fuzz::text_of(data, size);
  // The value that nlohmann/json alone, which takes more than strict JSON, makes of the text.
  const nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  bool is_config = true;
  GPT2Config lenient;
  try {
    json.get_to(lenient);
  } catch (const ConfigError&) {
    is_config = false;
    fuzz::check(lenient == GPT2Config(), "a config that could not be read has not changed");
  }
  try {
    const GPT2Config config = parse_config(text);
    fuzz::check(!json.is_discarded(), "only JSON is read");
    fuzz::check(is_config && config == lenient, "strict JSON and its document say the same");
    config.validate();
    fuzz::check(parse_config(nlohmann::json(config).dump()) == config, "a written config is read back");
  } catch (const ConfigError& error) {
    fuzz::check(std::string_view(error.what()).starts_with("[gpt2.config_error] "),
                "the message has its tag");
  }
  return 0;
}
