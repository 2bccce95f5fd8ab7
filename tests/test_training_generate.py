"""Answers: batches change nothing, seeds repeat, and vLLM stands behind the same function."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch

from knowtuning.recipe import get_recipe
from knowtuning.training.generate import DECODINGS, generate, load_policy
from knowtuning.training.models import load_base, load_tokenizer, new_adapter, save_adapter
from knowtuning.training.prompts import encode

QUESTIONS = ["What is rust?", "Why?", "A much longer question about nothing in particular, is it not?", "And salt?"]


@pytest.fixture(scope="module")
def tokenizer(untrained_base):
    return load_tokenizer(untrained_base)


@pytest.fixture(scope="module")
def model(untrained_base):
    """The base under an adapter that moves it so far that it does not say its last token again and again."""
    adapted = new_adapter(load_base(untrained_base, "nf4"), get_recipe("smoke"), seed=0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return adapted.eval()


@pytest.fixture
def shapes(model, monkeypatch):
    """Rows and columns of the prompts of each batch."""
    seen, whole = [], model.generate

    def watched(input_ids, **options):
        seen.append(tuple(input_ids.shape))
        return whole(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", watched)
    return seen


def test_batched_answers_equal_single_ones(model, tokenizer):
    together = generate(model, tokenizer, QUESTIONS, max_new_tokens=12)
    alone = [generate(model, tokenizer, [question], max_new_tokens=12)[0] for question in QUESTIONS]
    assert together == alone and any(answer["answer"] for answer in together)


def test_an_answer_ends_before_the_end_token(model, tokenizer, monkeypatch):
    ids = tokenizer("It is red.", add_special_tokens=False)["input_ids"]
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id

    def said(input_ids, **options):
        rows = [[*ids, end, pad], [*ids, ids[0], ids[1]]]
        return torch.cat([input_ids, torch.tensor(rows)], dim=1)

    monkeypatch.setattr(model, "generate", said)
    ended, cut = generate(model, tokenizer, ["Why?", "What is it?"])
    assert ended == {"answer": "It is red.", "tokens": len(ids), "finished": True}
    assert cut["tokens"] == len(ids) + 2 and not cut["finished"]


def test_a_seed_repeats_samples(model, tokenizer):
    sampled = [generate(model, tokenizer, QUESTIONS, "sampled", 12, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_batches_keep_to_their_size_and_to_the_tokens(model, tokenizer, shapes):
    generate(model, tokenizer, QUESTIONS, max_new_tokens=2, batch_size=3)
    assert [rows for rows, _ in shapes] == [3, 1] and shapes[0][1] < shapes[1][1]
    shapes.clear()
    generate(model, tokenizer, QUESTIONS, max_new_tokens=2, max_tokens=60)
    assert len(shapes) > 1 and all(rows == 1 or rows * (width + 2) <= 60 for rows, width in shapes)


def test_no_questions_no_answers(model, tokenizer):
    assert generate(model, tokenizer, []) == []


def test_an_unknown_decoding_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="greedy, sampled"):
        generate(model, tokenizer, ["Why?"], "beam")


def test_a_policy_is_the_base_with_or_without_an_adapter(untrained_base, model, tokenizer, tmp_path):
    save_adapter(model, tmp_path / "sft", "A test.")
    recipe = get_recipe("smoke")
    for adapter, expected in ((tmp_path / "sft", model), (None, load_base(untrained_base, "nf4"))):
        policy = load_policy(recipe, untrained_base, adapter)
        asked = (tokenizer, QUESTIONS[:2], "greedy", 8)
        assert generate(policy, *asked) == generate(expected, *asked)


# --- vLLM, by a stand-in with the names that its documentation gives


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class LLM:
    """Says the prompt's last token again, then stops; the second answer runs out of room."""

    def __init__(self, model, **options):
        self.made = {"model": model, **options}

    def generate(self, prompts, sampling_params, *, use_tqdm=True, lora_request=None):
        self.asked = {"prompts": prompts, "sampling": sampling_params, "lora": lora_request}
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=(prompt["prompt_token_ids"][-1], 9), finish_reason=why)])
            for prompt, why in zip(prompts, ["stop", "length", "stop"], strict=False)
        ]


