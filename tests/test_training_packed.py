"""The engine gives what a model says of each text alone, loss and gradients, whatever the model is."""

import warnings

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model

from knowtuning.files import DataError
from knowtuning.training import packed as engine
from knowtuning.training.batches import batches
from knowtuning.training.packed import IGNORE, answer_log_probs, completion_log_probs, layout, pack, packed

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 100}
HEADS = SPECIAL | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE = HEADS | {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
SLIDING = SHAPE | {"sliding_window": 8}  # shorter than the texts
MIXED = SLIDING | {"layer_types": ["sliding_attention", "full_attention"]}
GPT = SPECIAL | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# GPT-OSS does not give its masks the positions in transformers 5.23; others know no packed rows at all
PACKED, PADDED = "packed", "padded"
MODELS = {
    "Llama": (hf.LlamaConfig(**SHAPE), PACKED),
    "Mistral, a window of 8": (hf.MistralConfig(**SLIDING), PACKED),
    "Mixtral, experts": (hf.MixtralConfig(**SHAPE, num_local_experts=4), PACKED),
    "Phi": (hf.PhiConfig(**SHAPE), PACKED),
    "Phi 3, a window of 8": (hf.Phi3Config(**SLIDING), PACKED),
    "Gemma": (hf.GemmaConfig(**SHAPE), PACKED),
    "Gemma 2, capped": (
        hf.Gemma2Config(**SLIDING, attn_logit_softcapping=1.0, final_logit_softcapping=2.0),
        PACKED,
    ),
    "Gemma 3, some layers with a window": (hf.Gemma3TextConfig(**MIXED), PACKED),
    "Qwen 2, some layers with a window": (hf.Qwen2Config(**MIXED, use_sliding_window=True), PACKED),
    "Qwen 3": (hf.Qwen3Config(**SHAPE), PACKED),
    "Qwen 3, experts": (hf.Qwen3MoeConfig(**SHAPE, **MOE), PACKED),
    "StableLM": (hf.StableLmConfig(**SHAPE), PACKED),
    "OLMo 2": (hf.Olmo2Config(**SHAPE), PACKED),
    "Cohere, scaled": (hf.CohereConfig(**SHAPE, logit_scale=0.5), PACKED),
    "Cohere 2, a window of 8": (hf.Cohere2Config(**SLIDING), PACKED),
    "Granite, scaled": (hf.GraniteConfig(**SHAPE, logits_scaling=4.0, attention_multiplier=0.5), PACKED),
    "SmolLM 3": (hf.SmolLM3Config(**SHAPE), PACKED),
    "Starcoder 2, a window of 8": (hf.Starcoder2Config(**SLIDING), PACKED),
    "Llama 4, chunks of 16": (
        hf.Llama4TextConfig(**SHAPE, attention_chunk_size=16, num_local_experts=2, intermediate_size_mlp=48),
        PACKED,
    ),
    "GLM 4": (hf.Glm4Config(**SHAPE), PACKED),
    "GPT-2, learnt positions": (hf.GPT2Config(**GPT), PACKED),
    "GPT-J": (hf.GPTJConfig(**GPT, rotary_dim=4), PACKED),
    "GPT-NeoX": (hf.GPTNeoXConfig(**HEADS, intermediate_size=48), PACKED),
    "GPT-Neo, a window of 8": (
        hf.GPTNeoConfig(
            **SPECIAL,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=8,
            max_position_embeddings=128,
        ),
        PACKED,
    ),
    "GPT-OSS, sinks": (hf.GptOssConfig(**MIXED, num_local_experts=4, num_experts_per_tok=2), PADDED),
    "Falcon, rotary": (hf.FalconConfig(**HEADS, alibi=False), PADDED),
    "Falcon, biases by distance": (hf.FalconConfig(**HEADS, alibi=True), PADDED),
    "Bloom": (hf.BloomConfig(**SPECIAL, hidden_size=32, n_layer=2, n_head=4), PADDED),
    "MPT": (hf.MptConfig(**SPECIAL, d_model=32, n_layers=2, n_heads=4, max_seq_len=128), PADDED),
    "OPT": (hf.OPTConfig(**HEADS, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=128), PADDED),
    "Mamba, no attention": (
        hf.MambaConfig(**SPECIAL, hidden_size=32, num_hidden_layers=2, state_size=8),
        PADDED,
    ),
    "RecurrentGemma": (hf.RecurrentGemmaConfig(**SHAPE, lru_width=32, attention_window_size=8), PADDED),
}


def build(config, deviation=0.25):
    """A model with weights so large that what a token sees changes what it predicts, under an adapter that counts."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=deviation)
    model.config.use_cache = False
    # PEFT refuses Mamba's other matrices, and Llama 4's router is one whose output is none
    targets = {"mamba": ["in_proj", "x_proj"], "llama4_text": ["q_proj", "v_proj"]}.get(config.model_type, "all-linear")
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def texts():
    """Prompts and answers, among them two that begin alike."""
    chance = torch.Generator().manual_seed(1)
    sizes = [(5, 7), (12, 20), (30, 3), (1, 9)]
    pairs = [(torch.randint(3, 100, (p + a,), generator=chance).tolist(), p) for p, a in sizes]
    pairs.append(([*pairs[1][0][:20], 7, 8, 9], 12))
    return [ids[:p] for ids, p in pairs], [ids[p:] for ids, p in pairs]


def alone(model):
    """Summed log-probability of each answer by a pass of its own, all logits, nothing of ours."""
    sums = []
    for prompt, answer in zip(*texts(), strict=True):
        ids = torch.tensor([prompt + answer])
        log_probs = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        sums.append(log_probs.gather(-1, ids[0, 1:, None])[len(prompt) - 1 :].sum())
    return torch.stack(sums)


def gradients(model, sums):
    model.zero_grad()
    (sums * torch.linspace(0.5, 1.5, len(sums))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(ours, theirs):
    largest = max(gradient.abs().max() for gradient in theirs.values())
    assert ours.keys() == theirs.keys() and largest > 1e-2
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-3, atol=1e-4 * largest), name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_architecture_has_the_losses_and_gradients_of_texts_alone(name, monkeypatch):
    config, expected = MODELS[name]
    model, batch = build(config), engine.pack_answers(*texts())
    monkeypatch.setattr(engine, "ROW", 60)  # several rows
    assert layout(model) == expected
    with packed(model):
        assert model.get_base_model().reads_packed_rows == (expected == PACKED)
        sums, counts = answer_log_probs(model, batch)
    plain = alone(model)
    assert counts.tolist() == [len(answer) for answer in texts()[1]]
    assert torch.allclose(sums, plain, rtol=1e-4, atol=1e-3)
    assert_same_gradients(gradients(model, sums), gradients(model, plain))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_layouts_and_both_attentions_agree(attention):
    model, batch = build(MODELS["Llama"][0]), engine.pack_answers(*texts())
    model.set_attn_implementation(attention)
    padded, _ = answer_log_probs(model, batch)
    with packed(model):
        rows, _ = answer_log_probs(model, batch)
    assert torch.allclose(rows, padded, atol=1e-4)


def test_activations_computed_anew_change_no_gradient():
    model, batch = build(MODELS["Llama"][0]).train(), engine.pack_answers(*texts())
    with packed(model):
        kept = gradients(model, answer_log_probs(model, batch)[0])
        model.activation_checkpointing_enable({"use_reentrant": False})
        assert_same_gradients(gradients(model, answer_log_probs(model, batch)[0]), kept)


@pytest.mark.parametrize("max_tokens", [1, 50, 8192])
@pytest.mark.parametrize("name", ["Llama", "Bloom"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_completions_are_scored_in_any_company(name, max_tokens):
    model = build(MODELS[name][0])
    scores = dict(completion_log_probs(model, *texts(), max_tokens))
    assert [scores[place] for place in range(len(scores))] == pytest.approx(alone(model).tolist(), abs=1e-3)


def test_batches_are_sorted_and_bounded():
    lengths = [9, 2, 5, 2, 30]
    made = list(batches(lengths, 12))
    assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12 for batch in made)
    assert [len(batch) for batch in batches([1] * 5, 100, most=2)] == [2, 2, 1]


def test_the_first_token_of_a_text_is_predicted_by_nothing():
    batch = pack([[5, 6], [7, 8, 9]], [[5, 6], [IGNORE, IGNORE, 9]])
    model = build(MODELS["Llama"][0])
    with packed(model):
        _, counts = answer_log_probs(model, batch)
    assert counts.tolist() == [1, 1] and batch["labels"].tolist() == [[IGNORE, 6, IGNORE, IGNORE, 9]]


def test_a_model_that_gets_padding_is_told_of():
    model = build(MODELS["Bloom"][0])
    with pytest.warns(UserWarning, match="BloomForCausalLM reads texts in one row otherwise than alone"), packed(model):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with packed(build(MODELS["Llama"][0])):
            pass


def test_half_precision_is_rounding_and_company_is_not():
    """The tolerance of bfloat16 lets rounding pass, and no model whose texts see one another."""
    assert layout(build(MODELS["Llama"][0], deviation=0.1).bfloat16()) == PACKED
    assert layout(build(MODELS["Falcon, rotary"][0], deviation=0.1).bfloat16()) == PADDED


def test_models_that_cannot_be_trained_are_refused_in_one_sentence(monkeypatch):
    bert = hf.BertConfig(**HEADS, intermediate_size=48)
    with pytest.raises(DataError, match="BertLMHeadModel looks ahead at tokens that it is to predict: use a causal"):
        layout(build(bert))
    broken = build(MODELS["Llama"][0])
    with torch.no_grad():
        next(weight for name, weight in broken.named_parameters() if "lora_A" in name).fill_(float("nan"))
    with pytest.raises(DataError, match="not finite: use another base or dtype"):
        layout(broken)
    model = build(MODELS["Bloom"][0])
    own = model.get_base_model().forward
    monkeypatch.setattr(
        model.get_base_model(), "forward", lambda input_ids, attention_mask=None, **_: own(input_ids.flip(0))
    )
    with pytest.raises(DataError, match="otherwise than alone, even padded: use another base"):
        layout(model)
