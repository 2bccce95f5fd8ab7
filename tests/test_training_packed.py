"""Leaving padding out changes what is computed, and nothing of what comes out."""

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from knowtuning.training import head
from knowtuning.training.lora import one_product
from knowtuning.training.models import load_base, new_adapter
from knowtuning.training.packed import IGNORE, pack, packed
from knowtuning.training.rmsnorm import shorter_norms
from knowtuning.training.rotary import turned_in_place
from knowtuning.training.scored import last_mlp_where_used
from knowtuning.training.swiglu import SwiGlu, swiglu_in_place


def sequences(vocabulary):
    """Twenty rows of very different length; some begin alike, one is the beginning of others, two are the same."""
    chance = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 60, (20,), generator=chance)
    rows = [torch.randint(5, vocabulary, (int(length),), generator=chance).tolist() for length in lengths]
    rows[3:6] = [rows[2] + row for row in rows[3:6]]
    rows[4][len(rows[2]) : len(rows[2]) + 2] = rows[3][len(rows[2]) : len(rows[2]) + 2]
    rows[9] = rows[8]
    return [rows[number] for number in torch.randperm(20, generator=chance).tolist()]


def unscored(rows):
    """The rows' labels, whose first two tokens carry none."""
    return [[IGNORE] * 2 + row[2:] for row in rows]


def of_model(batch):
    """What of a batch the layers are given."""
    heads = ("labels", "before", "scored", "label_at", "sequence_of")
    return {name: tensor for name, tensor in batch.items() if name not in heads}


def scored_by(model, batch):
    return model(**{name: tensor for name, tensor in batch.items() if name != "sequence_of"})


