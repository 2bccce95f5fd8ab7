"""Training: prompts as tokens, models and adapters, SFT, DPO, generation."""

import atexit
import gc
import logging
import os
from importlib.util import find_spec
from unittest import mock

# TRL reports every trainer that is built to the hub; who trains what is nobody's business
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# On processors with AVX512-BF16 bitsandbytes looks for a kernel on the hub at import and tells of it on stderr, which
# every notebook would show; it does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# What is imported is never garbage: to look for some among it takes Python a second meanwhile, a quarter of one at the
# start of each training, and another second at the end.
_collecting = gc.isenabled()
gc.disable()
import torch  # noqa: E402

# As bitsandbytes is imported, functions of its that nobody here calls go through torch.compile, which loads a compiler.
if find_spec("bitsandbytes"):
    with mock.patch.object(torch, "compile", lambda function=None, **options: function or (lambda found: found)):
        import bitsandbytes  # noqa: F401
import peft  # noqa: E402, F401

if _collecting:
    gc.enable()
gc.freeze()
atexit.register(gc.freeze)
