// SPDX-License-Identifier: MIT
#include "gpt2/safetensors.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "support.hpp"
#include "temporary_folder.hpp"

#if __has_include(<sys/resource.h>)
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#endif

namespace safetensors_tests {

using namespace gpt2;
using namespace std::string_literals;
using test::bytes_of;
using test::contains;
using test::error_of;
using test::safetensors_file;
using test::TemporaryFolder;
using test::write_file;

namespace {

std::string text_of(const TensorView& tensor) {
  return {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()};
}

TensorView view_of(DType dtype, std::vector<std::uint64_t> shape, std::string_view bytes) {
  return {dtype, std::move(shape), std::as_bytes(std::span(bytes.data(), bytes.size()))};
}

/// The error of opening a file with those bytes, in both modes.
CheckpointError open_error(std::string_view file) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x.safetensors";
  write_file(path, file);
  const auto open = [&](LoadMode mode) {
    return error_of<CheckpointError>([&] { static_cast<void>(SafeTensors::open(path, mode)); });
  };
  const CheckpointError error = open(LoadMode::mapped);
  CHECK(error.path() == path.string());
  CHECK(open(LoadMode::copied).kind() == error.kind());
  return error;
}

std::string header_kind(std::string_view header, std::string_view data = "") {
  INFO(header);
  return open_error(safetensors_file(header, data)).kind();
}

CheckpointError save_error(const std::vector<NamedTensor>& tensors,
                           const std::map<std::string, std::string>& metadata = {}) {
  const TemporaryFolder folder;
  const CheckpointError error =
      error_of<CheckpointError>([&] { save_safetensors(folder / "x.safetensors", tensors, metadata); });
  CHECK(folder.names().empty());
  return error;
}

}  // namespace

TEST_CASE("a file gives its tensors by name, in both modes", "[safetensors]") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x.safetensors";
  write_file(path, safetensors_file(R"({"b":{"dtype":"U8","shape":[2,2],"data_offsets":[4,8]},)"
                                    R"("__metadata__":{"format":"pt","note":"\u00e9"},)"
                                    R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                                    "\0\0\x80\x3F"
                                    "abcd"s));
  for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
    const SafeTensors file = SafeTensors::open(path, mode);
    CHECK(file.names() == std::vector<std::string>{"a", "b"});
    CHECK(file.size() == 2);
    CHECK(file.contains("a"));
    CHECK_FALSE(file.contains("c"));
    CHECK_FALSE(file.contains("__metadata__"));
    CHECK(file["a"].dtype == DType::F32);
    CHECK(file["a"].shape.empty());
    CHECK(text_of(file["a"]) == "\0\0\x80\x3F"s);
    CHECK(file["b"].dtype == DType::U8);
    CHECK(file["b"].shape == std::vector<std::uint64_t>{2, 2});
    CHECK(text_of(file["b"]) == "abcd");
    CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"note", "\xC3\xA9"}});
  }
}

TEST_CASE("a name that is not in the file is a CheckpointError", "[safetensors]") {
  const TemporaryFolder folder;
  write_file(folder / "x", safetensors_file("{}"));
  const SafeTensors file = SafeTensors::open(folder / "x");
  const auto error = error_of<CheckpointError>([&] { static_cast<void>(file["wte.weight"]); });
  CHECK(error.kind() == "TensorNotFound");
  CHECK(error.tensor() == "wte.weight");
  CHECK(error.path() == (folder / "x").string());
}

TEST_CASE("the bytes live as long as a copy of the file or its owner", "[safetensors]") {
  for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
    const TemporaryFolder folder;
    const std::filesystem::path path = folder / "x";
    write_file(path, safetensors_file(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "xyz"));
    std::shared_ptr<const void> owner;
    TensorView tensor;
    {
      const SafeTensors file = SafeTensors::open(path, mode);
      const SafeTensors copy = file;
      tensor = copy["a"];
      owner = file.owner();
    }
    std::filesystem::remove(path);
    CHECK(text_of(tensor) == "xyz");
  }
}