def grouped():
    """A model whose queries share keys and values, as larger ones do."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


@pytest.mark.parametrize("kind", ["lab", "grouped"])
def test_states_and_gradients_are_those_of_each_sequence_alone(untrained_base, kind):
    model = grouped() if kind == "grouped" else AutoModelForCausalLM.from_pretrained(str(untrained_base)).eval()
    rows = sequences(model.config.vocab_size)
    found = []
    for together in (False, True):
        model.zero_grad()
        if together:
            batch = pack(rows, rows)
            with packed(model):
                row = model.base_model(**of_model(batch), use_cache=False).last_hidden_state[0]
            # each sequence reads its own tokens' states out of the row, and so sends its gradient back to them
            states = torch.cat([row[at[: len(seq) - 1]] for at, seq in zip(batch["token_at"], rows, strict=True)])
        else:
            alone = [model.base_model(torch.tensor([row[:-1]]), use_cache=False).last_hidden_state[0] for row in rows]
            states = torch.cat(alone)
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).mean().backward()
        found.append((states.detach(), model.base_model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6) and found[0][1].abs().max() > 1e-5


def test_a_token_stands_in_a_packed_row_once_for_all_that_is_before_it():
    rows = sequences(100)
    batch = pack(rows, rows)
    beginnings = {tuple(row[:end]) for row in rows for end in range(1, len(row))}
    assert batch["input_ids"].shape == (1, len(beginnings)) == batch["position_ids"].shape
    assert len(beginnings) < sum(len(row) - 1 for row in rows)
    for at, row in zip(batch["token_at"], rows, strict=True):
        assert batch["input_ids"][0, at[: len(row) - 1]].tolist() == row[:-1]
        assert batch["position_ids"][0, at[: len(row) - 1]].tolist() == list(range(len(row) - 1))
        assert len(set(at[len(row) - 2 :].tolist())) == 1  # the last token fills the row up


def test_a_token_is_scored_once_where_it_follows_the_same():
    rows = [[5, 6, 7, 8], [5, 6, 7, 9], [5, 6, 4]]
    batch = pack(rows, unscored(rows))
    assert batch["labels"].tolist() == [[4, 7, 8, 9]]
    assert batch["before"].tolist() == [1, 1, 2, 2] and batch["scored"].tolist() == [1, 2]
    assert batch["label_at"].tolist() == [1, 2, 1, 3, 0]
    assert batch["sequence_of"].tolist() == [0, 0, 1, 1, 2]


def test_a_first_token_never_carries_a_label():
    assert pack([[5, 6], [7, 8]], [[5, 6], [7, 8]])["labels"].tolist() == [[6, 8]]
    assert pack([[5], [7, 8]], [[5], [7, 8]])["labels"].tolist() == [[8]]
    assert pack([[5, 6]], [[IGNORE] * 2])["labels"].tolist() == [[]]


def test_the_attention_of_before_comes_back(untrained_base):
    model = AutoModelForCausalLM.from_pretrained(str(untrained_base))
    before = model.config._attn_implementation
    with packed(model), pytest.raises(ValueError, match="packed attention needs a batch"):
        model.base_model(input_ids=torch.tensor([[5, 6]]))
    assert model.config._attn_implementation == before
    model(torch.tensor([[5, 6]]))


@pytest.mark.parametrize("logits", [2**24, 700])
def test_the_head_gives_log_probs_and_gradients_of_a_full_log_softmax(monkeypatch, logits):
    monkeypatch.setattr(head, "LOGITS", logits)
    model = grouped().requires_grad_(False)
    rows = sequences(model.config.vocab_size)
    batch = pack(rows, unscored(rows))
    found = []
    for ours in (False, True):
        model.model.layers[0].mlp.up_proj.weight.requires_grad_(True).grad = None
        if ours:
            with packed(model):
                log_probs = scored_by(model, batch)
        else:
            alone = [model(torch.tensor([row])).logits[0, 1:-1].log_softmax(-1) for row in rows]
            targets = [torch.tensor(row[2:], dtype=torch.long)[:, None] for row in rows]
            log_probs = torch.cat([each.gather(-1, of)[:, 0] for each, of in zip(alone, targets, strict=True)])
        (log_probs * torch.linspace(0.5, 2, len(log_probs))).sum().backward()
        found.append((log_probs.detach(), model.model.layers[0].mlp.up_proj.weight.grad.clone()))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5) and found[0][1].abs().max() > 1e-3


def test_a_model_that_caps_its_logits_is_scored_by_its_own(monkeypatch):
    model = grouped()
    whole = model.forward

    def capped(**options):
        output = whole(**options)
        output.logits = 5 * torch.tanh(output.logits / 5)
        return output

    model.lm_head.weight.data *= 50
    model.forward = capped
    row = [5, 6, 7, 8]
    expected = model(input_ids=torch.tensor([row])).logits[0, :-1].log_softmax(-1)
    with packed(model):
        found = scored_by(model, pack([row], [row]))
    assert torch.allclose(found, expected.gather(-1, torch.tensor(row[1:])[:, None])[:, 0], atol=1e-5)
    assert model.forward is capped


def test_lora_in_one_product_is_left_alone_where_it_would_not_be_exact(untrained_base):
    from knowtuning.recipe import get_recipe

    for quantisation, dtype, changed in (("none", "float32", 14), ("none", "bfloat16", 0), ("nf4", "float32", 0)):
        model = new_adapter(load_base(untrained_base, quantisation, dtype), get_recipe("smoke"), 0)
        with one_product(model):
            assert sum("forward" in module.__dict__ for module in model.modules()) == changed
        assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("last", ["plain", "looks at its neighbours"])
def test_the_last_mlp_computes_scored_tokens_only_where_no_other_need_it(last):
    model = grouped()
    layers, seen = model.model.layers, []
    if last == "looks at its neighbours":
        own = layers[-1].mlp.forward
        layers[-1].mlp.forward = lambda hidden: own(hidden + hidden.roll(1, -2))
    before = layers[-1].mlp.__dict__.get("forward")
    layers[-1].mlp.up_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-2]))
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    whole = model.model(ids).last_hidden_state.flatten(0, 1)
    with last_mlp_where_used(model.model) as use:
        for rows in (torch.tensor([1, 2, 7]), torch.tensor([0])):
            use(rows)
            found = model.model(ids).last_hidden_state.flatten(0, 1)
            assert torch.allclose(found[rows], whole[rows], atol=1e-6)
    assert seen[-2:] == ([3, 1] if last == "plain" else [4, 4])
    assert layers[-1].mlp.__dict__.get("forward") is before
    assert torch.equal(model.model(ids).last_hidden_state.flatten(0, 1), whole)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"]])
def test_lora_in_one_product_has_the_gradients_of_three(targets):
    config = LoraConfig(r=3, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(grouped(), config).train()
    ids, found = torch.tensor([[5, 6, 7, 8]]), []
    for ours in (False, True):
        model.zero_grad()
        with one_product(model) if ours else nullcontext():
            loss = model(ids, labels=ids).loss
            loss.backward()
        found.append((loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}))
    (plain, expected), (one, gradients) = found
    assert torch.allclose(plain, one, atol=1e-6) and len(gradients) == 4 * len(targets)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name
        assert gradient.abs().max() > 0


def assert_alike(theirs, ours):
    """Two losses, each with its gradients by name, are the same, and no gradient is missing or all of them zero."""
    (plain, expected), (one, gradients) = theirs, ours
    assert torch.allclose(plain, one, atol=1e-6) and gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2


@pytest.mark.parametrize("kind", ["with biases", "plain"])
def test_swiglu_in_place_has_the_states_and_gradients_of_the_models_own(kind):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    shape |= {"num_attention_heads": 4, "mlp_bias": kind == "with biases"}
    model, ids = LlamaForCausalLM(LlamaConfig(**shape)), torch.tensor([[5, 6, 7, 8]])
    found = []
    for ours in (False, True):
        model.zero_grad()
        with swiglu_in_place(model) if ours else nullcontext():
            assert sum("forward" in vars(module) for module in model.modules()) == 2 * ours
            loss = model(ids, labels=ids).loss
            loss.backward()
        found.append((loss.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}))
    assert not any("forward" in vars(module) for module in model.modules())
    assert_alike(*found)


def test_swiglu_is_left_alone_where_it_is_another_or_somebody_else_replaced_it():
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    other = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=100, hidden_act="gelu"))
    replaced = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=100))
    mlp = replaced.model.layers[0].mlp
    mlp.forward = own = mlp.forward
    with swiglu_in_place(other), swiglu_in_place(replaced):
        assert "forward" not in vars(other.model.layers[0].mlp)
        assert mlp.forward is own


def test_swiglu_in_place_refuses_a_second_way_back():
    gate, up = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    result = SwiGlu.apply(gate * 1, up * 1).sum()
    result.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("part", [shorter_norms, turned_in_place])
def test_shorter_passes_have_the_states_and_gradients_of_the_models_own(part, recomputed):
    model, ids = grouped().train(), torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    if recomputed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for name, weight in model.named_parameters():
        if "norm" in name:  # frozen, and not all ones
            weight.requires_grad_(False).copy_(torch.linspace(0.5, 2, len(weight)))
    found, own = [], modeling_llama.apply_rotary_pos_emb
    for ours in (False, True):
        model.zero_grad()
        with part(model) if ours else nullcontext():
            norms = sum("forward" in vars(module) for module in model.modules())
            assert norms == (5 if ours and part is shorter_norms else 0)
            assert (modeling_llama.apply_rotary_pos_emb is not own) == (ours and part is turned_in_place)
            loss = model(ids, labels=ids).loss
            loss.backward()
        trained = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
        found.append((loss.detach(), trained))
    assert modeling_llama.apply_rotary_pos_emb is own and not any("forward" in vars(m) for m in model.modules())
    assert_alike(*found)


def test_shorter_passes_are_taken_in_float32_only():
    model, ids = grouped().requires_grad_(False).bfloat16(), torch.tensor([[5, 6, 7, 8]])
    plain = model(ids).logits
    with shorter_norms(model), turned_in_place(model):
        assert torch.equal(model(ids).logits, plain)


def test_a_norm_that_is_given_a_gate_is_the_models_own(monkeypatch):
    own = modeling_llama.LlamaRMSNorm.forward
    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", lambda norm, x, gate=1: own(norm, x) * gate)
    model, x = grouped().requires_grad_(False), torch.linspace(-1, 1, 32)[None]
    with shorter_norms(model):
        norm = model.model.norm
        assert "forward" in vars(norm) and torch.allclose(norm(x, 3), 3 * norm(x))


def test_norms_are_left_alone_where_they_are_trained_or_something_else(monkeypatch):
    with shorter_norms(trained := grouped()):
        assert not any("forward" in vars(module) for module in trained.modules())
    own = modeling_llama.LlamaRMSNorm.forward
    # as Gemma's, which add one to their weights (here ones)
    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", lambda norm, x: own(norm, x) * 2)
    with shorter_norms(other := grouped().requires_grad_(False)):
        assert not any("forward" in vars(module) for module in other.modules())


def test_rotary_positions_are_left_alone_where_they_are_turned_otherwise(monkeypatch):
    def pairs_of_neighbours(query, key, cos, sin, unsqueeze_dim=1):
        turned = [torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2) for x in (query, key)]
        return [x * cos[:, None] + y * sin[:, None] for x, y in zip((query, key), turned, strict=True)]

    def of_another_device(query, key, cos, sin):
        raise ValueError("Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)")

    for own in (pairs_of_neighbours, of_another_device, lambda only_one: only_one):
        monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", own)
        with turned_in_place(grouped()):
            assert modeling_llama.apply_rotary_pos_emb is own


def test_rotary_positions_of_a_part_of_each_head_are_the_models_own(monkeypatch):
    whole = modeling_llama.apply_rotary_pos_emb

    def of_a_part(query, key, cos, sin):
        size = cos.shape[-1]
        turned = whole(query[..., :size], key[..., :size], cos, sin)
        return [torch.cat((x, y[..., size:]), -1) for x, y in zip(turned, (query, key), strict=True)]

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", of_a_part)
    query, angles = torch.linspace(-1, 1, 40).view(1, 1, 5, 8), torch.linspace(0, 6, 10).view(1, 5, 2).repeat(1, 1, 2)
    expected = of_a_part(query, query, angles.cos(), angles.sin())
    with turned_in_place(grouped()):
        assert modeling_llama.apply_rotary_pos_emb is not of_a_part
        found = modeling_llama.apply_rotary_pos_emb(query, query, angles.cos(), angles.sin())
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
