// SPDX-License-Identifier: MIT
#include "gpt2/detail/files/strict_json.hpp"

#include <string>
#include <string_view>

#include "catch.hpp"
#include "support.hpp"

namespace strict_json_tests {

using gpt2::detail::find_invalid_utf8;
using gpt2::detail::JsonFault;
using gpt2::detail::printable;
using namespace std::string_literals;
using test::contains;
using test::error_of;

namespace {

nlohmann::json parse_strict_json(std::string_view text) { return *gpt2::detail::parse_strict_json(text); }

std::string fault_of(std::string_view text) {
  return error_of<JsonFault>([&] { static_cast<void>(parse_strict_json(text)); }).what();
}

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

}  // namespace

TEST_CASE("everything that RFC 8259 allows is read", "[strict_json]") {
  CHECK(parse_strict_json(" \t\r\n{\"a\" : [1, -2, 0.5, 1e2, true, false, null, \"\\u00e9\"]} \n") ==
        nlohmann::json{{"a", {1, -2, 0.5, 100.0, true, false, nullptr, "\xC3\xA9"}}});
  CHECK(parse_strict_json("\"\\ud83d\\ude00\"") == "\xF0\x9F\x98\x80");
  CHECK(parse_strict_json("18446744073709551615") == 18446744073709551615U);
  CHECK(parse_strict_json("{\"a\":{\"b\":1},\"c\":{\"b\":2},\"b\":3}").size() == 3);
}

TEST_CASE("bytes after the text are refused", "[strict_json]") {
  for (const std::string& text : {"{}x"s, "{} {}"s, "{},"s, "{}]"s, "1 2"s})
    CHECK_FALSE(fault_of(text).empty());
}

TEST_CASE("a NUL byte is refused wherever it is, and not taken for the end", "[strict_json]") {
  CHECK(fault_of("{}\0"s) == "is not JSON: it has a NUL byte at line 1, column 3");
  CHECK(fault_of("\0{}"s) == "is not JSON: it has a NUL byte at line 1, column 1");
  CHECK(fault_of("{\"a\0b\":1}"s) == "is not JSON: it has a NUL byte at line 1, column 4");
  CHECK(parse_strict_json("\"\\u0000\"") == "\0"s);
}

TEST_CASE("a byte order mark is refused", "[strict_json]") {
  CHECK(fault_of("\xEF\xBB\xBF{}") == "is not JSON: it begins with a byte order mark");
}

TEST_CASE("a key that is duplicated in one object is refused, however it is written", "[strict_json]") {
  CHECK(fault_of(R"({"a":1,"a":1})") == R"(has the key "a" twice in one object)");
  CHECK(fault_of(R"({"a":1,"\u0061":2})") == R"(has the key "a" twice in one object)");
  CHECK(fault_of(R"([{"x":[{"k":1,"l":2,"k":3}]}])") == R"(has the key "k" twice in one object)");
  CHECK(fault_of(R"({"":1,"a":{"":1},"":1})") == R"(has the key "" twice in one object)");
  CHECK(fault_of(R"({"b":{"x":1},"a":1,"b":{"x":1}})") == R"(has the key "b" twice in one object)");
  // Also by readers that keep no document.
  class : public gpt2::detail::JsonVisitor {
    void begin_object() override {}
    void begin_array() override {}
    void end() override {}
    void key(std::string&&) override {}
    void value(nlohmann::json&&) override {}
  } nothing_kept;
  CHECK(error_of<JsonFault>([&] {
          gpt2::detail::parse_strict_json(R"({"a":1,"a":1})", nothing_kept);
        }).what() == R"(has the key "a" twice in one object)"s);
}

TEST_CASE("nesting is bounded", "[strict_json]") {
  CHECK(parse_strict_json(nested(127)).is_array());
  CHECK(fault_of(nested(128)) == "nests deeper than 127 levels");
  CHECK(fault_of(std::string(10'000'000, '[')) == "nests deeper than 127 levels");
}

TEST_CASE("NaN and Infinity are refused in words", "[strict_json]") {
  CHECK(fault_of(R"({"a": NaN})") ==
        "is not JSON: NaN for a is no JSON value, though Python writes it, at line 1, column 7");
  CHECK(contains(fault_of("{\n  \"a\": 1,\n  \"b\": Infinity}"), "Infinity for b"));
  CHECK(contains(fault_of("{\n  \"a\": 1,\n  \"b\": Infinity}"), "line 3, column 8"));
  CHECK(contains(fault_of(R"({"a": -Infinity})"), "Infinity for a"));
  CHECK(contains(fault_of(R"([[NaN]])"), "NaN is no JSON value"));
}

TEST_CASE("a number beyond a double's range is refused, and its member named", "[strict_json]") {
  for (const std::string_view number : {"1e309", "-1e309", "1e99999"}) {
    const auto fault = error_of<JsonFault>(
        [&] { static_cast<void>(parse_strict_json("{\"a\":" + std::string(number) + "}")); });
    CHECK(fault.member() == "a");
    CHECK(fault.value() == number);
    CHECK(std::string(fault.what()) == "overflows a double");
  }
  CHECK(fault_of("[[1e400]]") == "has the number 1e400, which overflows a double");
  CHECK(parse_strict_json("1e308").get<double>() == 1e308);
  CHECK(parse_strict_json("1e-400").get<double>() == 0);
}

TEST_CASE("text that is not JSON is refused", "[strict_json]") {
  const std::string_view texts[] = {"",
                                    " ",
                                    "{",
                                    "[1,",
                                    "[1,]",
                                    "{\"a\":1,}",
                                    "{a:1}",
                                    "{'a':1}",
                                    "{\"a\"}",
                                    "[01]",
                                    "[1.]",
                                    "[.5]",
                                    "[+1]",
                                    "[0x10]",
                                    "[1e]",
                                    "[--1]",
                                    "[tru]",
                                    "[True]",
                                    "[None]",
                                    "[nan]",
                                    "[-]",
                                    "//\n1",
                                    "/**/1",
                                    "[1]//",
                                    "[\"\t\"]",
                                    "[\"\\x\"]",
                                    "[\"a]",
                                    "[\"\\ud800\"]",
                                    "[\"\\udc00\"]",
                                    "\x0B[]",
                                    "\xC2\xA0[]",
                                    "[1\xE2\x80\xA8]",
                                    "[\"\\u12\"]",
                                    "undefined",
                                    "#",
                                    "{\"a\":1 \"b\":2}",
                                    "[1 2]"};
  for (const std::string_view text : texts) {
    INFO(text);
    CHECK(contains(fault_of(text), "is not JSON: "));
  }
}

TEST_CASE("bytes that are not UTF-8 are refused, in strings and outside", "[strict_json]") {
  CHECK(fault_of("[\"\xFF\"]") == "is not UTF-8 at line 1, column 3");
  CHECK(contains(fault_of("[]\x80"), "is not UTF-8"));
}

TEST_CASE("UTF-8 is what the Unicode standard says it is", "[strict_json]") {
  constexpr std::size_t none = std::string_view::npos;
  for (const std::string& good :
       {""s, "a\x7F\0"s, "\xC2\x80"s, "\xDF\xBF"s, "\xE0\xA0\x80"s, "\xED\x9F\xBF"s, "\xEE\x80\x80"s,
        "\xEF\xBF\xBF"s, "\xF0\x90\x80\x80"s, "\xF4\x8F\xBF\xBF"s}) {
    CHECK(find_invalid_utf8(good) == none);
    CHECK(find_invalid_utf8(good + good + "\xFF") == 2 * good.size());
  }
  // Lone continuations, overlong forms, surrogates, beyond U+10FFFF, cut off.
  for (const std::string& bad :
       {"\x80"s, "\xBF"s, "\xC0\x80"s, "\xC1\xBF"s, "\xE0\x9F\xBF"s, "\xED\xA0\x80"s, "\xED\xBF\xBF"s,
        "\xF0\x8F\xBF\xBF"s, "\xF4\x90\x80\x80"s, "\xF5\x80\x80\x80"s, "\xFE"s, "\xC2"s, "\xC2\x20"s,
        "\xE1\x80"s, "\xE1\x80\x20"s, "\xF1\x80\x80"s, "\xF1\x80\x80\xC0"s}) {
    CHECK(find_invalid_utf8(bad) == 0);
    CHECK(find_invalid_utf8("ok" + bad) == 2);
  }
}

TEST_CASE("text in messages is on one line, and short", "[strict_json]") {
  CHECK(printable("a\n\x1B[31m\0"s) == "a\\n\\u001b[31m\\u0000");
  const std::string cut = printable(std::string(199, 'x') + "\xC3\xA9 and more");
  CHECK(cut == std::string(199, 'x') + "...");
  CHECK(printable("\xFF") == "\xEF\xBF\xBD");
  CHECK(fault_of("[\"" + std::string(100'000, 'x')).size() < 1000);
}

}  // namespace strict_json_tests
