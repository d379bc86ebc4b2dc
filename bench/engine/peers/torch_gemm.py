"""GFLOP/s of oneDNN's bf16 products through PyTorch: `torch_gemm.py THREADS REPEATS M,N,K …`. Operands and result are bf16
already; the best of the repeats counts, as on the other side."""
import json
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))
repeats, rates = int(sys.argv[2]), []
for shape in sys.argv[3:]:
    m, n, k = map(int, shape.split(","))
    x, w = torch.randn(m, k, dtype=torch.bfloat16), torch.randn(n, k, dtype=torch.bfloat16)
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            began = time.perf_counter()
            torch.mm(x, w.t())
            times.append(time.perf_counter() - began)
    rates.append(2 * m * n * k / min(times) / 1e9)
print(json.dumps(rates))
