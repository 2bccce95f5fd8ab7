"""One forward pass for many texts gives what the model says of each text alone, whatever the model is."""

import random

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from knowtuning.training import likelihood, scored
from knowtuning.training.batches import batches
from knowtuning.training.folding import folded
from knowtuning.training.likelihood import completion_nll
from knowtuning.training.tree import Tree

SHAPE = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FALCON = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
OPT = FALCON | {"ffn_dim": 64, "word_embed_proj_dim": 32}
GPT2 = {"vocab_size": 200, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
# configuration, attention, whether the head can be had by itself, whether texts may share a row
MODELS = {
    "Llama": (transformers.LlamaConfig(**SHAPE), "sdpa", True, True),
    "Llama, eager": (transformers.LlamaConfig(**SHAPE), "eager", True, True),
    "GPT-2, learnt positions": (transformers.GPT2Config(**GPT2), "sdpa", True, True),
    "OPT, positions with an offset": (transformers.OPTConfig(**OPT), "sdpa", True, True),
    "Qwen3, normalised queries": (transformers.Qwen3Config(**SHAPE), "sdpa", True, True),
    "Mixtral, experts": (transformers.MixtralConfig(**SHAPE, num_local_experts=4), "sdpa", True, True),
    "Mistral, a window of 8": (transformers.MistralConfig(**SHAPE, sliding_window=8), "sdpa", True, False),
    "Gemma 3, some layers with a window": (
        transformers.Gemma3TextConfig(**SHAPE, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
        "sdpa",
        True,
        False,
    ),
    "Gemma 2, logits capped": (transformers.Gemma2Config(**SHAPE), "eager", False, True),
    "Cohere, logits scaled": (transformers.CohereConfig(**SHAPE), "sdpa", False, True),
    "Falcon, biases by distance": (transformers.FalconConfig(**FALCON, alibi=True), "sdpa", True, False),
    "Mamba, no attention": (transformers.MambaConfig(**FALCON), "eager", True, False),
}


def build(config, attention="sdpa"):
    """A model with weights so large that what a token sees changes what it predicts."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model


@pytest.fixture(scope="module")
def texts():
    """Prompts and completions: short and long, shared and not, two alike, one that begins another."""
    chance = random.Random(0)

    def draw(count):
        return [chance.randrange(3, 200) for _ in range(count)]

    prompts = [[1, *draw(count)] for count in (5, 12, 30)]
    pairs = [(prompt, draw(count)) for prompt in prompts for count in (3, 8, 1, 15)]
    prompt, completion = pairs[5]
    pairs += [(prompt, completion), (prompt, completion[:3]), (prompt + completion[:2], [7, 8]), ([1], [4, 5])]
    return [prompt for prompt, _ in pairs], [completion for _, completion in pairs]


@torch.no_grad()
def one_at_a_time(model, prompts, completions):
    found = []
    for prompt, completion in zip(prompts, completions, strict=True):
        log_probs = model(torch.tensor([prompt + completion])).logits[0, -len(completion) - 1 : -1].log_softmax(-1)
        found.append(-log_probs.gather(-1, torch.tensor(completion)[:, None]).sum().item())
    return found


def assert_same(found, expected):
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_says_what_it_says_of_each_text_alone(name, texts):
    config, attention, apart, in_trees = MODELS[name]
    model = build(config, attention)
    stack, _ = likelihood._split(model)
    assert (stack is not model) == apart
    assert likelihood._obeys_masks(stack, 45) == in_trees
    for max_tokens in (1, 100, 5000):
        assert_same(completion_nll(model, *texts, pad=0, max_tokens=max_tokens), one_at_a_time(model, *texts))


def test_a_text_next_to_others_is_what_it_is_alone(texts):
    model = build(MODELS["Llama"][0])
    prompts, completions = texts
    together = completion_nll(model, prompts, completions, pad=0, max_tokens=5000)
    back = completion_nll(model, prompts[::-1], completions[::-1], pad=0, max_tokens=5000)[::-1]
    alone = [completion_nll(model, [p], [c], 0, 5000)[0] for p, c in zip(prompts, completions, strict=True)]
    assert_same(together, alone)
    assert_same(back, alone)


@pytest.fixture
def watched(monkeypatch):
    """A Llama, and what its layers and its head were given: token ids, and rows of logits."""
    model, ids, rows = build(MODELS["Llama"][0]), [], []

    def watch(module, args, options):
        if options["input_ids"].tolist() != scored.PROBE:
            ids.append(options["input_ids"])

    model.base_model.register_forward_pre_hook(watch, with_kwargs=True)
    model.lm_head.register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[:-1].numel()))
    monkeypatch.setattr(likelihood, "_split", lambda model: (model.base_model, model.lm_head))
    return model, ids, rows


def test_what_texts_share_is_computed_once_and_logits_only_where_they_count(watched):
    model, ids, rows = watched
    prompt = list(range(10, 30))
    completions = [[40, 41, 42], [40, 43], [44]]
    completion_nll(model, [prompt] * 3, completions, pad=0, max_tokens=1000)
    [computed] = ids
    assert computed.tolist() == [[*prompt, 40, 41]]
    assert rows == [3]  # six tokens, predicted at the prompt's end, at 40 and at 41


def test_no_pass_is_larger_than_the_budget_but_for_a_text_that_is(watched, texts):
    model, ids, _ = watched
    completion_nll(model, *texts, pad=0, max_tokens=40)
    assert any(one.numel() > 40 for one in ids)
    assert all(one.numel() <= 40 or len(one) == 1 for one in ids)
    longest = max(len(prompt) + len(completion) - 1 for prompt, completion in zip(*texts, strict=True))
    assert max(one.shape[1] for one in ids) == longest


def test_logits_are_made_a_few_rows_at_a_time(watched, texts, monkeypatch):
    model, _, rows = watched
    monkeypatch.setattr(likelihood, "LOGITS", 1000)  # five rows of 200
    found = completion_nll(model, *texts, 0, 5000)
    assert max(rows) == 5
    assert_same(found, one_at_a_time(model, *texts))


def test_many_short_texts_do_not_make_one_long_row(watched):
    model, ids, _ = watched
    completion_nll(model, [[1]] * 100, [[n, n + 1, n + 2] for n in range(3, 103)], pad=0, max_tokens=100_000)
    [computed] = ids
    assert computed.shape[1] <= likelihood.ROOM


@pytest.fixture
def adapted():
    """A Llama under an adapter that changes what it says."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(build(MODELS["Llama"][0]), config).eval()


def test_an_adapter_counts_and_counts_not_when_it_is_off(adapted, texts):
    on = completion_nll(adapted, *texts, 0, 5000)
    assert_same(on, one_at_a_time(adapted, *texts))
    with adapted.disable_adapter():
        off = completion_nll(adapted, *texts, 0, 5000)
        assert_same(off, one_at_a_time(adapted, *texts))
    assert max(abs(a - b) for a, b in zip(on, off, strict=True)) > 0.1


def test_folding_gives_the_weights_back_bit_for_bit(adapted):
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), folded(adapted):
        changed = [name for name, tensor in adapted.state_dict().items() if not torch.equal(tensor, before[name])]
        assert len(changed) == 4  # two matrices in each of two layers
        raise KeyboardInterrupt
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state_dict().items())
    assert not any(module.merged for module in adapted.modules() if hasattr(module, "merged"))


def test_only_float32_is_folded(adapted):
    half = adapted.to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    with folded(half):
        assert all(torch.equal(tensor, before[name]) for name, tensor in half.state_dict().items())


def test_an_adapter_that_was_merged_stays_merged(adapted):
    adapted.merge_adapter()
    with folded(adapted):
        pass
    assert all(module.merged for module in adapted.modules() if hasattr(module, "merged"))


def test_batches_are_sorted_and_bounded():
    assert list(batches([5, 2, 3, 9], max_tokens=6)) == [[1, 2], [0], [3]]
    assert list(batches([4] * 5, max_tokens=100, most=2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], max_tokens=6)) == []


def test_a_tree_holds_what_texts_begin_with_once():
    tree = Tree([[1, 9], [1, 5, 6], [1, 5, 7], [1, 5]])
    assert tree.ids == [1, 5, 6, 7, 9]
    assert tree.positions == [0, 1, 2, 2, 1]
    assert tree.ends == [5, 4, 3, 4, 5]
    assert tree.paths == [[0, 4], [0, 1, 2], [0, 1, 3], [0, 1]]
