// SPDX-License-Identifier: MIT
//
// Shows the positions a model has learned: how alike the rows of wpe are, and how long. As text, or as a picture.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <gpt2/config_json.hpp>
#include <gpt2/pretrained.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#ifdef GPT2_EXAMPLES_HAVE_PNG
#include <png.h>
#endif

#ifndef GPT2_BUNDLED_CHECKPOINT
#define GPT2_BUNDLED_CHECKPOINT "tests/reference/checkpoints/gpt2-tiny"
#endif

namespace {

using gpt2::Index;
using gpt2::Matrix;

constexpr const char* usage = R"(Usage: inspect_positions [CHECKPOINT] [OPTION...]

Shows the positions of a Hugging Face GPT-2 checkpoint, a folder with config.json and model.safetensors (or its
shards): a map of the cosine similarity between each two rows of wpe, and the norm of each row. Without
CHECKPOINT, a bundled one is used.

If there are more positions than cells, a cell is the mean over its positions. A row of zeros and one with NaN or
infinity have no direction, hence no cosine: they are left out of means, and shown as "?" or black if nothing else is
in the cell.

  --cells N      no more than so many cells in a row of the map that is printed (32)
  --out FILE     draw the map, with a bar for each norm below it, as a PNG of at most 1024 cells in a row
  --help         print this

Colours are red for a cosine of 1, white for 0 and blue for -1. Bad input ends the program with status 2 and one line
on stderr.
)";

struct Options {
  std::optional<std::string> checkpoint;
  std::optional<std::string> out;
  Index cells = 32;
};

Index parse_cells(const std::string& text) {
  Index number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1) {
    throw std::invalid_argument("--cells: \"" + text + "\" is not a whole number of at least 1");
  }
  return number;
}

/// The options, or nothing if help was requested.
std::optional<Options> parse_options(std::span<char*> arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i];
    if (name == "--help") return std::nullopt;
    if (name.empty() || name.front() != '-') {
      if (options.checkpoint)
        throw std::invalid_argument("two checkpoints: " + *options.checkpoint + ", " + name);
      options.checkpoint = name;
      continue;
    }
    if (name != "--cells" && name != "--out")
      throw std::invalid_argument("unknown option " + name + " (see --help)");
    if (++i == arguments.size()) throw std::invalid_argument(name + " needs a value");
    if (name == "--cells") options.cells = parse_cells(arguments[i]);
    if (name == "--out") options.out = arguments[i];
  }
  if (options.out && !options.out->ends_with(".png")) {
    throw std::invalid_argument("--out: the picture is a PNG, and " + *options.out + " does not end in .png");
  }
#ifndef GPT2_EXAMPLES_HAVE_PNG
  if (options.out) {
    throw std::invalid_argument("--out needs libpng, which was not there when this program was built");
  }
#endif
  return options;
}

/// The directions of a table's rows, and their norms.
struct Rows {
  Matrix<double> directions;  ///< of length 1; zeros for a row that has none
  std::vector<bool> directed;
  Eigen::VectorXd norms;
};

Rows rows_of(const gpt2::Embedding<double>& table) {
  Rows rows{table.weight(), std::vector<bool>(static_cast<std::size_t>(table.num_embeddings())),
            Eigen::VectorXd(table.num_embeddings())};
  for (Index i = 0; i < rows.norms.size(); ++i) {
    auto row = rows.directions.row(i);
    // Divided by its largest element first, so that no square overflows or vanishes.
    const double largest = row.cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
    const bool directed = largest > 0 && std::isfinite(largest);
    if (directed) {
      row /= largest;
      rows.norms[i] = largest * row.norm();
      row.normalize();
    } else {
      rows.norms[i] = largest;  // 0, infinity or NaN
      row.setZero();
    }
    rows.directed[static_cast<std::size_t>(i)] = directed;
  }
  return rows;
}

/// The positions of a map's cells, and the cells' values.
struct Map {
  Index block = 1;         ///< positions in a cell; fewer in the last one
  Matrix<double> cosines;  ///< NaN if no two rows with a direction meet
  Eigen::VectorXd norms;
};

/// The mean of the cosines of all pairs of two cells is the product of the cells' mean directions, so the cosines
/// themselves, of which there may be too many, are never there.
Map map_of(const Rows& rows, Index most_cells) {
  const Index n_positions = rows.norms.size();
  Map map;
  map.block = (n_positions - 1) / most_cells + 1;
  const Index cells = (n_positions - 1) / map.block + 1;
  Matrix<double> means = Matrix<double>::Zero(cells, rows.directions.cols());
  map.norms.setZero(cells);
  for (Index cell = 0; cell < cells; ++cell) {
    const Index begin = cell * map.block;
    const Index size = std::min(map.block, n_positions - begin);
    const auto directed =
        std::count(rows.directed.begin() + begin, rows.directed.begin() + begin + size, true);
    means.row(cell) = rows.directions.middleRows(begin, size).colwise().sum() / static_cast<double>(directed);
    map.norms[cell] = rows.norms.segment(begin, size).mean();
  }
  map.cosines = means * means.transpose();
  return map;
}

/// The place of a cosine, which may be rounded to just above 1, on a scale of so many steps from -1 to 1.
std::size_t step_of(double cosine, std::size_t steps) {
  const double part = (std::clamp(cosine, -1.0, 1.0) + 1) / 2;
  return static_cast<std::size_t>(std::lround(part * static_cast<double>(steps - 1)));
}

/// Without the sign of a NaN, which says nothing.
std::string norm_text(double norm) {
  if (std::isnan(norm)) return "nan";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", norm);
  return text.data();
}