TEST_CASE("legal oddities are accepted", "[safetensors]") {
  const TemporaryFolder folder;
  int files = 0;
  const auto open = [&](std::string_view header, std::string_view data = "") {
    INFO(header);
    const std::filesystem::path path = folder / std::to_string(files++);
    write_file(path, safetensors_file(header, data));
    return SafeTensors::open(path);
  };
  CHECK(open("{}").size() == 0);
  CHECK(open(" \t\r\n{} \n").size() == 0);
  const SafeTensors null_metadata = open(R"({"__metadata__":null})");
  CHECK(null_metadata.metadata().empty());
  const SafeTensors empty_metadata = open(R"({"__metadata__":{}})");
  CHECK(empty_metadata.metadata().empty());
  CHECK(open(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x").contains(""));
  // Empty tensors on boundaries, in any order.
  CHECK(open(R"({"c":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},"b":{"dtype":"F64","shape":[3,0],)"
             R"("data_offsets":[1,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
             R"("z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
             "xy")
            .size() == 4);
  // More dimensions than any library has, and an unaligned tensor.
  const SafeTensors odd =
      open(R"({"r":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]},)"
           R"("f":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})",
           "123456789");
  CHECK(odd["f"].bytes.size() == 8);
  // Elements of less than a byte that fill whole bytes.
  CHECK(open(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},)"
             R"("b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[1,4]}})",
             "1234")
            .size() == 2);
  // Unknown fields, and a zero that keeps a large shape small.
  CHECK(open(R"({"a":{"x":{"y":[1,{"z":null}]},"dtype":"U8","shape":[4294967296,0],"data_offsets":[0,0]}})")
            .size() == 1);
  CHECK(open(R"({"\u0061":{"d\u0074ype":"\u00558","shape":[1],"data_offsets":[0,1]}})", "x").contains("a"));
}

TEST_CASE("a file that is too small for its header's length is refused", "[safetensors]") {
  for (std::size_t size = 0; size < 8; ++size) {
    CHECK(open_error(std::string(size, '\x02')).kind() == "HeaderTooSmall");
  }
}

TEST_CASE("a header longer than the file or the limit is refused", "[safetensors]") {
  const auto kind = [](std::uint64_t size) {
    return open_error(bytes_of<std::uint64_t>({size}) + "{}").kind();
  };
  CHECK(kind(3) == "InvalidHeaderLength");
  CHECK(kind(100'000'000) == "InvalidHeaderLength");
  CHECK(kind(100'000'001) == "HeaderTooLarge");
  CHECK(kind(std::uint64_t{1} << 63U) == "HeaderTooLarge");
  CHECK(kind(~std::uint64_t{0}) == "HeaderTooLarge");
  CHECK(kind(~std::uint64_t{0} - 7) == "HeaderTooLarge");
}

TEST_CASE("a header that is not strict JSON is refused", "[safetensors]") {
  CHECK(header_kind("{\"\xFF\":1}") == "InvalidHeader");
  for (const std::string& header :
       {""s, " "s, "[]"s, "null"s, "1"s, "\"a\""s, "{"s, "{}x"s, "{}{}"s, "{}\0"s, "\0{}"s, "\xEF\xBB\xBF{}"s,
        "{,}"s, "{}//"s, R"({"__metadata__":{"a":"b",}})"s, R"({"__metadata__":{"a":NaN}})"s}) {
    CHECK(header_kind(header) == "InvalidHeaderDeserialization");
  }
  CHECK(contains(open_error(safetensors_file("{\"a\":NaN}")).what(), "NaN for a is no JSON value"));
}

TEST_CASE("duplicates in a header are refused", "[safetensors]") {
  const std::string tensor = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  CHECK(header_kind("{\"a\":" + tensor + ",\"a\":" + tensor + "}", "x") == "InvalidHeaderDeserialization");
  CHECK(header_kind("{\"a\":" + tensor + ",\"\\u0061\":" + tensor + "}", "x") ==
        "InvalidHeaderDeserialization");
  CHECK(header_kind(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x") ==
        "InvalidHeaderDeserialization");
  CHECK(header_kind(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", "x") ==
        "InvalidHeaderDeserialization");
  CHECK(header_kind(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}})", "x") ==
        "InvalidHeaderDeserialization");
  CHECK(header_kind(R"({"__metadata__":{"a":"1","a":"1"}})") == "InvalidHeaderDeserialization");
  CHECK(header_kind(R"({"__metadata__":{},"__metadata__":{}})") == "InvalidHeaderDeserialization");
}

