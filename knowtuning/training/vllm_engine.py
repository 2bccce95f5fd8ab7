"""vLLM as the engine that answers: a base with one LoRA adapter, on a GPU (extra `vllm`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the sizes that vLLM has kernels for


class VllmEngine:
    """A base under an adapter in vLLM, for `generate` in place of a model of transformers.

    It was written against vLLM's documentation (V1, 0.11 and later) and tested against a stand-in of the same names; it
    was not run on a GPU. Greedy answers agree with transformers up to ties of bfloat16; sampled ones are other samples
    from the same distribution.

    Args:
        base: folder or hub name.
        adapter: folder of a LoRA adapter, or None for the base itself.
        quantisation: "nf4" (which vLLM makes while it loads) or "none".
        dtype: of the computation.

    Raises:
        ModuleNotFoundError: vLLM is not installed.
    """

    def __init__(
        self, base: str | Path, adapter: str | Path | None = None, quantisation: str = "nf4", dtype: str = "bfloat16"
    ) -> None:
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ModuleNotFoundError as error:
            text = "engine is 'vllm', which is not installed: pip install 'knowtuning[vllm]' on a machine with a GPU."
            raise ModuleNotFoundError(text, name=error.name) from None
        self.vllm = vllm
        options: dict[str, Any] = {"quantization": "bitsandbytes"} if quantisation == "nf4" else {}
        self.adapter = None
        if adapter is not None:
            self.adapter = LoRARequest(Path(adapter).name, 1, str(adapter))
            options |= {"enable_lora": True, "max_lora_rank": _room_for(Path(adapter))}
        self.model = vllm.LLM(model=str(base), dtype=dtype, **options)

    def complete(
        self, prompts: Sequence[list[int]], decoding: dict[str, Any], max_new_tokens: int, end: int, seed: int
    ) -> list[list[int]]:
        """Continue each prompt (token ids); a continuation ends with the token `end`, unless it ran out of room.

        Args:
            decoding: options of transformers' `generate`, as in `generate.DECODINGS`.
            seed: prompt n is sampled with a seed of its own, made of this one and n, so that a prompt which is asked
                several times is not answered alike.
        """
        sampling = [
            self.vllm.SamplingParams(
                **_sampling(decoding), max_tokens=max_new_tokens, stop_token_ids=[end], seed=seed * len(prompts) + n
            )
            for n in range(len(prompts))
        ]
        asked = [self.vllm.TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        outputs = self.model.generate(asked, sampling, lora_request=self.adapter, use_tqdm=False)
        return [_ids(output.outputs[0], end) for output in outputs]


def _room_for(adapter: Path) -> int:
    """The smallest of vLLM's sizes that holds the adapter's rank."""
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    fitting = [size for size in RANKS if size >= rank]
    if not fitting:
        raise ValueError(
            f"{adapter.name}: LoRA rank {rank} is more than vLLM's {RANKS[-1]}; set engine='transformers'."
        )
    return fitting[0]


def _sampling(decoding: dict[str, Any]) -> dict[str, Any]:
    """Options of transformers in the words of vLLM, where temperature 0 is greedy and top_k -1 cuts nothing."""
    if not decoding["do_sample"]:
        return {"temperature": 0.0}
    return {
        "temperature": decoding["temperature"],
        "top_p": decoding["top_p"],
        "top_k": decoding["top_k"] or -1,
    }


def _ids(output: Any, end: int) -> list[int]:
    """Ids of one continuation; versions of vLLM differ in whether the token that stopped it is among them."""
    ids = list(output.token_ids)
    return [*ids, end] if output.finish_reason == "stop" and ids[-1:] != [end] else ids
