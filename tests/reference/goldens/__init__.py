"""The parts of generate_reference.py, one module per kind of reference data."""

import os

# Which kernel PyTorch picks depends on the processor, and with it the last bit of a matrix product or of a
# random normal. The plainest kernels are the same everywhere. The libraries read these when they are loaded,
# which is why they are set here, before any module of this package imports torch.
os.environ["ATEN_CPU_CAPABILITY"] = "default"
os.environ["ONEDNN_MAX_CPU_ISA"] = "SSE41"
os.environ["MKL_CBWR"] = "COMPATIBLE"
