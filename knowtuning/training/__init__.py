"""Training: prompts as tokens, models and adapters, SFT, DPO, generation."""

import logging
import os

# TRL reports every trainer that is built to the hub; who trains what is nobody's business
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# On processors with AVX512-BF16 bitsandbytes looks for a kernel on the hub at import and tells of it on stderr, which
# every notebook would show; it does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