TEST_CASE("numbers in a header are plain unsigned integers", "[safetensors]") {
  for (const std::string number : {"1.0", "1.5", "-1", "-0", "1e0", "true", "null", "\"1\"", "[1]", "{}",
                                   "18446744073709551616", "1e400"}) {
    CHECK(header_kind(R"({"a":{"dtype":"U8","shape":[)" + number + R"(],"data_offsets":[0,1]}})", "x") ==
          "InvalidHeaderDeserialization");
    CHECK(header_kind(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,)" + number + "]}}", "x") ==
          "InvalidHeaderDeserialization");
  }
  const CheckpointError error =
      open_error(safetensors_file(R"({"t":{"dtype":"U8","shape":[2,37.9],"data_offsets":[0,1]}})", "x"));
  CHECK(error.tensor() == "t");
  CHECK(contains(error.what(), "t: shape[1] = 37.9 is not an unsigned 64-bit integer"));
}

TEST_CASE("a tensor has a dtype, a shape and two offsets", "[safetensors]") {
  for (const std::string tensor :
       {R"({"shape":[1],"data_offsets":[0,1]})", R"({"dtype":"U8","data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1]})", R"({"dtype":"U9","shape":[1],"data_offsets":[0,1]})",
        R"({"dtype":8,"shape":[1],"data_offsets":[0,1]})",
        R"({"dtype":["U8"],"shape":[1],"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":{},"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":null,"data_offsets":[0,1]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":1})", R"({"dtype":"U8","shape":[1],"data_offsets":[]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[1]})",
        R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,1]})", R"(["U8",[1],[0,1]])", "null", "1", "\"U8\"",
        "{}"}) {
    CHECK(header_kind("{\"a\":" + tensor + "}", "x") == "InvalidHeaderDeserialization");
  }
  for (const std::string metadata :
       {"1", "[]", "\"a\"", "true", R"({"a":1})", R"({"a":null})", R"({"a":{}})"}) {
    CHECK(header_kind("{\"__metadata__\":" + metadata + "}") == "InvalidHeaderDeserialization");
  }
}

