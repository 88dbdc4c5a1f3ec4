// SPDX-License-Identifier: MIT
//
// GPT-2's position embeddings by themselves: config -> table -> position ids -> lookup.

#include <gpt2/config_json.hpp>
#include <gpt2/position_embeddings.hpp>
#include <gpt2/position_ids.hpp>
#include <iostream>

int main() {
  const gpt2::GPT2Config config = gpt2::parse_config(R"({"n_positions": 1024, "n_embd": 768})");
  const gpt2::GPT2PositionEmbeddings<float> positions(config);
  std::cout << "wpe: [" << positions.wpe.num_embeddings() << ", " << positions.wpe.embedding_dim() << "]\n";

  // One sequence: the positions 0, 1, 2, 3 give [4, 768].
  const auto position_ids = gpt2::arange<std::int64_t>(4);
  const gpt2::Matrix<float> sequence = positions(position_ids);
  std::cout << "position ids " << position_ids.transpose() << " give [" << sequence.rows() << ", "
            << sequence.cols() << "], first values:\n"
            << sequence.leftCols(5) << "\n";

  // A batch: every sequence gets the same positions, [2, 4, 768].
  gpt2::IdMatrix<std::int64_t> input_ids(2, 4);
  input_ids << 464, 3290, 20653, 582,  //
      464, 582, 20653, 3290;
  const gpt2::Tensor3<float> batch = positions(gpt2::position_ids_like(input_ids));
  std::cout << "a batch gives [" << batch.dimension(0) << ", " << batch.dimension(1) << ", "
            << batch.dimension(2) << "], and "
            << (gpt2::as_matrix(batch).topRows(4) == gpt2::as_matrix(batch).bottomRows(4) ? "equal"
                                                                                          : "unequal")
            << " rows for both sequences\n";

  // Decoding with 1,000 tokens in the cache: the next ones are at positions 1000, 1001, …, up to 1023.
  const gpt2::IdVector<int> last = gpt2::position_ids_like({11, 262, 886}, 1021);
  std::cout << "after 1021 tokens: positions " << last.transpose() << ", [" << positions(last).rows() << ", "
            << positions(last).cols() << "]\n";
  try {
    std::cout << positions(gpt2::position_ids_like({11, 262, 886}, 1022));
  } catch (const gpt2::IndexError& error) {
    std::cout << error.what() << "\n";
  }
}