void print_map(const Map& map, Index n_positions) {
  constexpr std::string_view scale = " .,:;-=+*#@";
  std::printf("cosines, from -1 to 1: \"%s\"; none: \"?\"\n", std::string(scale).c_str());
  const std::string width = std::to_string(n_positions - 1);
  const int digits = static_cast<int>(width.size());
  for (Index i = 0; i < map.norms.size(); ++i) {
    const Index begin = i * map.block;
    std::string line;
    for (const double cosine : map.cosines.row(i)) {
      line.append(2, std::isnan(cosine) ? '?' : scale[step_of(cosine, scale.size())]);
    }
    std::printf("%*td", digits, begin);
    if (map.block > 1) std::printf("-%*td", digits, std::min(begin + map.block, n_positions) - 1);
    std::printf(" |%s| norm %s\n", line.c_str(), norm_text(map.norms[i]).c_str());
  }
}

/// "no direction: 3 rows of zeros, 1 row with NaN or infinity", and the place of the first of each.
void print_undirected(const Rows& rows) {
  for (const bool zero : {true, false}) {
    Index count = 0;
    Index first = 0;
    for (Index i = rows.norms.size() - 1; i >= 0; --i) {
      if (rows.directed[static_cast<std::size_t>(i)] || (rows.norms[i] == 0) != zero) continue;
      ++count;
      first = i;
    }
    if (count == 0) continue;
    std::printf("no direction: %td row%s %s, the first at position %td\n", count, count == 1 ? "" : "s",
                zero ? "of zeros" : "with NaN or infinity", first);
  }
}

#ifdef GPT2_EXAMPLES_HAVE_PNG

/// A picture whose pixels are colours of a palette: the scale of cosines, and a few more.
class Picture {
 public:
  static constexpr std::size_t steps = 201;
  enum Colour : std::uint8_t { background = steps, bar, none };

  Picture(Index width, Index height) : pixels_(Matrix<std::uint8_t>::Constant(height, width, background)) {
    for (std::size_t i = 0; i < steps; ++i) {
      // Between blue, white and red: the farther from 0, the less light in the other two channels.
      const double cosine = static_cast<double>(i) / (steps - 1) * 2 - 1;
      const double strength = std::abs(cosine);
      const double fades = 1 - strength;
      const double stays = 1 - 0.25 * strength;
      const double red = cosine > 0 ? stays : fades;
      const double blue = cosine > 0 ? fades : stays;
      for (const double channel : {red, fades, blue}) {
        palette_.push_back(static_cast<std::uint8_t>(std::lround(255 * channel)));
      }
    }
    palette_.insert(palette_.end(), {255, 255, 255, 70, 70, 70, 0, 0, 0});
  }

  [[nodiscard]] auto block(Index top, Index left, Index height, Index width) {
    return pixels_.block(top, left, height, width);
  }

  void write(const std::string& path) const {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(pixels_.cols());
    image.height = static_cast<png_uint_32>(pixels_.rows());
    image.format = PNG_FORMAT_RGB_COLORMAP;
    image.colormap_entries = static_cast<png_uint_32>(palette_.size() / 3);
    if (png_image_write_to_file(&image, path.c_str(), 0, pixels_.data(), 0, palette_.data()) == 0) {
      throw std::runtime_error(path + " cannot be written: " + image.message);
    }
  }

 private:
  Matrix<std::uint8_t> pixels_;
  std::vector<std::uint8_t> palette_;
};

void draw(const std::string& path, const Rows& rows) {
  const Map map = map_of(rows, 1024);
  const Index cells = map.norms.size();
  const Index scale = std::max<Index>(1, 512 / cells);
  constexpr Index gap = 8;
  constexpr Index bars = 96;
  Picture picture(cells * scale, cells * scale + gap + bars);
  for (Index i = 0; i < cells; ++i) {
    for (Index j = 0; j < cells; ++j) {
      const double cosine = map.cosines(i, j);
      const std::size_t colour =
          std::isnan(cosine) ? std::size_t{Picture::none} : step_of(cosine, Picture::steps);
      picture.block(i * scale, j * scale, scale, scale).setConstant(static_cast<std::uint8_t>(colour));
    }
  }
  double longest = 0;
  for (const double norm : map.norms) {
    if (std::isfinite(norm)) longest = std::max(longest, norm);
  }
  for (Index i = 0; i < cells; ++i) {
    const bool finite = std::isfinite(map.norms[i]);
    const auto height = finite && longest > 0 ? std::lround(map.norms[i] / longest * bars)
                        : finite              ? 0
                                              : bars;
    picture.block(cells * scale + gap + bars - height, i * scale, height, scale)
        .setConstant(finite ? Picture::bar : Picture::none);
  }
  picture.write(path);
  std::printf("written to %s\n", path.c_str());
}

#endif

void run(const Options& options) {
  if (!options.checkpoint) std::printf("no checkpoint given: using the bundled gpt2-tiny\n");
  const std::string folder = options.checkpoint.value_or(GPT2_BUNDLED_CHECKPOINT);
  const auto positions = gpt2::from_pretrained<gpt2::GPT2PositionEmbeddings<double>>(folder);
  const Index n_positions = positions.wpe.num_embeddings();
  std::printf("wpe: [%td, %td]\n", n_positions, positions.wpe.embedding_dim());
  const Rows rows = rows_of(positions.wpe);
  print_map(map_of(rows, options.cells), n_positions);
  print_undirected(rows);
#ifdef GPT2_EXAMPLES_HAVE_PNG
  if (options.out) draw(*options.out, rows);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::optional<Options> options = parse_options(std::span(argv + 1, argv + argc));
    if (options) {
      run(*options);
    } else {
      std::fputs(usage, stdout);
    }
    if (std::fflush(stdout) != 0) throw std::runtime_error("cannot write to stdout");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "inspect_positions: %s\n", error.what());
    return 2;
  }
}