@pytest.fixture
def vllm(monkeypatch):
    module, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    module.LLM, module.SamplingParams, module.TokensPrompt = LLM, SimpleNamespace, dict
    request.LoRARequest = LoRARequest
    for one in (module, lora, request):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    return module


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "adapter_config.json").write_text('{"r": 12}')
    return tmp_path / "sft"


PAPER = get_recipe("smoke").replace(dtype="bfloat16", evaluation={"engine": "vllm"})


def test_vllm_loads_the_base_and_the_adapter(vllm, adapter):
    policy = load_policy(PAPER, "a/base", adapter)
    assert policy.model.made == {
        "model": "a/base",
        "dtype": "bfloat16",
        "quantization": "bitsandbytes",
        "enable_lora": True,
        "max_lora_rank": 16,
    }
    assert policy.adapter == LoRARequest("sft", 1, str(adapter))
    bare = load_policy(PAPER.replace(quantisation="none"), "a/base")
    assert bare.adapter is None and bare.model.made == {"model": "a/base", "dtype": "bfloat16"}


def test_vllm_is_asked_the_same_prompts_and_answers_in_the_same_form(vllm, adapter, tokenizer):
    policy = load_policy(PAPER, "a/base", adapter)
    answers = generate(policy, tokenizer, QUESTIONS[:3], "greedy", 7, seed=3)
    prompts = [encode(tokenizer, question, "")[0] for question in QUESTIONS[:3]]
    assert policy.model.asked["prompts"] == [{"prompt_token_ids": prompt} for prompt in prompts]
    assert policy.model.asked["lora"] is policy.adapter
    for sampling in policy.model.asked["sampling"]:
        assert sampling.temperature == 0 and sampling.max_tokens == 7
        assert sampling.stop_token_ids == [tokenizer.eos_token_id]
    assert [(row["tokens"], row["finished"]) for row in answers] == [(2, True), (2, False), (2, True)]
    assert answers[0]["answer"] == tokenizer.decode([prompts[0][-1], 9]).strip()


def test_vllm_samples_with_the_same_settings_and_a_seed_for_each_prompt(vllm, tokenizer):
    policy = load_policy(PAPER, "a/base")
    for decoding, top_k in (("sampled", 50), ("pure", -1), ("nucleus", -1)):
        generate(policy, tokenizer, ["Why?", "Why?"], decoding, seed=3)
        one, other = policy.model.asked["sampling"]
        assert one.seed != other.seed and one.top_k == top_k
        assert (one.temperature, one.top_p) == (DECODINGS[decoding]["temperature"], DECODINGS[decoding]["top_p"])
        generate(policy, tokenizer, ["Why?", "Why?"], decoding, seed=3)
        assert policy.model.asked["sampling"][0].seed == one.seed


def test_a_stop_token_that_vllm_gives_back_is_not_counted(vllm, tokenizer, monkeypatch):
    policy = load_policy(PAPER, "a/base")
    output = SimpleNamespace(token_ids=[9, tokenizer.eos_token_id], finish_reason="stop")
    monkeypatch.setattr(policy.model, "generate", lambda *given, **options: [SimpleNamespace(outputs=[output])])
    [answer] = generate(policy, tokenizer, ["Why?"])
    assert answer["tokens"] == 1 and answer["finished"]


def test_a_rank_that_vllm_cannot_hold_is_refused(vllm, adapter):
    (adapter / "adapter_config.json").write_text('{"r": 600}')
    with pytest.raises(ValueError, match="rank 600"):
        load_policy(PAPER, "a/base", adapter)


def test_without_vllm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModuleNotFoundError, match="knowtuning\\[vllm\\]"):
        load_policy(PAPER, "a/base")
