"""Running twice must write the same bytes."""

import torch
import transformers


def make_torch_repeatable() -> None:
    # One thread: the order in which a sum is formed must not depend on the number of cores.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
