"""Measured rates of the steps, from which times are estimated before they are known."""

from __future__ import annotations

#: Processor seconds per byte of text, on two cores of an Intel Xeon with AVX-512: 629,849 dirty pairs of 109 bytes
#: (benches/runs/2026-11-30-2314-scaling.json). Generated text, whose words repeat, takes a quarter.
CLEAN, CLEAN_NEAR = 1.7e-8, 4.1e-8
#: Processor seconds per byte of clean text, by the same run: tokenizing (a tokenizer that is trained takes seconds
#: more), writing plain and compressed text.
TOKENIZE, WRITE, WRITE_COMPRESSED = 1.6e-7, 2.5e-9, 9e-9
#: Processor seconds per record of a selection, by the same run.
SELECT = 2.5e-7
#: How many times faster than on one core a pass becomes at most on one machine: what its busiest thread allows
#: (benches/runs/2026-12-01-0020-scaling.json, 64 threads).
MOST_CORES = {
    "clean": 8.3,
    "clean, near": 12.0,
    "tokenize": 38.3,
    "select": 4.9,
    "write": 5.0,
    "write, compressed": 21.8,
}
#: FLOPs per second of one core with bfloat16 (`base`, scored: benches/runs/2026-11-28-1206-models-2500.md).
CORE_FLOPS = 1.6e11
#: FLOPs per second of an H100 in bfloat16 without sparsity (its data sheet), and the share of them that is assumed
#: because nothing was measured on a GPU.
GPU_FLOPS, GPU_SHARE = 9.89e14, 0.3
#: Bytes of text in a token, over both sides of the clean pairs of the first run, vocabulary of 16,000.
BYTES_PER_TOKEN = 4.2
#: Bytes on disk: for each record that is cleaned and selected, and for each clean pair that is tokenized (and for each
#: token) and scored. Bytes of a record's fingerprint in a table and in a temporary file.
CLEAN_DISK, SELECT_DISK, TOKENIZE_DISK, TOKEN_DISK, SCORE_DISK = 33, 5, 26, 2, 18
TABLE_MEMORY, FINGERPRINT_DISK, NEAR_DISK = 43, 16, 448
