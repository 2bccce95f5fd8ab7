"""Training: prompts as tokens, models and adapters, SFT, DPO, generation, all on one engine of log-probabilities.

`packed` is that engine, `sft` and `dpo` are thin trainers over it; the dry run measures both before anything is paid.
"""

import logging
import os

# who trains what is nobody's business
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# on processors with AVX512-BF16 bitsandbytes looks for a kernel on the hub at import, tells of it, and does without
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