TEST_CASE("dimensions and metadata entries are bounded", "[safetensors]") {
  const auto shape = [](std::size_t rank) {
    std::string text = R"({"a":{"dtype":"U8","data_offsets":[0,1],"shape":[1)";
    for (std::size_t i = 1; i < rank; ++i) text += ",1";
    return safetensors_file(text + "]}}", "x");
  };
  const TemporaryFolder folder;
  write_file(folder / "x", shape(1024));
  const SafeTensors longest = SafeTensors::open(folder / "x");
  CHECK(longest["a"].shape.size() == 1024);
  CHECK(open_error(shape(1025)).kind() == "InvalidHeaderDeserialization");

  const auto metadata = [](std::size_t size) {
    std::string text = "{\"__metadata__\":{\"0\":\"\"";
    for (std::size_t i = 1; i < size; ++i) text += ",\"" + std::to_string(i) + "\":\"\"";
    return safetensors_file(text + "}}");
  };
  write_file(folder / "y", metadata(100'000));
  const SafeTensors largest = SafeTensors::open(folder / "y");
  CHECK(largest.metadata().size() == 100'000);
  CHECK(open_error(metadata(100'001)).kind() == "InvalidHeaderDeserialization");
}

TEST_CASE("a NUL in a name is refused, in the metadata it is text like any other", "[safetensors]") {
  CHECK(header_kind(R"({"a\u0000b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x") ==
        "InvalidTensorName");
  const TemporaryFolder folder;
  write_file(folder / "x", safetensors_file(R"({"__metadata__":{"a\u0000":"\u0000b\u0000"}})"));
  const std::map<std::string, std::string> metadata = {{"a\0"s, "\0b\0"s}, {"format", "pt"}};
  const SafeTensors read = SafeTensors::open(folder / "x");
  CHECK(read.metadata() == std::map<std::string, std::string>{{"a\0"s, "\0b\0"s}});
  save_safetensors(folder / "y", {}, read.metadata());
  const SafeTensors written = SafeTensors::open(folder / "y");
  CHECK(written.metadata() == metadata);
}

TEST_CASE("tensors cover the data without hole or overlap", "[safetensors]") {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}";
  };
  CHECK(header_kind(two("[0,2]", "[3,5]"), "12345") == "InvalidOffset");
  CHECK(header_kind(two("[0,2]", "[1,3]"), "123") == "InvalidOffset");
  CHECK(header_kind(two("[0,2]", "[0,2]"), "12") == "InvalidOffset");
  CHECK(header_kind(two("[1,3]", "[3,5]"), "12345") == "InvalidOffset");
  CHECK(header_kind(two("[0,2]", "[4,2]"), "1234") == "InvalidOffset");
  CHECK(header_kind(two("[0,2]", "[2,4]"), "12345") == "MetadataIncompleteBuffer");
  CHECK(header_kind(two("[0,2]", "[2,4]"), "123") == "MetadataIncompleteBuffer");
  CHECK(header_kind("{}", "1") == "MetadataIncompleteBuffer");
  CHECK(header_kind(two("[0,2]", "[2,5]"), "12345") == "TensorInvalidInfo");
  CHECK(header_kind(two("[0,2]", "[2,18446744073709551615]"), "12345") == "TensorInvalidInfo");
  CHECK(open_error(safetensors_file(two("[0,2]", "[3,5]"), "12345")).tensor() == "b");
}

TEST_CASE("a shape's size is counted without overflow", "[safetensors]") {
  const auto kind = [](const std::string& dtype, const std::string& shape) {
    return header_kind("{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[0,8]}}",
                       "12345678");
  };
  CHECK(kind("U8", "[4294967296,4294967296]") == "ValidationOverflow");
  CHECK(kind("U8", "[4294967296,4294967296,0]") == "ValidationOverflow");
  CHECK(kind("U64", "[288230376151711744]") == "ValidationOverflow");
  CHECK(kind("U8", "[2305843009213693953]") == "ValidationOverflow");  // times 8 bits is 8 again, modulo 2^64
  CHECK(kind("U64", "[288230376151711745]") == "ValidationOverflow");
  CHECK(kind("U8", "[18446744073709551615]") == "ValidationOverflow");
  CHECK(kind("F4", "[17]") == "MisalignedSlice");
  CHECK(kind("F6_E3M2", "[3]") == "MisalignedSlice");
  CHECK(kind("F4", "[]") == "MisalignedSlice");
  CHECK(kind("U8", "[9]") == "TensorInvalidInfo");
  CHECK(kind("U8", "[]") == "TensorInvalidInfo");
  CHECK(kind("U8", "[0]") == "TensorInvalidInfo");
}

TEST_CASE("anything but a regular file is refused, and does not block", "[safetensors]") {
  const TemporaryFolder folder;
  const auto kind = [](const std::filesystem::path& path) {
    return error_of<CheckpointError>([&] { static_cast<void>(SafeTensors::open(path)); }).kind();
  };
  CHECK(kind(folder.path()) == "IoError");
  CHECK(kind(folder / "none") == "IoError");
#if __has_include(<sys/resource.h>)
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(kind(folder / "fifo") == "IoError");
  CHECK(kind("/dev/null") == "IoError");
#endif
}

#if !defined(_WIN32)  // where it takes rights to make links, and MinGW's library has none
TEST_CASE("symbolic links are followed", "[safetensors]") {
  const TemporaryFolder folder;
  write_file(folder / "blob", safetensors_file("{}"));
  std::filesystem::create_symlink("blob", folder / "link");
  CHECK(SafeTensors::open(folder / "link").size() == 0);
}
#endif

TEST_CASE("a file of twenty thousand tensors opens, and finds each", "[safetensors]") {
  const TemporaryFolder folder;
  constexpr int count = 20'000;
  std::vector<NamedTensor> tensors;
  const std::string bytes = "ab";
  for (int i = 0; i < count; ++i) {
    tensors.push_back({"layer." + std::to_string(i) + ".weight", view_of(DType::U8, {1, 2}, bytes)});
  }
  save_safetensors(folder / "x", tensors);
  const SafeTensors file = SafeTensors::open(folder / "x");
  CHECK(file.size() == count);
  CHECK(std::all_of(tensors.begin(), tensors.end(),
                    [&](const NamedTensor& tensor) { return text_of(file[tensor.name]) == bytes; }));
}

TEST_CASE("a file is written as the reference implementation writes it", "[safetensors]") {
  const TemporaryFolder folder;
  const std::string bytes(16, '\x01');
  std::vector<NamedTensor> tensors;
  for (const std::string_view name :
       {"U8", "BF16", "I32", "F16", "BOOL", "U64", "F8_E5M2", "F64", "I64", "C64", "F32", "U32", "I8", "I16",
        "U16", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E4M3"}) {
    const DType dtype = parse_dtype(name).value();
    tensors.push_back({"x." + std::string(name), view_of(dtype, {128 / bits(dtype)}, bytes)});
  }
  tensors.push_back({"x.F4", view_of(DType::F4, {32}, bytes)});
  tensors.push_back({"f", view_of(DType::F32, {0, 3}, "")});
  tensors.push_back({"\xC3\xA9", view_of(DType::F32, {}, "abcd")});
  tensors.push_back({"a\"\\\n\x01\x7F/", view_of(DType::F32, {}, "efgh")});
  save_safetensors(folder / "x", tensors);
  // The file that safetensors 0.8.0 makes of the same tensors, from Python, with metadata={"format": "pt"}.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"x.U64":{"dtype":"U64","shape":[2],"data_offsets":[0,16]},)"
      R"("x.I64":{"dtype":"I64","shape":[2],"data_offsets":[16,32]},)"
      R"("x.F64":{"dtype":"F64","shape":[2],"data_offsets":[32,48]},)"
      R"("x.C64":{"dtype":"C64","shape":[2],"data_offsets":[48,64]},)"
      "\"a\\\"\\\\\\n\\u0001\x7F/\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[64,68]},"
      R"("f":{"dtype":"F32","shape":[0,3],"data_offsets":[68,68]},)"
      R"("x.F32":{"dtype":"F32","shape":[4],"data_offsets":[68,84]},)"
      "\"\xC3\xA9\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[84,88]},"
      R"("x.U32":{"dtype":"U32","shape":[4],"data_offsets":[88,104]},)"
      R"("x.I32":{"dtype":"I32","shape":[4],"data_offsets":[104,120]},)"
      R"("x.BF16":{"dtype":"BF16","shape":[8],"data_offsets":[120,136]},)"
      R"("x.F16":{"dtype":"F16","shape":[8],"data_offsets":[136,152]},)"
      R"("x.U16":{"dtype":"U16","shape":[8],"data_offsets":[152,168]},)"
      R"("x.I16":{"dtype":"I16","shape":[8],"data_offsets":[168,184]},)"
      R"("x.F8_E5M2FNUZ":{"dtype":"F8_E5M2FNUZ","shape":[16],"data_offsets":[184,200]},)"
      R"("x.F8_E4M3FNUZ":{"dtype":"F8_E4M3FNUZ","shape":[16],"data_offsets":[200,216]},)"
      R"("x.F8_E8M0":{"dtype":"F8_E8M0","shape":[16],"data_offsets":[216,232]},)"
      R"("x.F8_E4M3":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[232,248]},)"
      R"("x.F8_E5M2":{"dtype":"F8_E5M2","shape":[16],"data_offsets":[248,264]},)"
      R"("x.I8":{"dtype":"I8","shape":[16],"data_offsets":[264,280]},)"
      R"("x.U8":{"dtype":"U8","shape":[16],"data_offsets":[280,296]},)"
      R"("x.F4":{"dtype":"F4","shape":[32],"data_offsets":[296,312]},)"
      R"("x.BOOL":{"dtype":"BOOL","shape":[16],"data_offsets":[312,328]}})";
  const std::string written = test::read_file(folder / "x");
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  CHECK(written.substr(8, padded.size()) == padded);
  CHECK(written.substr(0, 8) == bytes_of<std::uint64_t>({padded.size()}));
  CHECK(written.substr(8 + padded.size()) ==
        std::string(64, '\x01') + "efgh" + std::string(16, '\x01') + "abcd" + std::string(240, '\x01'));
}

TEST_CASE("written tensors are read back", "[safetensors]") {
  const TemporaryFolder folder;
  const std::map<std::string, std::string> metadata = {{"format", "np"}, {"\xC3\xA9\n", ""}};
  save_safetensors(folder / "x", std::vector<NamedTensor>{{"t", view_of(DType::U8, {3, 1}, "abc")}},
                   metadata);
  const SafeTensors file = SafeTensors::open(folder / "x");
  CHECK(file.metadata() == metadata);
  CHECK(file["t"].shape == std::vector<std::uint64_t>{3, 1});
  CHECK(text_of(file["t"]) == "abc");
  CHECK(folder.names() == std::vector<std::string>{"x"});
  save_safetensors(folder / "y", {});
  const SafeTensors empty = SafeTensors::open(folder / "y");
  CHECK(empty.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
}

TEST_CASE("tensors that do not fit the format are not written", "[safetensors]") {
  CHECK(save_error({{"__metadata__", view_of(DType::U8, {1}, "a")}}).kind() == "InvalidTensorName");
  CHECK(save_error({{"a\0b"s, view_of(DType::U8, {1}, "a")}}).kind() == "InvalidTensorName");
  CHECK(save_error({{"a", view_of(DType::U8, {1}, "a")}, {"a", view_of(DType::I8, {1}, "a")}}).kind() ==
        "InvalidTensorName");
  CHECK(save_error({{"\xFF", view_of(DType::U8, {1}, "a")}}).kind() == "InvalidHeader");
  CHECK(save_error({}, {{"\xFF", ""}}).kind() == "InvalidHeader");
  CHECK(save_error({}, {{"a", "\xFF"}}).kind() == "InvalidHeader");
  CHECK(save_error({{"a", view_of(DType::U8, {2}, "a")}}).kind() == "InvalidTensorView");
  CHECK(save_error({{"a", view_of(DType::U8, {}, "")}}).kind() == "InvalidTensorView");
  CHECK(save_error({{"a", view_of(DType::F4, {3}, "ab")}}).kind() == "MisalignedSlice");
  CHECK(save_error({{"a", view_of(DType::U8, {1ULL << 32U, 1ULL << 32U}, "")}}).kind() ==
        "ValidationOverflow");
  CHECK(save_error({{"a", view_of(DType::U8, std::vector<std::uint64_t>(1025, 1), "a")}}).kind() ==
        "InvalidTensorView");
  CHECK(save_error({{"a", view_of(static_cast<DType>(22), {1}, "a")}}).kind() == "InvalidTensorView");
}

#ifdef __OPTIMIZE__  // or it takes 20 seconds
TEST_CASE("a header that readers would refuse is not written", "[safetensors]") {
  CHECK(save_error({}, {{"a", std::string(100'000'000, 'x')}}).kind() == "HeaderTooLarge");
}
#endif

TEST_CASE("a file may be written over one that its tensors are mapped from", "[safetensors]") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x";
  save_safetensors(path, std::vector<NamedTensor>{{"a", view_of(DType::U8, {3}, "abc")}});
  const SafeTensors old = SafeTensors::open(path);
  save_safetensors(path, std::vector<NamedTensor>{{"a", old["a"]}, {"b", old["a"]}});
  CHECK(text_of(old["a"]) == "abc");
  const SafeTensors written = SafeTensors::open(path);
  CHECK(text_of(written["b"]) == "abc");
}

TEST_CASE("a write that fails leaves the old file, and nothing beside it", "[safetensors]") {
  const TemporaryFolder folder;
  const std::vector<NamedTensor> tensors{{"a", view_of(DType::U8, {3}, "abc")}};
  const auto kind = [&](const std::filesystem::path& path, const std::vector<NamedTensor>& what) {
    return error_of<CheckpointError>([&] { save_safetensors(path, what); }).kind();
  };
  CHECK(kind(folder / "no folder" / "x", tensors) == "IoError");
  std::filesystem::create_directories(folder / "d" / "not empty");
  CHECK(kind(folder / "d", tensors) == "IoError");
  CHECK(folder.names() == std::vector<std::string>{"d"});

#if __has_include(<sys/resource.h>)
  // A limit on the size of files acts as a disk that is full.
  save_safetensors(folder / "x", tensors);
  ::rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const ::rlimit small{100'000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string large(1'000'000, 'x');
  const std::string found = kind(folder / "x", {{"a", view_of(DType::U8, {large.size()}, large)}});
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  ::signal(SIGXFSZ, handler);
  CHECK(found == "IoError");
  const SafeTensors old = SafeTensors::open(folder / "x");
  CHECK(text_of(old["a"]) == "abc");
  CHECK(folder.names().size() == 2);
#endif
}

}  // namespace safetensors_tests
